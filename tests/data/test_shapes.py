"""Kinds of synthetic objects: whole outlines, bounded textures, no two equal."""

import numpy as np
import pytest

from mcis_cli.data.synthetic.shapes import BADGES, SHAPES, TEXTURES, heart, kinds, ring, square, star, triangle

Y, X = np.mgrid[-1.5:1.5:61j, -1.4:1.4:57j].astype(np.float32)


@pytest.mark.parametrize("name", [name for name, _ in SHAPES])
def test_outline_is_one_piece_of_useful_size_within_the_frame(name: str) -> None:
    inside = dict(SHAPES)[name](X, Y) <= 0
    assert 0.12 < inside.mean() < 0.4
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    np.testing.assert_array_equal(inside, inside[:, ::-1])  # each outline is its own mirror image


@pytest.mark.parametrize("name", [name for name, _ in SHAPES])
def test_distance_changes_no_faster_than_the_way(name: str) -> None:
    distance = dict(SHAPES)[name](X, Y)
    band = (np.abs(distance) < 0.25)[:-1, :-1]
    step = Y[1, 0] - Y[0, 0]
    slope = np.hypot(np.diff(distance, axis=0)[:, :-1], np.diff(distance, axis=1)[:-1]) / step
    assert slope[band].max() < 1.5  # 1 for a true distance; a ridge crossed between two pixels adds a little
    assert np.median(slope[band]) == pytest.approx(1, abs=0.15)


def at(shape: object, x: float, y: float) -> float:
    return float(shape(np.array([[x]]), np.array([[y]]))[0, 0])  # type: ignore[operator]


def test_landmarks_lie_where_they_should() -> None:
    assert at(ring, 0, 0) > 0 > at(ring, 0.66, 0)  # a hole
    assert at(square, 0.7, 0.7) < 0 < at(square, 0.8, 0.8)
    assert at(star, 0, -0.95) < 0 < at(star, 0, 0.95)  # a point above, a notch below
    assert at(triangle, 0, -0.8) < 0 < at(triangle, 0.5, -0.8)
    assert at(heart, 0, -0.9) > 0 > at(heart, 0.45, -0.75)  # two lobes above
    assert at(heart, 0, 0.85) < 0 < at(heart, 0.4, 0.85)  # a point below


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_vary_about_a_middle(texture: object) -> None:
    pattern = np.clip(texture(3 * X, 3 * Y), -1, 1)  # type: ignore[operator]
    assert abs(pattern.mean()) < 0.45
    assert pattern.std() > 0.4


def test_kinds_are_all_different() -> None:
    all_kinds = kinds(64)
    assert len({kind.name for kind in all_kinds}) == 64
    assert len({(kind.distance, kind.texture) for kind in all_kinds}) == 64
    assert [kind.name for kind in kinds(9)][-2:] == ["hexagon", "disc-2"]
    assert {kind.badge for kind in kinds(8)} == set(BADGES)


@pytest.mark.parametrize("count", [0, 65])
def test_count_of_kinds_is_bounded(count: int) -> None:
    with pytest.raises(AssertionError, match="1 to 64 kinds"):
        kinds(count)
