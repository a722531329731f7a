"""Photographs under their masks and maps: as arrays, as files of an export, and as layers for the page.

The page has each photograph once, and layers over it of about a kilobyte, all as data URIs. No file is
written here.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image

from mcis_cli.data.formats import id_fault
from mcis_cli.data.palette import voc_palette
from mcis_cli.interop.exports.content import Export, File

IGNORE_INDEX = 255
Colour = tuple[int, int, int]

VEIL = 235  # the grey of ignored pixels
# From dark violet to pale yellow, lightness rising evenly: it reads the same in grey and to the colour-blind.
HEAT = np.array([(18, 12, 58), (92, 24, 110), (176, 48, 92), (236, 106, 44), (250, 178, 48), (252, 250, 176)])


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
        RGB image of the photograph's size.
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
        RGB image of the photograph's size.
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


def png_bytes(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The image encoded as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", optimize=True)
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
    """Diagonal stripes, a third of the period wide, over an image of that height and width."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows + columns) % period < period // 3)


def overlay_files(export: Export) -> Iterator[File]:
    """`ID.png`: the photograph with its mask laid over it."""
    for image_id, mask in export.masks():
        yield File(Path(f"{image_id}.png"), png_bytes(overlay(export.read_image(image_id), mask, voc_palette())))


def heat_files(export: Export) -> Iterator[File]:
    """`ID/CLASS.png`: the photograph in grey under the map of a class; a name that is no file's gives its number."""
    for image_id, by_class in export.maps(full_size=True):
        image = export.read_image(image_id) if by_class else None
        for label, array in by_class.items():
            name = export.class_names[label]
            inside = str(label) if "/" in name or id_fault(name) else name
            assert image is not None, "read above"
            yield File(Path(image_id, f"{inside}.png"), png_bytes(heat(image, array)))


PHOTO_SIDE, MASK_SIDE, HEAT_SIDE = 360, 320, 96
SHADE = (14, 10, 36)  # cover of places without attention


def photo(image: UInt8[np.ndarray, "height width 3"], *, side: int = PHOTO_SIDE) -> str:
    """A photograph of at most `side` pixels each way."""
    return _webp(Image.fromarray(image).resize(_fitting(image.shape, side), Image.Resampling.LANCZOS), quality=76)


def heat_layer(localization_map: Float[np.ndarray, "height width"]) -> str:
    """A map in [0, 1] in the colours of heat, to be stretched over its photograph."""
    small = Image.fromarray(np.ascontiguousarray(localization_map, dtype=np.float32))
    small = small.resize(_fitting(localization_map.shape, HEAT_SIDE), Image.Resampling.BILINEAR)
    return _webp(Image.fromarray(heat_colours(np.asarray(small)).round().astype(np.uint8)), quality=82)


def mask_layer(mask: UInt8[np.ndarray, "height width"], palette: UInt8[np.ndarray, "256 3"]) -> str:
    """A mask with transparent background: classes tinted and outlined, ignored pixels hatched."""
    small = Image.fromarray(mask).resize(_fitting(mask.shape, MASK_SIDE), Image.Resampling.NEAREST)
    mask = np.asarray(small)
    ignored = mask == IGNORE_INDEX
    foreground = (mask != 0) & ~ignored
    outline = foreground & edges(mask, 1)
    layer = np.zeros((*mask.shape, 4), dtype=np.uint8)
    layer[..., :3] = palette[mask]
    layer[outline, :3] = (0.7 * layer[outline, :3] + 0.3 * 255).astype(np.uint8)
    layer[foreground, 3] = 165
    layer[outline, 3] = 255
    layer[ignored] = (238, 238, 242, 150)
    layer[ignored & hatching(mask.shape, 9)] = (120, 122, 134, 190)
    return _webp(Image.fromarray(layer), lossless=True)


def light_layer(attention: Float[np.ndarray, "height width"]) -> str:
    """Shade over a photograph, lifted where attention in [0, 1] is."""
    layer = np.empty((*attention.shape, 4), dtype=np.uint8)
    layer[..., :3] = SHADE
    layer[..., 3] = (200 * (1 - attention.clip(0, 1))).round().astype(np.uint8)
    return _webp(Image.fromarray(layer), lossless=True)


def _fitting(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Width and height of an image made to fit into a square, never enlarged."""
    scale = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _webp(picture: Image.Image, *, quality: int = 80, lossless: bool = False) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=quality, lossless=lossless, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
