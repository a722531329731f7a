"""Masks in run lengths of COCO.

pycocotools writes run lengths. Run lengths of others are counted here before memory is allocated, because pycocotools
does not check that they cover the image, and would return uninitialised memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray


def encode_rle(mask: Bool[ndarray, "height width"]) -> dict[str, Any]:
    """A mask as `{"size": [height, width], "counts": text}`."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))  # type: ignore[no-untyped-call]
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def decode_rle(counts: str | Sequence[int], height: int, width: int) -> Bool[ndarray, "height width"] | None:
    """The mask of run lengths; None if they are invalid, or not for this number of pixels. Nothing larger is allocated.

    Args:
        counts: numbers, or the text of pycocotools.
        height: of the image.
        width: of the image.
    """
    runs = _numbers(counts, height * width) if isinstance(counts, str) else list(counts)
    if runs is None or any(type(run) is not int or not 0 <= run <= height * width for run in runs):
        return None
    if sum(runs) != height * width:
        return None
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def _numbers(text: str, limit: int) -> list[int] | None:
    """The runs in a text: each after the third is the difference from the one two before.

    A number is written in groups of five bits, the lowest first, with a sixth bit for "more follow", from "0" on.
    """
    runs: list[int] = []
    run = shift = 0
    for letter in text:
        group = ord(letter) - 48
        if not 0 <= group < 64 or shift > 60:
            return None
        run |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            run -= 1 << shift
        run += runs[-2] if len(runs) > 2 else 0
        if not 0 <= run <= limit:
            return None
        runs.append(run)
        run = shift = 0
    return runs if shift == 0 else None
