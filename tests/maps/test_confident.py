"""Confident regions of maps: objects under a small power, background under a large one, the rest ignored."""

import numpy as np

from mcis_cli.maps.crf import confident_regions, dense_crf

# A CRF without weights leaves the strongest score in its place.
FLAT = {
    "iterations": 1,
    "gaussian_xy": 3,
    "gaussian_weight": 0,
    "bilateral_xy": 80,
    "bilateral_rgb": 13,
    "bilateral_weight": 0,
}
AS_PUBLISHED = FLAT | {"iterations": 10, "gaussian_weight": 3, "bilateral_weight": 10}
POWERS = {"object_power": 4.0, "background_power": 32.0}


def photograph(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_regions_are_those_that_both_powers_agree_on():
    """(1 − 0.9)⁴ < 0.9: surely the object. (1 − 0.01)³² = 0.72 > 0.01: surely background. (1 − 0.2)⁴ = 0.41 > 0.2 is
    background under the small power, (1 − 0.2)³² < 0.2 the object under the large one: nothing is sure."""
    maps = np.array([[[0.9, 0.01, 0.2]], [[0.0, 0.0, 0.1]]], dtype=np.float32)
    found = confident_regions(photograph(1, 3), maps, (4, 7), **POWERS, **FLAT)
    assert found.tolist() == [[5, 0, 255]]


def test_regions_are_those_of_a_loop_over_pixels_after_the_crf():
    rng = np.random.default_rng(3)
    image, maps = photograph(12, 17), rng.random((2, 12, 17), dtype=np.float32) ** 3
    found = confident_regions(image, maps, (0, 2), **POWERS, **AS_PUBLISHED)
    refined = []
    for power in POWERS.values():
        scores = np.stack([(1 - maps.max(axis=0)) ** power, *maps])
        refined.append(dense_crf(image, scores, **AS_PUBLISHED))
    for y, x in np.ndindex(found.shape):
        small, large = (int(scores[:, y, x].argmax()) for scores in refined)
        expected = 0 if large == 0 else (255, 1, 3)[small]
        assert found[y, x] == expected


def test_an_image_without_a_class_is_background():
    found = confident_regions(photograph(4, 5), np.zeros((0, 4, 5), np.float32), (), **POWERS, **FLAT)
    assert found.shape == (4, 5)
    assert not found.any()
