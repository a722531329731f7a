"""Settings: defaults, presets, the file, `--set`, and what each mistake is answered with."""

import copy
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcis_cli.config import (
    PRESETS,
    SECTIONS,
    EvalConfig,
    RunOptions,
    Settings,
    Silent,
    TrainClsConfig,
    merge,
    parse_assignment,
    read_toml,
    resolve,
)
from mcis_cli.errors import UsageError
from mcis_cli.training.initial_weights import PACKAGED

tables = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


def test_settings_alone_are_those_of_the_paper():
    settings = Settings()
    classifier = settings.train_cls
    assert (classifier.backbone, classifier.output_stride, classifier.image_size) == ("vgg16", 8, 256)
    assert (classifier.lr, classifier.weight_decay, classifier.momentum) == (1e-3, 2e-4, 0.9)
    assert (classifier.batch_pairs, classifier.lr_milestones, classifier.lr_gamma) == (5, (6, 12), 0.1)
    assert (classifier.loss, classifier.heads, classifier.contrastive_from_epoch) == ("full", "shared", 1)
    assert settings.cams.refs == 3
    assert settings.pseudo.salient_threshold == 32 / 255
    segmenter = settings.train_seg
    assert (segmenter.crop, segmenter.iterations, segmenter.batch_size) == (321, 16_000, 10)
    assert (segmenter.lr, segmenter.head_lr, segmenter.scales) == (1e-3, 10, (0.7, 1.3))


def test_what_names_no_preset_has_best():
    given = {"train-cls": {"epochs": 9}}
    assert resolve({}) == resolve({}, "best")
    assert resolve(given) == resolve(given, "best") == resolve({"preset": "best", **given})


def test_the_default_preset_needs_no_download():
    settings = resolve({})
    assert {settings.train_cls.backbone, settings.affinity.backbone, settings.train_seg.backbone} <= set(PACKAGED)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset):
    assert isinstance(resolve({}, preset), Settings)


@pytest.mark.parametrize("preset", PRESETS)
def test_maps_of_every_preset_are_on_the_grid_of_their_image_size(preset):
    """Which is that of the first scale, whatever the others are."""
    assert resolve({}, preset).cams.scales[0] == 1.0


def test_a_flag_goes_over_the_file_and_the_file_over_the_preset():
    file = {"preset": "quick", "train-cls": {"epochs": 9}}
    assert resolve(file).train_cls.backbone == "lite0"
    assert resolve(file).train_cls.epochs == 9
    assert resolve(file, "paper").train_cls.backbone == "vgg16"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train-cls": {"epoch": 3}}, r"setting train-cls\.epoch is not known; did you mean epochs\?"),
        ({"train-cls": {"image-size": 3}}, r"train-cls\.image-size is not known; did you mean image_size\?"),
        ({"train_cls": {}}, r"setting train_cls is not known; did you mean train-cls\?"),
        ({"eval": {"crf_settings": {"steps": 1}}}, r"eval\.crf_settings\.steps is not known; known there: iterations"),
        ({"pseudos": {}}, r"setting pseudos is not known; did you mean pseudo\?"),
        ({"nothing": 1}, r"setting nothing is not known; known there: preset, data, train-cls"),
    ],
)
def test_an_unknown_setting_is_refused_with_a_suggestion(tables, message):
    with pytest.raises(UsageError, match=message):
        resolve(tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train-cls": {"epochs": 0}}, r"train-cls\.epochs = 0 is not accepted: expected greater than or equal to 1"),
        (
            {"train-cls": {"backbone": "vgg"}},
            r"train-cls\.backbone = 'vgg' is not accepted: expected vgg16, .* or timm:NAME with a name",
        ),
        ({"train-cls": 3}, r"train-cls = 3 is not accepted"),
        ({"pseudo": {"foreground_threshold": 30}}, r"pseudo\.foreground_threshold = 30 is not accepted"),
        ({"cams": {"scales": []}}, r"cams\.scales = \[\] is not accepted"),
        ({"cams": {"refs": -1}}, r"cams\.refs = -1 is not accepted"),
        ({"data": {"root": 3}}, r"data\.root = 3 is not accepted"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(tables, message):
    with pytest.raises(UsageError, match=message):
        resolve(tables)


WRONG_TYPES = [
    "train-cls.epochs=true",
    'train-cls.epochs="3"',
    "train-cls.epochs=3.0",
    "train-cls.lr=true",
    'train-cls.lr="0.1"',
    "train-cls.lr=inf",
    "train-cls.lr=nan",
    "train-cls.mirror=1",
    'train-cls.mirror="true"',
    "train-cls.output_stride=true",
    "train-cls.lr_milestones=[true]",
    "train-cls.lr_milestones=[0]",
    "train-cls.lr_milestones=3",
    "train-cls.color_jitter=[0.1, 0.1, 0.1]",
    "train-cls.color_jitter=[0.1, 0.1, 0.1, true]",
    "train-cls.color_jitter=[-1, 0, 0, 0]",
    "train-cls.seed=9223372036854775808",
    "cams.scales=[true]",
    'cams.scales=["1"]',
    "cams.refs=false",
    "train-seg.scales=[0, 1]",
    "train-seg.scales=[1.3, 0.7]",
    "data.train=3",
    "data.classes=[3]",
    "data.classes=cat",
    "eval.crf=0",
    "eval.crf_settings.iterations=1.5",
    "eval.crf_settings=3",
    "eval.window=1979-05-27",
]


@pytest.mark.parametrize("assignment", WRONG_TYPES)
def test_no_type_is_taken_for_another_in_a_flag_or_in_a_file(assignment, tmp_path):
    section, _, rest = assignment.partition(".")
    name = section + "." + rest.partition("=")[0]
    with pytest.raises(UsageError, match=rf"^{name}.* is not accepted: expected "):
        resolve(parse_assignment(assignment))
    quoted = rest.replace("cat", '"cat"')
    (tmp_path / "mcis.toml").write_text(f"[{section}]\n{quoted}\n")
    with pytest.raises(UsageError, match=rf"^{name}.* is not accepted: expected "):
        resolve(read_toml(tmp_path / "mcis.toml"))


@pytest.mark.parametrize(
    ("assignment", "value"),
    [("train-cls.lr=1", 1.0), ("train-cls.momentum=0", 0.0), ("train-cls.new_layer_lr=10", 10.0)],
)
def test_an_integer_is_a_number_too(assignment, value):
    found = getattr(resolve(parse_assignment(assignment)).train_cls, assignment.partition("=")[0].split(".")[1])
    assert (found, type(found)) == (value, float)


def test_a_long_value_is_cut_in_a_message():
    with pytest.raises(UsageError, match=r"is not accepted") as refused:
        resolve({"train-cls": {"epochs": "3" * 100_000}})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("preset", ["fast", ["quick"], 3])
def test_an_unknown_preset_is_refused(preset):
    with pytest.raises(UsageError, match=r"preset .* is not known: expected one of paper, released, quick"):
        resolve({"preset": preset})


@pytest.mark.parametrize("thresholds", [[0.5, 0.3], [0.3, 0.3], [], [0.5, 1.5], [-0.1]])
def test_thresholds_of_the_sweep_have_to_ascend_within_0_and_1(thresholds):
    with pytest.raises(UsageError, match=r"eval\.thresholds"):
        resolve({"eval": {"thresholds": thresholds}})
    assert resolve({"eval": {"thresholds": [0.3]}}).eval.thresholds == (0.3,)


@given(tables, tables)
def test_merging_takes_the_values_of_the_second_and_changes_neither(base, over):
    before = copy.deepcopy((base, over))
    merged = merge(base, over)
    assert (base, over) == before
    assert merged.keys() == base.keys() | over.keys()
    assert merge(merged, over) == merged
    for key, value in over.items():
        if not isinstance(value, dict) or not isinstance(base.get(key), dict):
            assert merged[key] == value


def test_merging_keeps_what_the_second_does_not_name():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train-cls.lr=0.01", {"train-cls": {"lr": 0.01}}),
        ("cams.scales=[0.5, 1]", {"cams": {"scales": [0.5, 1]}}),
        ("cams.flip=true", {"cams": {"flip": True}}),
        ("data.train=train_small", {"data": {"train": "train_small"}}),
        ("data.tags=a=b.txt", {"data": {"tags": "a=b.txt"}}),
        (" eval.crf_settings.iterations = 1", {"eval": {"crf_settings": {"iterations": 1}}}),
        ("data.root=", {"data": {"root": ""}}),
    ],
)
def test_an_assignment_is_toml_or_else_a_string(text, tables):
    assert parse_assignment(text) == tables


@pytest.mark.parametrize("text", ["epochs=3", "train-cls.epochs", "train-cls.=3", ".epochs=3", "=", ""])
def test_an_assignment_without_section_or_value_is_refused(text):
    with pytest.raises(UsageError, match=r"--set .* is not understood: expected section\.field=value"):
        parse_assignment(text)


def test_a_configuration_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"mcis\.toml cannot be read: No such file.*--config"):
        read_toml(tmp_path / "mcis.toml")


@pytest.mark.parametrize("content", [b"preset = ", b"\xff\xfe", b"[data]\n[data]\n"])
def test_a_configuration_file_that_is_no_toml_is_refused(tmp_path, content):
    file = tmp_path / "mcis.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"mcis\.toml is not valid TOML: .*`mcis init`"):
        read_toml(file)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        TrainClsConfig().lr = 3


def test_run_options_and_settings_have_no_name_in_common():
    names = {name for section in SECTIONS.values() for name in section.model_fields}
    assert not names & {option.name for option in fields(RunOptions)}


def test_every_section_is_a_field_of_the_settings():
    assert set(SECTIONS) == {field.alias or name for name, field in Settings.model_fields.items()}


def test_settings_survive_their_json():
    settings = resolve({}, "released").eval
    assert EvalConfig.model_validate(settings.model_dump(mode="json")) == settings


def test_the_silent_reporter_takes_everything():
    reporter = Silent()
    reporter.start("cams", 3, done=1)
    reporter.advance(2, total=0.1)
    reporter.note("")
    reporter.warn("")
