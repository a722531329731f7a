"""Windows: they cover, they end flush, and scores are averaged where they overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.maps.windows import average_windows, window_starts


@pytest.mark.parametrize(
    ("length", "starts"), [(10, (0, 3, 6)), (11, (0, 3, 6, 7)), (4, (0,)), (3, (0,)), (5, (0, 1)), (7, (0, 3))]
)
def test_starts_of_windows_of_four_every_three(length, starts):
    assert window_starts(length, 4, 3) == starts


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_windows_cover_every_position_and_stay_inside(length, window, data):
    stride = data.draw(st.integers(1, window))
    starts = window_starts(length, window, stride)
    covered = {position for start in starts for position in range(start, min(start + window, length))}
    assert covered == set(range(length))
    assert list(starts) == sorted(set(starts))
    assert all(start + window <= max(length, window) for start in starts)


def test_a_stride_longer_than_the_window_leaves_gaps():
    with pytest.raises(AssertionError, match="leaves gaps"):
        window_starts(10, 3, 4)


def test_overlapping_scores_are_averaged():
    tiles: list[float] = []

    def number_of_the_tile(tile: np.ndarray) -> np.ndarray:
        tiles.append(float(len(tiles)))
        return np.full((1, *tile.shape[:2]), tiles[-1])

    scores = average_windows(number_of_the_tile, np.zeros((2, 5, 3), np.uint8), window=3, stride=2)
    # Two tiles, 0 on columns 0-2 and 1 on columns 2-4: column 2 has the mean of both.
    np.testing.assert_array_equal(scores[0], [[0, 0, 0.5, 1, 1]] * 2)


@given(st.integers(1, 17), st.integers(1, 17), st.integers(1, 9), st.data())
def test_scores_of_single_pixels_do_not_depend_on_the_windows(height, width, window, data):
    stride = data.draw(st.integers(1, window))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def brightness(tile: np.ndarray) -> np.ndarray:
        return np.stack([tile.mean(axis=2), -tile.mean(axis=2)])

    scores = average_windows(brightness, image, window=window, stride=stride)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, brightness(image), rtol=1e-6)


def test_scores_of_another_size_than_the_tile_are_a_bug():
    with pytest.raises(AssertionError, match="for a tile"):
        average_windows(lambda tile: np.zeros((2, 1, 1)), np.zeros((4, 5, 3), np.uint8), window=3, stride=2)
