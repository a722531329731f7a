"""`mcis show --why`: which field of a recipe keeps a stage from being cached."""

import json
import re
from dataclasses import replace

import pytest
from tiny_chain import options

from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import declaration
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.store import notes

STAGES = ("train-cls", "cams", "pseudo", "train-seg", "eval")


@pytest.mark.parametrize("stage", [*STAGES, "dataset"])
def test_nothing_differs_where_everything_is_done(call, chain_copy, stage):
    answer = call("show", "--why", stage, cwd=chain_copy.folder)
    assert (answer.code, answer.lines, answer.err) == (0, ["nothing differs: the stage is cached"], "")


@pytest.mark.parametrize("named", [lambda a: a.id[:8], lambda a: a.key[:8], lambda a: a.key, lambda a: a.path])
def test_settings_that_differ_have_a_line_each(call, chain, named):
    made = chain.made["cams"]
    answer = call("show", "--why", named(made), "--set", "cams.refs=5", "--set", "cams.flip=true", cwd=chain.folder)
    assert answer.code == 0
    assert answer.lines == ["config.flip: false, now true", "config.refs: 2, now 5"]
    assert answer.err == f"mcis: {made.path.stem}, compared with the settings in {chain.folder / 'mcis.toml'}\n"


def test_settings_that_come_with_another_have_none(call, chain_copy):
    answer = call("show", "--why", "pseudo", "--set", "pseudo.background=power", cwd=chain_copy.folder)
    assert answer.lines[0] == "config.background: saliency, now power"
    assert not [line for line in answer.lines if "threshold" in line]


@pytest.mark.slow
@pytest.mark.parametrize("refs", [(0, 3), (3, 0)])
def test_what_has_no_effect_without_references_has_none_either(call, chain_copy, one_thread, refs):
    before, after = refs
    config = chain_copy.settings(cams={"refs": before, "reference_choice": "nearest"}).cams
    inputs = Inputs(upstream=chain_copy.made["train-cls"], data=chain_copy.data)
    made = cams.run(config, inputs, chain_copy.store, options())
    values = ("--set", f"cams.refs={after}", "--set", "cams.reference_choice=nearest")
    answer = call("show", "--why", made.id, *values, cwd=chain_copy.folder)
    told = [line for line in answer.lines if line.startswith("config")]
    assert told == [f"config.refs: {before}, now {after}"]


def test_a_stage_whose_input_has_yet_to_be_made_says_so(call, chain_copy):
    answer = call("show", "--why", "pseudo", "--set", "cams.refs=5", cwd=chain_copy.folder)
    maps = chain_copy.made["cams"].path.stem
    (line,) = answer.lines
    assert re.sub(r" \([0-9a-f]{8}\)", "", line) == (
        f"inputs.maps: {maps}, now the result of `mcis cams`, not made yet; why: mcis show --why cams"
    )
    answer = call("show", "--why", "eval", "--set", "train-cls.epochs=9", cwd=chain_copy.folder)
    assert re.search(
        r"now the result of `mcis train-seg`, not made yet \(\w{8}\); why: mcis show --why train-cls$", answer.out
    )


@pytest.mark.slow
def test_an_input_that_is_another_is_named(call, chain_copy, one_thread):
    settings = chain_copy.settings(train_cls={"seed": 1}).train_cls
    other = train_cls.run(settings, Inputs(data=chain_copy.data), chain_copy.store, options())
    answer = call("show", "--why", chain_copy.made["cams"].id, "--set", "train-cls.seed=1", cwd=chain_copy.folder)
    assert answer.lines == [f"inputs.classifier: {chain_copy.made['train-cls'].path.stem}, now {other.path.stem}"]


def test_an_input_that_is_gone_leaves_nothing_to_compare_but_that(call, chain_copy):
    chain_copy.made["cams"].path.unlink()
    gone = chain_copy.made["cams"].id[:12]
    answer = call("show", "--why", "pseudo", cwd=chain_copy.folder)
    (line,) = answer.lines
    assert line.startswith(f"inputs.maps: {gone}, now the result of `mcis cams`, not made yet (")
    assert line.endswith("; why: mcis show --why cams")
    answer = call("show", "--why", "cams", cwd=chain_copy.folder)
    assert answer.lines == ["nothing differs; the stage runs again when its artifact is needed"]


def test_images_and_tags_are_counted(call, chain_copy):
    images = sorted((chain_copy.folder / "shapes/JPEGImages").glob("train-*"))
    images[0].write_bytes(images[1].read_bytes())
    tags = chain_copy.folder / "shapes/image_tags.txt"
    lines = tags.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"{images[2].stem} "))
    lines[place] = f"{images[2].stem} {'disc' if lines[place].split()[1:] != ['disc'] else 'star'}"
    lists = chain_copy.folder / "shapes/ImageSets/Segmentation/train.txt"
    lists.write_text("".join(f"{path.stem}\n" for path in images[:-1]))
    tags.write_text("\n".join(lines) + "\n")
    answer = call("show", "--why", "train-cls", cwd=chain_copy.folder)
    assert answer.lines == ["inputs.images: other images or tags: 1 removed, 2 changed"]
    answer = call("show", "--why", "pseudo", cwd=chain_copy.folder)
    assert "inputs.images: other images: 1 removed, 1 changed" in answer.lines


def test_maps_of_saliency_and_ground_truth_are_counted(call, chain_copy):
    next((chain_copy.folder / "shapes/saliency").glob("train-*")).unlink()
    mask = sorted((chain_copy.folder / "shapes/SegmentationClass").glob("val-*"))
    mask[0].write_bytes(mask[1].read_bytes())
    answer = call("show", "--why", "pseudo", cwd=chain_copy.folder)
    assert answer.lines == ["inputs.saliency: other saliency maps: 1 changed"]
    answer = call("show", "--why", "eval", cwd=chain_copy.folder)
    assert answer.lines[1:] == ["inputs.masks: other masks: 1 changed"]


def test_without_the_list_of_then_images_are_just_others(call, chain_copy):
    for path in (chain_copy.store.root / "artifacts").glob("dataset-*"):
        path.unlink()
    images = sorted((chain_copy.folder / "shapes/JPEGImages").glob("train-*"))
    images[0].write_bytes(images[1].read_bytes())
    assert call("show", "--why", "train-cls", cwd=chain_copy.folder).lines == ["inputs.images: other images or tags"]


def test_classes_that_are_others_are_said_to_be(call, chain_copy):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    tags.write_text(tags.read_text().replace("disc", "dot"))
    names = chain_copy.folder / "shapes/classes.txt"
    names.write_text(names.read_text().replace("disc", "dot"))
    answer = call("show", "--why", "train-cls", cwd=chain_copy.folder)
    assert answer.lines == ["inputs.images: other images or tags: other classes"]


def test_scores_of_maps_are_compared_with_scores_of_maps(call, chain_copy):
    on_maps = evaluate.run(
        chain_copy.settings().eval, Inputs(upstream=chain_copy.made["cams"]), chain_copy.store, options()
    )
    answer = call("show", "--why", on_maps.id, cwd=chain_copy.folder)
    assert answer.lines == ["nothing differs: the stage is cached"]
    answer = call("show", "--why", on_maps.id, "--set", "eval.normalization=max", cwd=chain_copy.folder)
    assert answer.lines == ["config.normalization: minmax, now max"]


def test_another_version_of_a_stage_is_named(call, chain_copy, monkeypatch):
    now = declaration.PSEUDO.version
    monkeypatch.setattr(declaration, "PSEUDO", replace(declaration.PSEUDO, version=now + 1))
    assert call("show", "--why", "pseudo", cwd=chain_copy.folder).lines == [f"version: {now}, now {now + 1}"]


def test_all_of_it_as_one_object(call, chain_copy):
    made = chain_copy.made["cams"]
    answer = call("show", "--why", "cams", "--set", "cams.refs=5", "--json", cwd=chain_copy.folder)
    assert json.loads(answer.out) == {
        "stage": "cams",
        "key": made.key,
        "artifact": made.path.stem,
        "differences": [{"field": "config.refs", "then": 2, "now": 5}],
    }


def test_work_that_was_begun_is_compared_by_its_key(call, chain_copy):
    done = next(done for done in chain_copy.store.all_done() if done.recipe.stage == "pseudo")
    other = notes.parse_recipe({**done.recipe.as_dict(), "config": {**done.recipe.config, "min_foreground": 0.5}})
    with chain_copy.store.begin(other) as partial:
        partial.log({"step": 1})
        answer = call("show", "--why", other.key[:12], cwd=chain_copy.folder)
    assert answer.lines == ["config.min_foreground: 0.5, now 0.01"]
    assert answer.err.startswith(f"mcis: pseudo of key {other.key[:12]}, which was begun, compared with ")


@pytest.mark.parametrize("ref", ["deadbeef", "nothing", "predict"])
def test_what_was_never_done_cannot_be_compared(call, chain, ref):
    answer = call("show", "--why", ref, cwd=chain.folder)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.count("\n") == 1


def test_a_stage_of_which_nothing_was_done_is_named(call, chain_copy):
    for path in (chain_copy.store.root / "keys/eval").iterdir():
        path.unlink()
    answer = call("show", "--why", "eval", cwd=chain_copy.folder)
    assert answer.code == 3
    assert "no artifact of eval to compare with" in answer.err


def test_flags_for_the_comparison_want_one(call, chain):
    answer = call("show", chain.made["cams"].id, "--set", "cams.refs=5", cwd=chain.folder)
    assert answer.code == 2
    assert "have an effect only with --why" in answer.err
