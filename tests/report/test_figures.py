"""Pictures: what is tinted, and what is left alone."""

import io

import numpy as np
import pytest
from PIL import Image

from mcis_cli.report.figures import heat, legend_of, overlay, png_bytes

MISFIT = (AssertionError, TypeError)  # the latter where shapes are checked at run time


def palette() -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    colours[3], colours[7], colours[255] = (200, 30, 30), (30, 30, 200), (224, 224, 192)
    return colours


def photo(height: int = 30, width: int = 40, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def with_class_three() -> np.ndarray:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:30] = 3
    return mask


def test_an_overlay_tints_classes_by_its_opacity_and_leaves_grey_background():
    picture = overlay(photo(), with_class_three(), palette(), opacity=0.5)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[15, 20], [150, 65, 65])
    np.testing.assert_array_equal(picture[0, 0], [100, 100, 100])


def test_an_overlay_outlines_classes_within_themselves():
    picture, mask = overlay(photo(), with_class_three(), palette()), with_class_three()
    np.testing.assert_array_equal(picture[10, 15], np.round(0.75 * palette()[3] + 0.25 * 255))
    np.testing.assert_array_equal(picture[mask == 0], 100)


def test_an_overlay_hatches_what_is_ignored():
    picture = overlay(photo(), np.full((30, 40), 255, np.uint8), palette())
    assert set(np.unique(picture)) == {168, 235}


def test_heat_goes_from_the_first_to_the_last_of_its_colours():
    levels = np.array([[0.0, 1.0, 2.0]])
    picture = heat(photo(1, 3), levels, opacity=1.0)
    np.testing.assert_array_equal(picture[0], [(18, 12, 58), (252, 250, 176), (252, 250, 176)])
    np.testing.assert_array_equal(heat(photo(1, 3), levels, opacity=0.0), photo(1, 3))


def test_heat_gets_lighter_with_the_map():
    light = heat(photo(1, 50), np.linspace(0, 1, 50)[None]).astype(int) @ [299, 587, 114]
    assert (np.diff(light[0]) > 0).all()


def test_arguments_are_left_as_they_are():
    image, mask = photo(), with_class_three()
    overlay(image, mask, palette())
    np.testing.assert_array_equal(image, photo())
    np.testing.assert_array_equal(mask, with_class_three())


def test_a_legend_names_the_classes_that_are_there():
    masks = [np.array([[0, 7]], np.uint8), np.array([[255, 3], [0, 3]], np.uint8)]
    names = [f"class {index}" for index in range(10)]
    assert legend_of(masks, names, palette()) == [("class 2", (200, 30, 30)), ("class 6", (30, 30, 200))]


def test_an_array_reads_back_from_png():
    tinted = overlay(photo(), with_class_three(), palette())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(tinted)))), tinted)


def test_sizes_and_counts_must_fit():
    with pytest.raises(MISFIT, match=r"over an image|height"):
        overlay(photo(), np.zeros((40, 30), np.uint8), palette())
    with pytest.raises(MISFIT, match=r"over an image|height"):
        heat(photo(), np.zeros((40, 30)))
