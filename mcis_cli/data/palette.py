"""The colours of PASCAL VOC, and masks as palette PNG: indices for programs, colours for people."""

import io
from functools import cache

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image


@cache
def voc_palette() -> UInt8[ndarray, "256 3"]:
    """The colour (RGB) of each mask value, as in the VOC development kit; read-only.

    The three lowest bits of the index become the highest bits of red, green and blue, the next three the bits below,
    and so on.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for step in range(3):
        for channel in range(3):
            bit = (index >> (3 * step + channel)) & 1
            palette[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


def write_mask_png(mask: UInt8[ndarray, "height width"]) -> bytes:
    """Encode a mask of class indices as an 8-bit palette PNG in the colours of PASCAL VOC.

    Args:
        mask: 0 background, then the classes, 255 to be ignored.

    Returns:
        The bytes of the file.
    """
    assert mask.ndim == 2, mask.shape
    assert mask.dtype == np.uint8, mask.dtype
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
