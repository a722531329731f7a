"""Masks in the run lengths of COCO, as JSON has them: lists of numbers, or the text of pycocotools.

Runs go down the columns, the first is of zeros. In the text each run after the third is the difference to the one two
before, in groups of five bits with the least first, a sixth bit for "more follow", from the character "0" on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray


def encode_rle(mask: Bool[ndarray, "height width"]) -> dict[str, Any]:
    """A mask as `{"size": [height, width], "counts": text}`."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    starts = ([0] if flat.size and flat[0] else []) + [0, *changes.tolist()]
    runs = np.diff([*starts, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": "".join(_text(runs))}


def _text(runs: Sequence[int]) -> Iterator[str]:
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = left & 0x1F
            left >>= 5
            more = left != (-1 if bits & 0x10 else 0)
            yield chr(48 + bits + (0x20 if more else 0))


def decode_rle(counts: str | Sequence[int], height: int, width: int) -> Bool[ndarray, "height width"] | None:
    """The mask of run lengths; None where they are none, or not of so many pixels. Nothing larger is allocated.

    Args:
        counts: numbers, or the text of pycocotools.
        height: of the picture.
        width: of the picture.
    """
    runs = _numbers(counts, height * width) if isinstance(counts, str) else list(counts)
    if runs is None or any(type(run) is not int or not 0 <= run <= height * width for run in runs):
        return None
    if sum(runs) != height * width:
        return None
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def _numbers(text: str, limit: int) -> list[int] | None:
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
