"""Localization maps: enlarging, normalising, combining."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from released_maps import resized

from mcis_cli.maps.localization import aggregate, enlarge, normalise, released_combination

finite = st.floats(-100, 100, width=16)
some_maps = hnp.arrays(np.float16, (2, 3, 4), elements=finite)


def sample(seed: int = 0, shape: tuple[int, ...] = (2, 3, 4)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bilinear(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel centres at half-integers, the border repeated: one pixel at a time."""
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * plane.shape[0] / height - 0.5, 0), plane.shape[0] - 1)
            x = min(max((column + 0.5) * plane.shape[1] / width - 0.5, 0), plane.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
            upper = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
            lower = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def test_enlarge_agrees_with_bilinear_interpolation_by_pixel():
    maps = sample()
    enlarged = enlarge(maps, 11, 9)
    assert enlarged.dtype == np.float32
    for plane, larger in zip(maps, enlarged, strict=True):
        np.testing.assert_allclose(larger, bilinear(plane, 11, 9), atol=1e-5)


def test_enlarge_to_the_same_size_changes_nothing():
    np.testing.assert_array_equal(enlarge(sample(), 3, 4), sample())


@given(some_maps, st.integers(1, 9), st.integers(1, 9))
def test_enlarge_stays_within_the_range_of_each_map(maps, height, width):
    resized = enlarge(maps, height, width)
    assert resized.shape == (2, height, width)
    for plane, larger in zip(maps.astype(np.float32), resized, strict=True):
        margin = 1e-5 * (1 + abs(plane).max())
        assert plane.min() - margin <= larger.min() <= larger.max() <= plane.max() + margin


def test_enlarge_takes_views_that_are_not_contiguous():
    maps = sample()
    np.testing.assert_array_equal(enlarge(maps[:, :, ::-1], 6, 8), enlarge(maps, 6, 8)[:, :, ::-1])


@pytest.mark.parametrize(("kind", "values"), [("minmax", [-1.0, 0.0, 3.0]), ("max", [-1.0, 1.0, 4.0])])
def test_normalisation_by_hand(kind, values):
    np.testing.assert_allclose(normalise(np.array([[values]]), kind), [[[0, 0.25, 1]]])


def test_a_map_that_says_nothing_becomes_zeros():
    assert not normalise(np.full((1, 2, 3), 7.0), "minmax").any()
    assert not normalise(np.full((1, 2, 3), -7.0), "max").any()


@given(some_maps, st.sampled_from(["minmax", "max"]))
def test_normalised_maps_are_in_unit_range_and_each_class_stands_alone(maps, normalization):
    before = maps.copy()
    normalised = normalise(maps, normalization)
    assert normalised.dtype == np.float32
    assert normalised.min() >= 0
    assert normalised.max() <= 1
    np.testing.assert_array_equal(normalise(maps[1:], normalization), normalised[1:])
    np.testing.assert_array_equal(maps, before)


def test_aggregate_turns_mirrored_views_back():
    maps = sample()
    mean = aggregate([maps, maps[:, :, ::-1]], [False, True], height=3, width=4)
    np.testing.assert_allclose(mean, maps, rtol=1e-6)


def test_aggregate_is_the_mean_of_the_resized_views():
    small, large = sample(0), sample(1, (2, 6, 8))
    expected = (enlarge(small, 5, 7) + enlarge(large, 5, 7)) / 2
    np.testing.assert_allclose(aggregate([small, large], [False, False], height=5, width=7), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(11, 9), (2, 3), (7, 5)])
def test_bicubic_enlarging_is_that_of_loops_over_positions(size):
    maps = np.random.default_rng(0).random((2, 7, 5), dtype=np.float32)
    expected = np.stack([resized(plane, size) for plane in maps.astype(float)])
    np.testing.assert_allclose(enlarge(maps, *size, "bicubic"), np.clip(expected, 0, 1), atol=1e-6)


def test_released_combination_agrees_with_its_rule_pixel_by_pixel():
    pairings = [sample(seed) * 3 + shift for seed, shift in enumerate((-5, 0, 1, -9, 2))]
    expected = np.zeros((2, 3, 4))
    for index in range(2):
        for position, pairing in enumerate(pairings):
            plane = pairing[index].astype(float)
            if position and 1 / (1 + np.exp(-plane.mean())) <= 0.1:
                continue
            peak = plane.max() + 1e-8
            for row in range(3):
                for column in range(4):
                    if plane[row, column] > 0:
                        expected[index, row, column] += plane[row, column] / peak / 5
    found = 255 * released_combination(pairings)
    np.testing.assert_allclose(found, np.rint(found), atol=1e-4)
    np.testing.assert_allclose(found, np.floor(255 * expected), atol=1e-4)


def test_released_combination_counts_the_first_map_whatever_it_scores():
    weak = np.array([[[-90.0, 1.0]]])
    np.testing.assert_allclose(released_combination([weak, weak]), [[[0, 127 / 255]]])
