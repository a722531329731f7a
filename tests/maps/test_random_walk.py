"""The random walk: sparse steps against the dense matrix and its powers, made by loops over positions."""

from itertools import product

import numpy as np
import pytest

from mcis_cli.maps.random_walk import transition, walk
from mcis_cli.models.pairwise_affinity import pair_offsets

HEIGHT, WIDTH = 5, 7
OFFSETS = pair_offsets(5)


def planes(height=HEIGHT, width=WIDTH):
    """Affinities by offset; what leaves the grid has no meaning, and must not be looked at."""
    return np.random.default_rng(0).random((len(OFFSETS), height, width))


def dense_transition(affinities, power):
    height, width = affinities.shape[1:]
    matrix = np.eye(height * width)
    for plane, (down, right) in zip(affinities, OFFSETS, strict=True):
        for y, x in product(range(height), range(width)):
            v, u = y + down, x + right
            if v < height and 0 <= u < width:
                here, there = y * width + x, v * width + u
                matrix[here, there] = matrix[there, here] = plane[y, x] ** power
    return matrix / matrix.sum(axis=0)


@pytest.mark.parametrize("power", [1.0, 8.0])
def test_the_sparse_matrix_is_the_dense_one(power):
    matrix = transition(planes(), OFFSETS, power=power).toarray()
    np.testing.assert_allclose(matrix, dense_transition(planes(), power), rtol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)


@pytest.mark.parametrize("doublings", [0, 1, 8])
def test_sparse_steps_give_what_the_squared_dense_matrix_gives(doublings):
    maps = np.random.default_rng(1).random((3, HEIGHT, WIDTH), dtype=np.float32)
    dense = dense_transition(planes(), 8.0)
    for _ in range(doublings):
        dense = dense @ dense
    expected = (maps.reshape(3, -1) @ dense).reshape(maps.shape)
    found = walk(maps, transition(planes(), OFFSETS, power=8.0), num_steps=2**doublings)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2)])
def test_grids_smaller_than_the_radius_walk_too(size):
    affinities = planes(*size)
    matrix = transition(affinities, OFFSETS, power=2.0)
    np.testing.assert_allclose(matrix.toarray(), dense_transition(affinities, 2.0))


def test_a_constant_stays_and_no_map_leaves_its_range():
    maps = np.stack([np.full((HEIGHT, WIDTH), 0.2), np.random.default_rng(2).random((HEIGHT, WIDTH))])
    walked = walk(maps, transition(planes(), OFFSETS, power=8.0), num_steps=256)
    np.testing.assert_allclose(walked[0], 0.2, rtol=1e-6)
    assert maps[1].min() <= walked[1].min() <= walked[1].max() <= maps[1].max()


def test_scores_spread_within_what_is_alike_and_not_beyond():
    """Two halves, each similar within, and not similar to each other."""
    half = np.arange(WIDTH) < 3
    affinities = np.zeros((len(OFFSETS), HEIGHT, WIDTH))
    for plane, (_, right) in zip(affinities, OFFSETS, strict=True):
        inside = np.array([0 <= x + right < WIDTH and half[x] == half[x + right] for x in range(WIDTH)])
        plane[:, inside] = 1
    maps = np.zeros((1, HEIGHT, WIDTH))
    maps[0, 2, 0] = 1
    walked = walk(maps, transition(affinities, OFFSETS, power=8.0), num_steps=256)[0]
    assert (walked[:, half] > 0.01).all()
    assert (walked[:, ~half] == 0).all()


def test_no_maps_walk_to_no_maps():
    found = walk(np.zeros((0, HEIGHT, WIDTH)), transition(planes(), OFFSETS, power=8.0), num_steps=4)
    assert found.shape == (0, HEIGHT, WIDTH)
