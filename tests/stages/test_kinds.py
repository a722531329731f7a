"""Artifacts that say, or hold, what their stage never writes: refused before anything is built for them."""

from dataclasses import fields

import numpy as np
import pytest
import recipes
from store_makers import make_store

from mcis_cli.config import TrainClsConfig
from mcis_cli.errors import DamagedError
from mcis_cli.stages import check, read_record, read_records, stages
from mcis_cli.stages.engine.networks import build_classifier, describe_classifier
from mcis_cli.stages.stage import SCORED, Content
from mcis_cli.store import Recipe

HEX = "ab" * 32
OF_IMAGES = {"dataset": HEX, "split": "train", "class_names": ["cat", "dog"], "initialisation": "x.pth"}
CLASSIFIER = {
    "backbone": "lite0",
    "output_stride": 16,
    "heads": "shared",
    "affinity_init": "uniform",
    "num_foreground": 2,
}
SEGMENTER = {
    "network": "deeplab-largefov",
    "backbone": "lite0",
    "output_stride": 16,
    "head_channels": 16,
    "head_dilation": 6,
    "num_classes": 3,
}
METAS = {
    "dataset": {"class_names": ["cat"]},
    "train-cls": {**OF_IMAGES, "model": CLASSIFIER, "image_size": 64},
    "cams": OF_IMAGES,
    "pseudo": OF_IMAGES,
    "train-seg": {**OF_IMAGES, "model": SEGMENTER, "supervision": "pseudo"},
    "eval": {**OF_IMAGES, "subject": "cams", "supervision": "pseudo", "settings": {"thresholds": [0.5]}},
    "saliency": {},
    "weights": {"backbone": "lite0", "source": "x.pth"},
}
TENSORS = {"head.3.weight": np.zeros((16, 16, 1, 1), np.float32)}


def sealed(folder, stage, meta=None, record=None, schema=None, tensors=None):
    of = Recipe(stage, 1, {}, {})
    with make_store(folder).begin(of) as partial:
        if recipes.SCHEMAS[stage] is None and schema is None:
            return partial.seal_tensors(TENSORS if tensors is None else tensors, METAS[stage] | (meta or {}), {})
        schema = schema or recipes.SCHEMAS[stage]
        partial.write_segment(0, schema, [] if record is None else [("a", record)])
        return partial.seal(schema, 1, METAS[stage] | (meta or {}), {})


@pytest.mark.parametrize("stage", METAS)
def test_what_a_stage_writes_passes(tmp_path, stage):
    check(sealed(tmp_path, stage))


def test_what_the_chain_made_passes(chain):
    for artifact in chain.made.values():
        check(artifact)
        assert [image_id for image_id, _ in read_records(artifact)] == list(artifact.ids)


@pytest.mark.parametrize(
    ("stage", "meta", "found"),
    [
        ("cams", {"class_names": "cat"}, "its meta has 'cat' at class_names"),
        ("cams", {"class_names": []}, r"its meta has \[\] at class_names"),
        ("cams", {"class_names": ["x"] * 255}, "at class_names"),
        ("cams", {"class_names": [1]}, "its meta has 1 at class_names.0"),
        ("cams", {"dataset": "../../x"}, "at dataset"),
        ("cams", {"split": None}, "its meta has None at split"),
        ("pseudo", {"initialisation": ["x"]}, "at initialisation"),
        ("train-cls", {"model": {}}, "at model.backbone"),
        ("train-cls", {"model": {**CLASSIFIER, "backbone": "vgg99"}}, "at model.backbone"),
        ("train-cls", {"model": {**CLASSIFIER, "backbone": "timm:hf_hub:someone/network"}}, "at model.backbone"),
        ("train-cls", {"model": {**CLASSIFIER, "backbone": "timm:local-dir:/etc"}}, "at model.backbone"),
        ("train-cls", {"model": {**CLASSIFIER, "backbone": "timm:resnet19"}}, "'timm:resnet19', .* this timm lists"),
        (
            "train-seg",
            {"model": {**SEGMENTER, "backbone": "timm:resnet18.mine"}},
            "'timm:resnet18.mine', expected a ne",
        ),
        ("weights", {"backbone": "timm:resnet18.mine"}, "its backbone is 'timm:resnet18.mine'"),
        ("train-cls", {"model": {**CLASSIFIER, "num_foreground": 10**9}}, "its network has 1000000000 classes"),
        ("train-cls", {"image_size": 10**9}, "at image_size"),
        ("train-seg", {"model": {**SEGMENTER, "num_classes": 10**9}}, "its network has 1000000000 classes"),
        ("train-seg", {"model": {**SEGMENTER, "head_channels": 10**9}}, "its head has 1000000000 channels"),
        ("train-seg", {"model": {**SEGMENTER, "head_dilation": 10**9}}, "at model.head_dilation"),
        ("eval", {"settings": {}}, "its meta lacks settings, expected thresholds"),
        ("eval", {"settings": {"thresholds": [0.1] * 256}}, "at settings.thresholds"),
        ("eval", {"subject": "train-seg"}, "its meta lacks settings, expected crf, flip, scales"),
        ("weights", {"backbone": 1}, "at backbone"),
    ],
)
def test_a_meta_that_its_stage_never_writes_is_refused(tmp_path, stage, meta, found):
    with pytest.raises(DamagedError, match=found):
        check(sealed(tmp_path, stage, meta))


def test_other_fields_are_refused(tmp_path):
    with pytest.raises(DamagedError, match="its records have other fields, expected those of cams"):
        check(sealed(tmp_path, "cams", schema={"maps": ("float32", 3)}))
    with pytest.raises(DamagedError, match="its records have other fields, expected those of weights"):
        check(sealed(tmp_path, "weights", schema={"maps": ("float32", 3)}))


def maps(count=1, classes=(0,), value=0.5, side=2):
    return {
        "maps": np.full((count, side, side), value, np.float16),
        "classes": np.array(classes, np.int32),
        "references": np.zeros(2, np.uint8),
    }


@pytest.mark.parametrize(
    ("stage", "record", "found"),
    [
        ("cams", maps(2), r"maps of the shape \(2, 2, 2\) for 1 classes"),
        ("cams", maps(side=0), r"maps of the shape \(1, 0, 0\) for 1 classes"),
        ("cams", maps(classes=(2,)), "classes that are unknown or repeated"),
        ("cams", maps(classes=(-1,)), "classes that are unknown or repeated"),
        ("cams", maps(2, (1, 1)), "classes that are unknown or repeated"),
        ("cams", maps(value=np.nan), "values that are not finite"),
        (
            "pseudo",
            {"mask": np.full((2, 3), 3, np.uint8), "classes": np.zeros(1, np.int32)},
            "a value that is no class",
        ),
        (
            "pseudo",
            {"mask": np.zeros((2, 3), np.uint8), "classes": np.array([7], np.int32)},
            "classes that are unknown or repeated",
        ),
        ("eval", {"counts": np.zeros((1, 3), np.int64)}, r"counts of the shape \(1, 3\)"),
        ("eval", {"counts": np.array([[2, 0, 0, 1]])}, "counts out of range"),
        ("eval", {"counts": np.array([[0, 256, 0, 1]])}, "counts out of range"),
        ("eval", {"counts": np.array([[0, 0, 0, -1]])}, "counts out of range"),
    ],
)
def test_values_that_a_stage_never_writes_are_refused(tmp_path, stage, record, found):
    artifact = sealed(tmp_path, stage, record=record)
    with pytest.raises(DamagedError, match=rf"{found}.* in the record of 'a', expected what {stage} writes"):
        read_record(artifact, "a")
    with pytest.raises(DamagedError, match=found):
        list(read_records(artifact))


@pytest.mark.parametrize("scale", [0, -1.0, 1e5, "45"])
def test_a_scale_of_affinities_that_no_training_writes_is_refused(tmp_path, scale):
    artifact = sealed(tmp_path, "train-cls", {"model": {**CLASSIFIER, "affinity_scale": scale}})
    with pytest.raises(DamagedError):
        check(artifact)


def test_a_classifier_is_built_with_the_scale_that_its_artifact_says():
    config = TrainClsConfig(backbone="lite0", output_stride=16, affinity_scale=30)
    described = describe_classifier(config, 2)
    assert build_classifier(described).co_attention.affinity_scale == 30
    assert build_classifier(CLASSIFIER).co_attention.affinity_scale is None


def test_each_stage_that_is_scored_declares_how_its_scores_were_measured():
    silent = next(part.default for part in fields(Content) if part.name == "measured")
    declared = {stage.content.kind for stage in stages().values() if stage.content.measured is not silent}
    assert declared == {*SCORED}
    assert all(stage.content.measured is not silent for stage in stages().values() if stage.content.kind in SCORED)
