"""Saliency maps that other tools wrote, of any size: grey images of 8 or 16 bits, or arrays of NumPy."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from mcis_cli.data.array_files import read_npy
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.images import MAX_PIXELS, decode_grey
from mcis_cli.errors import DataError

SUFFIXES = PHOTO_SUFFIXES | {".npy"}


def decode_foreign_saliency(content: bytes, name: str) -> Float32[ndarray, "height width"]:
    """A saliency map from the bytes of its file.

    Args:
        content: All bytes of the file.
        name: Its path; the extension tells what it is.

    Returns:
        Values in [0, 1].

    Raises:
        DataError: It is no grey image and no array of (height, width), or has values out of range.
    """
    if not name.lower().endswith(".npy"):
        return decode_grey(content, name)
    array = read_npy(content, name)
    if array.ndim != 2 or not 0 < array.size <= MAX_PIXELS:
        raise DataError(f"{name}: an array of the shape {array.shape}; expected (height, width); save it so")
    if array.dtype.kind == "f":
        if not bool(((array >= 0) & (array <= 1)).all()):  # nor not a number
            raise DataError(f"{name}: values out of [0, 1]; expected saliency in it; scale the map")
        return array.astype(np.float32)
    scale = {"bool": 1, "uint8": 255, "uint16": 65535}.get(array.dtype.name)
    if scale is None:
        raise DataError(f"{name}: values of {array.dtype}; expected uint8, uint16, or floats in [0, 1]; convert them")
    return array.astype(np.float32) / np.float32(scale)
