"""Polygons of masks: filled, they are the mask again, whatever its holes and corners."""

import numpy as np
import pytest
from filled_polygons import fill
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from mcis_cli.interop.exports.polygons import polygons

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def filled(mask: np.ndarray) -> list[np.ndarray]:
    return [fill(polygon, *mask.shape) for polygon in polygons(mask)]


@given(MASKS)
def test_filled_polygons_are_the_mask_and_no_two_overlap(mask):
    assert (np.sum(filled(mask), axis=0, initial=0) == mask).all()


@given(MASKS)
def test_a_polygon_is_a_region_whose_pixels_meet_at_their_sides(mask):
    for region in filled(mask):
        reached = np.zeros_like(region)
        reached.flat[region.ravel().argmax()] = True
        for _ in range(region.size):  # brute force: grow until nothing is added
            wide = np.pad(reached, 1)
            reached = region & (wide[1:-1, 1:-1] | wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2])
        assert (reached == region).all()


def test_a_rectangle_has_four_corners():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    (polygon,) = polygons(mask)
    assert sorted(polygon) == [(2, 1), (2, 3), (6, 1), (6, 3)]


def test_a_hole_is_joined_by_a_cut_there_and_back():
    mask = np.ones((5, 7), bool)
    mask[2, 3] = False
    (polygon,) = polygons(mask)
    assert polygon.count((0, 2.5)) == polygon.count((3, 2.5)) == 2
    assert (fill(polygon, 5, 7) == mask).all()


def test_other_rasterisers_see_the_hole_too():
    """Pillow draws the outline as well as what is inside, so only pixels beside the outline may differ."""
    mask = np.ones((40, 60), bool)
    mask[10:30, 20:40] = False
    (polygon,) = polygons(mask)
    picture = Image.new("1", (60, 40))
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in polygon], fill=1)
    drawn = np.asarray(picture)
    assert not drawn[12:28, 22:38].any()
    assert drawn[2:8, 2:58].all()


@pytest.mark.parametrize("polygon", [[], [(1, 1)], [(-1e9, 3), (1e9, 3)], [(2, 2), (2, 2), (2, 2)]])
def test_what_has_no_area_fills_nothing(polygon):
    assert not fill(polygon, 4, 6).any()


def test_corners_outside_are_cut_at_the_border():
    assert fill([(-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12)], 3, 4).all()
