"""Small pictures for the page, as data URIs: photographs once, and what lies over them as layers of their own.

A photograph with three maps and three masks over it is one photograph and six layers of about a kilobyte.
"""

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mcis_cli.report.figures import edges, hatching, heat_colours

IGNORE_INDEX = 255
PHOTO_SIDE, MASK_SIDE, HEAT_SIDE = 360, 320, 96
SHADE = (14, 10, 36)  # what lies over the places that attention left alone


def photo(image: UInt8[np.ndarray, "height width 3"], *, side: int = PHOTO_SIDE) -> str:
    """A photograph of at most `side` pixels each way."""
    return _webp(Image.fromarray(image).resize(_fitting(image.shape, side), Image.Resampling.LANCZOS), quality=76)


def heat_layer(localization_map: Float[np.ndarray, "height width"]) -> str:
    """A map in [0, 1] in the colours of heat, to be stretched over its photograph."""
    small = Image.fromarray(np.ascontiguousarray(localization_map, dtype=np.float32))
    small = small.resize(_fitting(localization_map.shape, HEAT_SIDE), Image.Resampling.BILINEAR)
    return _webp(Image.fromarray(heat_colours(np.asarray(small)).round().astype(np.uint8)), quality=82)


def mask_layer(mask: UInt8[np.ndarray, "height width"], palette: UInt8[np.ndarray, "256 3"]) -> str:
    """A mask with nothing where background is: classes tinted and outlined, ignored pixels hatched."""
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
    """Width and height of a picture made to fit into a square, never enlarged."""
    scale = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _webp(picture: Image.Image, *, quality: int = 80, lossless: bool = False) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=quality, lossless=lossless, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
