"""Localization maps as arrays: enlarging, normalising and combining them (paper §3.2).

Forward passes and loops over images are elsewhere. A map is (class, height, width); the
classes of its planes are passed beside it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

BACKGROUND = 0

Interpolation = Literal["bilinear", "bicubic"]


def enlarge(
    maps: Float[np.ndarray, "cls h w"], height: int, width: int, interpolation: Interpolation = "bilinear"
) -> Float32[np.ndarray, "cls height width"]:
    """Maps resized to an image's height and width, with pixels as areas (no aligned corners).

    Args:
        maps: finite maps of any range.
        height: pixels of the result; if the map has more, "bilinear" averages the covered pixels.
        width: as `height`.
        interpolation: "bilinear", or "bicubic" as in the released code, which also rounds to bytes.

    Returns:
        The maps at height × width. Values of "bilinear" stay within the range of each map; those of "bicubic" may go
        beyond it, but stay in [0, 1] if the map does.
    """
    if interpolation == "bicubic":
        wide = maps.astype(np.float64)
        resized = _cubic_weights(maps.shape[1], height) @ wide @ _cubic_weights(maps.shape[2], width).T
        low, high = wide.min(axis=(1, 2), keepdims=True), wide.max(axis=(1, 2), keepdims=True)
        return np.asarray(np.clip(resized, np.minimum(low, 0), np.maximum(high, 1)), dtype=np.float32)
    result = np.empty((maps.shape[0], height, width), dtype=np.float32)
    for plane, target in zip(np.ascontiguousarray(maps, dtype=np.float32), result, strict=True):
        target[...] = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
    return result


def _cubic_weights(length: int, resized: int) -> Float[np.ndarray, "resized length"]:
    """Bicubic interpolation along one side as a matrix: Keys' kernel with a = −0.75; the border is repeated."""
    places = (np.arange(resized) + 0.5) * length / resized - 0.5
    first = np.floor(places).astype(int)
    weights = np.zeros((resized, length))
    for tap in range(-1, 3):
        d = np.abs(places - (first + tap))
        near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
        np.add.at(
            weights,
            (np.arange(resized), np.clip(first + tap, 0, length - 1)),
            np.where(d <= 1, near, np.where(d < 2, far, 0)),
        )
    return weights


def normalise(
    maps: Float[np.ndarray, "cls h w"], normalization: Literal["minmax", "max"]
) -> Float32[np.ndarray, "cls h w"]:
    """Maps in [0, 1], each class by itself.

    Args:
        maps: finite maps of any range.
        normalization: "minmax": the minimum becomes 0 and the maximum 1, and a constant map, which says nothing about
            the place, zeros. "max": negative values become 0 and the maximum 1; a map without positive values, zeros.

    Returns:
        The normalised maps.
    """
    result = np.zeros(maps.shape, dtype=np.float32)
    for plane, target in zip(maps.astype(np.float32), result, strict=True):
        low = plane.min() if normalization == "minmax" else np.float32(0)
        high = plane.max()
        if high > low:
            np.maximum(plane, low, out=target)
            target -= low
            target /= high - low
    return result


def aggregate(
    views: Sequence[Float[np.ndarray, "cls _ _"]], mirrored: Sequence[bool], *, height: int, width: int
) -> Float32[np.ndarray, "cls height width"]:
    """Mean of the maps of several views of one image, scaled and mirrored, on a common grid.

    Args:
        views: maps of each view, of the same classes, each on the grid of its own scale.
        mirrored: for each view, whether it was seen left to right; its maps are turned back.
        height: rows of the common grid.
        width: columns of the common grid.

    Returns:
        The mean of the resized maps.
    """
    assert len(views) == len(mirrored) > 0
    total = np.zeros((views[0].shape[0], height, width), dtype=np.float32)
    for maps, turned in zip(views, mirrored, strict=True):
        total += enlarge(maps[:, :, ::-1] if turned else maps, height, width)
    return total / len(views)


def released_combination(
    maps: Sequence[Float[np.ndarray, "cls h w"]], *, min_score: float = 0.1
) -> Float32[np.ndarray, "cls h w"]:
    """One map of each class from the maps of several pairings of an image, as in the authors' released code.

    Each map is clipped at 0 and divided by its maximum; the sum is divided by the number of pairings, including those
    that do not count, and truncated to a byte. The paper takes the plain mean over the references (§3.2) instead.

    Args:
        maps: one entry a pairing, unclipped, all on the image's own grid and not mirrored; the first always counts.
        min_score: a map after the first counts where the sigmoid of its spatial mean is over this, in [0, 1].

    Returns:
        Maps in [0, 1], in steps of 1/255.
    """
    assert len(maps) > 0
    total = np.zeros(maps[0].shape)
    for position, pairing in enumerate(maps):
        wide = pairing.astype(np.float64)
        scores = 1 / (1 + np.exp(-wide.mean(axis=(1, 2))))
        clipped = np.maximum(wide, 0)
        peaks = clipped.max(axis=(1, 2), initial=0) + 1e-8
        counts = (scores > min_score) | (position == 0)
        total += clipped * (counts / peaks)[:, None, None]
    return (np.floor(255 * total / len(maps)) / 255).astype(np.float32)
