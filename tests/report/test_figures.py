"""Pictures: what is tinted, what is left alone, and how panels are laid out."""

import io

import numpy as np
import pytest
from PIL import Image

from mcis_cli.report.figures import INK, PAPER, Style, heat, legend_of, overlay, panel, png_bytes

MISFIT = (AssertionError, TypeError)  # the latter where shapes are checked at run time
PLAIN = Style(tile_width=40, tile_height=40, min_column=1, gap=5, margin=3, corner=0)


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


def test_a_panel_without_captions_is_its_pictures_with_gaps_and_margins():
    # 40 × 20 and 20 × 40 fit the tile as they are; 80 × 80 is halved and opens a second row.
    sheet = panel([photo(20, 40), photo(40, 20), photo(80, 80)], ["", "", ""], columns=2, style=PLAIN)
    assert sheet.size == (40 + 5 + 20 + 2 * 3, 40 + 5 + 40 + 2 * 3)
    pixels = np.asarray(sheet)
    assert tuple(pixels[3, 3]) == PAPER  # the low picture is in the middle of its row
    np.testing.assert_array_equal(pixels[13:33, 3:43], 100)
    np.testing.assert_array_equal(pixels[3:43, 48:68], 100)
    np.testing.assert_array_equal(pixels[48:88, 3:43], 100)


def test_captions_stay_within_their_columns_however_long():
    style = Style(tile_width=100, tile_height=60)
    sheet = panel([photo(60, 100)] * 2, ["caption " * 50, "W" * 500], style=style)
    pixels = np.asarray(sheet)
    text = (pixels[style.margin + 60 :] != PAPER).any(axis=(0, 2))
    first, second = style.margin, style.margin + style.min_column + style.gap
    inside = np.zeros(sheet.width, bool)
    for left in (first, second):
        inside[left - 1 : left + style.min_column + 1] = True
        assert text[left : left + style.min_column].any()
    assert not text[~inside].any()


def test_captions_and_legend_make_a_panel_higher_and_not_wider():
    images = [photo(60, 200)]
    bare = panel(images, [""])
    told = panel(images, ["photo"], legend=[(f"class {index}", (200, 30, 30)) for index in range(9)])
    assert told.width == bare.width
    assert told.height > bare.height
    colours = set(map(tuple, np.asarray(told).reshape(-1, 3).tolist()))
    assert {INK, (200, 30, 30)} <= colours


def test_a_single_long_name_in_a_legend_is_cut():
    assert panel([photo()], [""], legend=[("name " * 99, INK)]).width == panel([photo()], [""]).width


def test_a_panel_reads_back_from_png():
    sheet = panel([photo()], ["photo"])
    again = Image.open(io.BytesIO(png_bytes(sheet)))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(sheet))


def test_an_array_reads_back_from_png():
    tinted = overlay(photo(), with_class_three(), palette())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(tinted)))), tinted)


def test_sizes_and_counts_must_fit():
    with pytest.raises(MISFIT, match=r"over an image|height"):
        overlay(photo(), np.zeros((40, 30), np.uint8), palette())
    with pytest.raises(MISFIT, match=r"over an image|height"):
        heat(photo(), np.zeros((40, 30)))
    with pytest.raises(AssertionError, match="1 captions for 2 images"):
        panel([photo()] * 2, ["one"])
