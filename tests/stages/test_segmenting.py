"""A network looking at photographs: scales, mirror and windows, against the plain forward."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mcis_cli.data.augment import normalise
from mcis_cli.errors import DamagedError
from mcis_cli.stages.engine.networks import backbone_of, build_segmenter, load_tensors
from mcis_cli.stages.engine.predictor import load_segmenter

CPU = torch.device("cpu")
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def image():
    """A smooth picture, so that its views resemble it."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((70, 50), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def look(chain):
    def probabilities(image, *, scales=(1.0,), flip=False, window=None):
        segmenter = load_segmenter(
            chain.made["train-seg"], scales=scales, flip=flip, window=window, device=CPU, precision="fp32"
        )
        return segmenter.probabilities(image)

    return probabilities


@torch.inference_mode()
def plain(chain, image):
    model = build_segmenter(chain.made["train-seg"].meta["model"])
    load_tensors(model, chain.made["train-seg"])
    model.eval()
    backbone = backbone_of(model)
    logits = model(normalise(image, backbone.mean, backbone.std)[None])
    full = functional.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
    return full.softmax(1)[0].numpy()


def resized(scores, height, width):
    return functional.interpolate(
        torch.from_numpy(scores.copy())[None], size=(height, width), mode="bilinear", align_corners=False
    )[0].numpy()


def test_probabilities_have_the_size_of_the_photograph_and_sum_to_one(look, image):
    found = look(image, scales=(0.5, 1.0, 1.5), flip=True)
    assert found.shape == (4, 50, 70)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, **CLOSE)


def test_one_scale_is_the_plain_forward(chain, look, image):
    np.testing.assert_allclose(look(image), plain(chain, image), **CLOSE)


def test_the_mirrored_view_is_turned_back_and_averaged(chain, look, image):
    expected = (plain(chain, image) + plain(chain, image[:, ::-1].copy())[:, :, ::-1]) / 2
    np.testing.assert_allclose(look(image, flip=True), expected, **CLOSE)


def test_with_mirror_a_mirrored_photograph_has_the_mirrored_answer(look, image):
    mirrored = look(image[:, ::-1].copy(), flip=True)
    np.testing.assert_allclose(mirrored[:, :, ::-1], look(image, flip=True), **CLOSE)


def test_scales_are_averaged_at_the_size_of_the_photograph(chain, look, image):
    small = np.asarray(Image.fromarray(image).resize((35, 25), Image.Resampling.BILINEAR))
    expected = (plain(chain, image) + resized(plain(chain, small), 50, 70)) / 2
    np.testing.assert_allclose(look(image, scales=(1.0, 0.5)), expected, **CLOSE)


def test_a_window_as_large_as_the_photograph_changes_nothing(look, image):
    np.testing.assert_array_equal(look(image, window=70), look(image))


def test_smaller_windows_are_averaged_where_they_overlap(chain, look, image):
    """At width 70, windows of 40 start at 0, 27 and 30 (the stride is two thirds); height 50 starts at 0 and 10."""
    total, count = np.zeros((4, 50, 70)), np.zeros((50, 70))
    for top in (0, 10):
        for left in (0, 27, 30):
            tile = np.ascontiguousarray(image[top : top + 40, left : left + 40])
            total[:, top : top + 40, left : left + 40] += plain(chain, tile)
            count[top : top + 40, left : left + 40] += 1
    np.testing.assert_allclose(look(image, window=40), total / count, **CLOSE)


def test_a_tiny_photograph_is_answered(look):
    found = look(np.full((1, 3, 3), 90, dtype=np.uint8), scales=(0.25, 1.0), flip=True)
    assert found.shape == (4, 1, 3)
    assert np.isfinite(found).all()


def test_weights_that_do_not_fit_their_description_are_damage(chain):
    model = build_segmenter({**chain.made["train-seg"].meta["model"], "num_classes": 9})
    with pytest.raises(DamagedError, match=r"train-seg-.* does not fit its own description: .*size mismatch"):
        load_tensors(model, chain.made["train-seg"])
