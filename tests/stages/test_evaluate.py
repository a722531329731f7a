"""Evaluation of maps, masks and networks, each against a loop over pixels of what the artifact holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from released_maps import resized
from thresholded_maps import mask_over
from tiny_chain import CLASSES, Heard, done, options

from mcis_cli.config import EvalConfig
from mcis_cli.data.augment import normalise as normalise_photograph
from mcis_cli.data.palette import write_mask_png
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.maps.crf import crf_on_present, dense_crf
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.engine.predictor import load_segmenter
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.store import open_store

NAMES = ("background", *CLASSES)


def score(chain, subject, *, run=None, store=None, **config):
    inputs = Inputs(upstream=chain.made[subject], data=chain.data)
    return evaluate.run(chain.settings(eval=config).eval, inputs, store or chain.store, run or options())


def iou_by_class(pairs):
    """IoU over (prediction, target) pairs, one confusion matrix for all of them; 255 in a prediction is a miss."""
    found = {}
    for k, name in enumerate(NAMES):
        intersection = sum(int(((p == k) & (t == k)).sum()) for p, t in pairs)
        union = sum(int((((p == k) | (t == k)) & (t != 255)).sum()) for p, t in pairs)
        found[name] = intersection / union if union else None
    return found


def mean(iou):
    return np.mean([value for value in iou.values() if value is not None])


def masks_at(chain, image_id, threshold, normalization="minmax"):
    fields, entry = chain.made["cams"].read(image_id), chain.images()[image_id]
    maps = normalise(enlarge(fields["maps"].astype(np.float32), entry.height, entry.width), normalization)
    return mask_over(maps, fields["classes"], np.float32(threshold))


@pytest.mark.parametrize("normalization", ["minmax", "max"])
def test_maps_are_scored_at_every_threshold(chain, normalization):
    thresholds = [0.1, 0.25, 0.5, 0.8]
    artifact = score(chain, "cams", thresholds=thresholds, normalization=normalization)
    found = evaluate.metrics(artifact)
    images = chain.images()
    expected = []
    for threshold in thresholds:
        pairs = [(masks_at(chain, i, threshold, normalization), images.read_mask(i)) for i in artifact.ids]
        expected.append(iou_by_class(pairs))
    assert [at["threshold"] for at in found["sweep"]] == thresholds
    assert [at["mean_iou"] for at in found["sweep"]] == pytest.approx([mean(iou) for iou in expected])
    best = int(np.argmax([mean(iou) for iou in expected]))
    assert found["threshold"] == thresholds[best]
    assert found["mean_iou"] == pytest.approx(mean(expected[best]))
    assert found["iou"] == pytest.approx(expected[best])
    assert found["threshold_chosen_with_ground_truth"] is True
    assert (found["subject"], found["split"], found["num_images"]) == ("cams", "train", 16)


def test_a_single_threshold_was_not_chosen(chain):
    found = evaluate.metrics(score(chain, "cams", thresholds=[0.3]))
    assert found["threshold"] == 0.3
    assert found["threshold_chosen_with_ground_truth"] is False


def test_pseudo_masks_are_scored_with_ignored_pixels_as_misses(chain):
    artifact = score(chain, "pseudo")
    found = evaluate.metrics(artifact)
    images = chain.images()
    pairs = [(fields["mask"], images.read_mask(i)) for i, fields in chain.made["pseudo"].records()]
    assert any((mask == 255).any() for mask, _ in pairs)
    expected = iou_by_class(pairs)
    assert found["iou"] == pytest.approx(expected)
    assert found["mean_iou"] == pytest.approx(mean(expected))
    covered = [(mask, np.where(mask == 255, 255, target)) for mask, target in pairs]
    assert found["mean_iou_covered"] == pytest.approx(mean(iou_by_class(covered)))
    counted = sum(int((target != 255).sum()) for _, target in pairs)
    assert found["coverage"] == pytest.approx(
        sum(int(((target != 255) & (mask != 255)).sum()) for mask, target in pairs) / counted
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"flip": True, "scales": [0.75, 1.0]},
        {"crf": True},
        {"crf": True, "crf_labels": "present", "crf_settings": {"iterations": 2}},
        {"window": 40},
    ],
    ids=str,
)
def test_a_network_is_scored_on_the_validation_images(chain, config):
    artifact = score(chain, "train-seg", **config)
    found = evaluate.metrics(artifact)
    images = chain.images()
    assert artifact.ids == images.split("val").ids
    settings = EvalConfig(**config)
    segmenter = load_segmenter(
        chain.made["train-seg"],
        scales=settings.scales,
        flip=settings.flip,
        window=settings.window,
        device=torch.device("cpu"),
        precision="fp32",
    )
    pairs = []
    for image_id in artifact.ids:
        image = images.read_image(image_id)
        probabilities = segmenter.probabilities(image)
        if settings.crf:
            refine = crf_on_present if settings.crf_labels == "present" else dense_crf
            probabilities = refine(image, probabilities, **settings.crf_settings.model_dump())
        pairs.append((probabilities.argmax(0), images.read_mask(image_id)))
    assert found["iou"] == pytest.approx(iou_by_class(pairs))
    assert found["crf"] == settings.crf
    assert ("mean_iou_before_crf" in found) == settings.crf
    if settings.crf:
        plain = evaluate.metrics(score(chain, "train-seg", **{**config, "crf": False}))
        assert found["mean_iou_before_crf"] == plain["mean_iou"]
    assert found["scales"] == list(settings.scales)
    assert (found["subject"], found["split"], found["supervision"]) == ("train-seg", "val", "pseudo")
    assert found["initialisation"].startswith("efficientnet-lite0")


@pytest.mark.slow
def test_a_class_that_is_nowhere_has_no_score_and_is_left_out_of_the_mean(chain_copy):
    shapes = chain_copy.folder / "shapes"
    for image_id in chain_copy.images().ids:
        mask = chain_copy.images().read_mask(image_id)
        (shapes / f"SegmentationClass/{image_id}.png").write_bytes(
            write_mask_png(np.where(mask == 3, 0, mask).astype(np.uint8))
        )
    found = evaluate.metrics(score(chain_copy, "train-seg"))
    predicted_square = found["iou"]["square"] is not None
    expected = [value for value in found["iou"].values() if value is not None]
    assert found["mean_iou"] == pytest.approx(np.mean(expected))
    assert predicted_square or len(expected) == 3


def test_a_second_run_finds_the_artifact_and_computes_nothing(chain):
    heard, before = Heard(), done(chain.store, "eval")
    assert score(chain, "train-seg", run=options(reporter=heard)).path == chain.made["eval"].path
    assert not heard.started
    assert done(chain.store, "eval") == before


def predictor(chain, **changes):
    given = {"scales": (1.0,), "flip": False, "window": 96, "precision": "fp32", "device": torch.device("cpu")}
    return load_segmenter(chain.made["train-seg"], **{**given, **changes})


def test_padding_shows_the_network_a_whole_window_with_the_mean_colour_beyond_the_photograph(chain):
    image = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    found = predictor(chain, pad=True).probabilities(image)
    model = predictor(chain).model
    padded = torch.zeros(1, 3, 96, 96)
    padded[0, :, :70, :80] = normalise_photograph(image, model.backbone.mean, model.backbone.std)
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(model(padded), size=(96, 96), mode="bilinear")
    np.testing.assert_allclose(found, logits.softmax(1)[0, :, :70, :80], atol=1e-5)


def test_bicubic_resampling_is_that_of_loops_over_positions(chain):
    image = np.random.default_rng(0).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    found = predictor(chain, scales=(0.75,), resampling="bicubic").probabilities(image)
    planes = [np.rint(np.clip(resized(image[:, :, c].astype(float), (45, 54)), 0, 255)) for c in range(3)]
    scores = predictor(chain).probabilities(np.stack(planes, axis=2).astype(np.uint8))
    expected = np.maximum([resized(plane.astype(float), (60, 72)) for plane in scores], 0)
    np.testing.assert_allclose(found, expected / expected.sum(axis=0), atol=1e-4)


@pytest.mark.slow
def test_the_split_can_be_chosen(chain):
    network = score(chain, "train-seg", split="trainval")
    assert network.ids == chain.images().ids
    assert evaluate.metrics(network)["split"] == "trainval"
    assert len(score(chain, "train-seg", split="train")) == 16
    assert score(chain, "pseudo", split="train").id == score(chain, "pseudo").id


def test_images_that_the_artifact_does_not_hold_cannot_be_scored(chain):
    with pytest.raises(DataError, match=r"pseudo-.* lacks 6 of 22 images of split 'trainval' \(val-0000, …\).*--split"):
        score(chain, "pseudo", split="trainval")


def test_images_without_ground_truth_cannot_be_scored(chain_copy):
    Path(chain_copy.folder / "shapes/SegmentationClass/val-0001.png").unlink()
    with pytest.raises(DataError, match=r"ground truth missing for 1 of 6 images of split 'val' \(val-0001, …\)"):
        score(chain_copy, "train-seg")


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["cams", "pseudo", "train-seg"])
def test_the_number_of_workers_changes_nothing(chain, tmp_path, subject):
    found = {score(chain, subject, store=open_store(tmp_path / str(n)), run=options(workers=n)).id for n in (0, 1, 3)}
    assert len(found) == 1


@pytest.mark.slow
def test_the_number_of_processes_of_the_crf_changes_nothing(chain, tmp_path):
    found = {
        score(chain, "train-seg", store=open_store(tmp_path / str(n)), run=options(workers=n), crf=True).id
        for n in (0, 2)
    }
    assert len(found) == 1


def test_ground_truth_of_other_content_is_scored_anew(chain_copy):
    before = evaluate.metrics(score(chain_copy, "train-seg"))
    target = chain_copy.folder / "shapes/SegmentationClass/val-0000.png"
    mask = chain_copy.images().read_mask("val-0000")
    target.write_bytes(write_mask_png(np.full_like(mask, 1)))
    assert evaluate.metrics(score(chain_copy, "train-seg"))["mean_iou"] != before["mean_iou"]


def test_a_classifier_and_nothing_cannot_be_scored(chain):
    with pytest.raises(
        UsageError, match="made by train-cls: expected an artifact of train-seg or pseudo or affinity or cams"
    ):
        score(chain, "train-cls")
    with pytest.raises(MissingError, match="run `mcis train-seg` first"):
        evaluate.run(EvalConfig(), Inputs(), chain.store, options())


def test_an_image_without_tags_is_background_at_every_threshold():
    target = np.array([[0, 1, 255]], dtype=np.uint8)
    fields = {"maps": np.zeros((0, 2, 2), np.float16), "classes": np.zeros(0, np.int32)}
    assert evaluate.count_maps(EvalConfig(), fields, target).tolist() == [[0, 0, 0, 1], [0, 1, 0, 1]]


def test_flags_for_networks_are_told_to_have_no_effect_on_maps_and_masks(call, chain):
    for stage, subject in (("cams", "localization maps"), ("pseudo", "pseudo masks")):
        answer = call("eval", chain.made[stage].path, "--crf", "--flip", "-q", cwd=chain.folder)
        assert answer.code == 0
        assert answer.err.splitlines() == [
            f"mcis: warning: --crf has no effect on scores of {subject}",
            f"mcis: warning: --flip has no effect on scores of {subject}",
        ]
    assert EvalConfig(crf=True).without_effect(("crf", "scales", "split"), subject="network") == {}


def test_settings_without_effect_on_scores_are_told_of_set_but_not_of_a_file(call, chain_copy):
    with (chain_copy.folder / "mcis.toml").open("a") as file:
        file.write("flip = true\nthresholds = [0.3]\n")  # its last section is [eval]
    network, masks = (chain_copy.made[stage].path for stage in ("train-seg", "pseudo"))
    answer = call(
        "eval", masks, "--set", "eval.crf=true", "--set", "eval.thresholds=[0.5]", "-q", cwd=chain_copy.folder
    )
    assert answer.err.splitlines() == [
        "mcis: warning: eval.crf has no effect on scores of pseudo masks",
        "mcis: warning: eval.thresholds has no effect on scores of pseudo masks",
    ]
    answer = call("eval", network, "--no-crf", "--set", "eval.crf_labels=present", "-q", cwd=chain_copy.folder)
    assert answer.err.splitlines() == ["mcis: warning: eval.crf_labels has no effect without --crf"]
