"""Pictures of photographs, maps and masks, and panels of them with captions. Pillow draws; no file is written here."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image, ImageDraw

from mcis_cli.report import lettering

IGNORE_INDEX = 255
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (52, 56, 64)
VEIL = 235  # the grey of ignored pixels
# From dark violet to pale yellow, lightness rising evenly: it reads the same in grey and to the colour-blind.
HEAT = np.array([(18, 12, 58), (92, 24, 110), (176, 48, 92), (236, 106, 44), (250, 178, 48), (252, 250, 176)])


@dataclass(frozen=True)
class Style:
    """Measures of a panel in pixels, and the number of lines that a caption may take.

    A picture is made to fit into tile_width × tile_height; columns and rows shrink to what is in them, columns not
    below min_column.
    """

    tile_width: int = 320
    tile_height: int = 260
    min_column: int = 120
    gap: int = 14
    margin: int = 18
    corner: int = 6
    font_size: int = 16
    max_lines: int = 2


def overlay(
    image: UInt8[np.ndarray, "height width 3"],
    mask: UInt8[np.ndarray, "height width"],
    palette: UInt8[np.ndarray, "256 3"],
    *,
    opacity: float = 0.55,
) -> UInt8[np.ndarray, "height width 3"]:
    """A photograph with its mask laid over it: classes tinted and outlined, ignored pixels hatched, the rest paler.

    Args:
        image: RGB photograph.
        mask: index image of the same size; 0 is background and 255 ignored.
        palette: RGB of each mask value.
        opacity: of the tint, in [0, 1].

    Returns:
        RGB picture of the photograph's size.
    """
    assert mask.shape == image.shape[:2], f"a mask of {mask.shape} over an image of {image.shape}"
    photo, grey, colours = image.astype(np.float32), _grey(image), palette[mask].astype(np.float32)
    ignored = mask == IGNORE_INDEX
    foreground = (mask != 0) & ~ignored
    step = max(1, min(mask.shape) // 160)
    picture = 0.7 * photo + 0.3 * grey
    picture[ignored] = 0.5 * photo[ignored] + 0.5 * VEIL
    picture[ignored & hatching(mask.shape, 6 * step)] = VEIL
    picture[foreground] = ((1 - opacity) * grey + opacity * colours)[foreground]
    edge = foreground & edges(mask, step)
    picture[edge] = 0.75 * colours[edge] + 0.25 * 255
    return picture.round().clip(0, 255).astype(np.uint8)


def heat(
    image: UInt8[np.ndarray, "height width 3"],
    localization_map: Float[np.ndarray, "height width"],
    *,
    opacity: float = 0.75,
) -> UInt8[np.ndarray, "height width 3"]:
    """A photograph in grey under a localization map, which goes from dark violet (0) to pale yellow (1).

    Args:
        image: RGB photograph.
        localization_map: in [0, 1], of the same size; values beyond count as the nearest.
        opacity: of the colours, in [0, 1].

    Returns:
        RGB picture of the photograph's size.
    """
    assert localization_map.shape == image.shape[:2], f"a map of {localization_map.shape} over an image {image.shape}"
    picture = (1 - opacity) * _grey(image) + opacity * heat_colours(localization_map)
    return picture.round().clip(0, 255).astype(np.uint8)


def heat_colours(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """The colours of values in [0, 1], RGB in [0, 255]; values beyond count as the nearest."""
    stops = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, stops, HEAT[:, channel]) for channel in range(3)], axis=2)


def legend_of(
    masks: Sequence[UInt8[np.ndarray, "_ _"]], class_names: Sequence[str], palette: UInt8[np.ndarray, "256 3"]
) -> list[tuple[str, Colour]]:
    """Name and colour of each foreground class in some masks, in order of their values.

    Args:
        masks: index images.
        class_names: of the foreground classes; index k is mask value k + 1.
        palette: RGB of each mask value.
    """
    present = sorted({int(value) for mask in masks for value in np.unique(mask)} - {0, IGNORE_INDEX})
    colours = palette.tolist()
    return [(class_names[value - 1], (colours[value][0], colours[value][1], colours[value][2])) for value in present]


def panel(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    columns: int | None = None,
    legend: Sequence[tuple[str, Colour]] = (),
    style: Style | None = None,
) -> Image.Image:
    """Pictures in rows and columns with a caption under each, and a legend of colours below.

    Args:
        images: RGB pictures of any sizes, row by row.
        captions: one a picture, "" for none. Wrapped to the column; what does not fit ends in an ellipsis.
        columns: pictures in a row; by default all in one.
        legend: names and colours, as from `legend_of`.
        style: measures; by default `Style()`.

    Returns:
        An RGB picture; `png_bytes` encodes it.
    """
    assert len(images) == len(captions) > 0, f"{len(captions)} captions for {len(images)} images"
    style = style or Style()
    columns = min(columns or len(images), len(images))
    tiles = [_tile(image, style) for image in images]
    widths = [max([style.min_column, *(tile.width for tile in tiles[first::columns])]) for first in range(columns)]
    rows = []
    for start in range(0, len(tiles), columns):
        row = slice(start, start + columns)
        texts = [_lines(text, width, style) for text, width in zip(captions[row], widths, strict=False)]
        rows.append(_beside(_cells(tiles[row], texts, widths, style), style.gap))
    if legend:
        rows.append(_legend(legend, max(row.width for row in rows), style))
    sheet = _below(rows, style.gap)
    framed = Image.new("RGB", (sheet.width + 2 * style.margin, sheet.height + 2 * style.margin), PAPER)
    framed.paste(sheet, (style.margin, style.margin))
    return framed


def png_bytes(picture: Image.Image | UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The picture encoded as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _grey(image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "height width 1"]:
    return np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)[:, :, None]


def edges(mask: UInt8[np.ndarray, "height width"], thickness: int) -> Bool[np.ndarray, "height width"]:
    """Pixels that have another value within `thickness` above, below, left or right of them."""
    edges = np.zeros(mask.shape, dtype=bool)
    for shift in range(1, thickness + 1):
        down, right = mask[shift:] != mask[:-shift], mask[:, shift:] != mask[:, :-shift]
        edges[shift:] |= down
        edges[:-shift] |= down
        edges[:, shift:] |= right
        edges[:, :-shift] |= right
    return edges


def hatching(shape: tuple[int, ...], period: int) -> Bool[np.ndarray, "height width"]:
    """Diagonal stripes, a third of the period wide, over a picture of that height and width."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows + columns) % period < period // 3)


def _tile(image: UInt8[np.ndarray, "height width 3"], style: Style) -> Image.Image:
    """The picture made to fit, with rounded corners on paper."""
    scale = min(style.tile_width / image.shape[1], style.tile_height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    fitted = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)
    return Image.composite(fitted, Image.new("RGB", size, PAPER), _rounded(size, style.corner))


def _rounded(size: tuple[int, int], corner: int) -> Image.Image:
    """Coverage of a rectangle with rounded corners; drawn four times as large, for smooth ones."""
    large = Image.new("L", (4 * size[0], 4 * size[1]), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, large.width - 1, large.height - 1), 4 * corner, fill=255)
    return large.resize(size, Image.Resampling.BOX)


def _lines(text: str, width: int, style: Style) -> list[str]:
    return lettering.wrap(text, size=style.font_size, width=width, max_lines=style.max_lines)


def _cells(
    tiles: Sequence[Image.Image], texts: Sequence[list[str]], widths: Sequence[int], style: Style
) -> list[Image.Image]:
    """The tiles of a row over their captions, all of one height."""
    height, num_lines = max(tile.height for tile in tiles), max(len(lines) for lines in texts)
    step, font = lettering.line_height(style.font_size), lettering.font(style.font_size)
    cells = []
    for tile, lines, width in zip(tiles, texts, widths, strict=False):
        cell = Image.new("RGB", (width, height + num_lines * step + (step // 3 if num_lines else 0)), PAPER)
        cell.paste(tile, ((width - tile.width) // 2, (height - tile.height) // 2))
        for number, line in enumerate(lines):
            middle = width / 2, height + step // 3 + (number + 0.5) * step
            ImageDraw.Draw(cell).text(middle, line, fill=INK, font=font, anchor="mm")
        cells.append(cell)
    return cells


def _legend(entries: Sequence[tuple[str, Colour]], width: int, style: Style) -> Image.Image:
    """Chips of colour with names, in as many lines as the width asks for."""
    lines: list[list[Image.Image]] = [[]]
    for name, colour in entries:
        chip = _chip(name, colour, width, style)
        if lines[-1] and sum(other.width + style.gap for other in lines[-1]) + chip.width > width:
            lines.append([])
        lines[-1].append(chip)
    return _below([_beside(line, style.gap) for line in lines], 0)


def _chip(name: str, colour: Colour, width: int, style: Style) -> Image.Image:
    size, step = style.font_size, lettering.line_height(style.font_size)
    indent = size + size // 2
    text = "".join(lettering.wrap(name, size=size, width=width - indent, max_lines=1))
    font = lettering.font(size)
    chip = Image.new("RGB", (min(width, indent + round(font.getlength(text)) + 1), step), PAPER)
    chip.paste(Image.new("RGB", (size, size), colour), (0, (step - size) // 2), _rounded((size, size), 4))
    ImageDraw.Draw(chip).text((indent, step / 2), text, fill=INK, font=font, anchor="lm")
    return chip


def _beside(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    strip, left = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER), 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return strip


def _below(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    column, top = Image.new("RGB", (max(picture.width for picture in pictures), height), PAPER), 0
    for picture in pictures:
        column.paste(picture, (0, top))
        top += picture.height + gap
    return column
