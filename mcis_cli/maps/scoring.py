"""Scores from per-image counts: mean IoU of masks, and of maps at every threshold at once.

An image is counted into a few rows (level, target, predicted, number of pixels). Maps have a level for each pixel: how
many of the thresholds its strongest class is over. Their masks at all thresholds follow from the same rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from mcis_cli.errors import DataError
from mcis_cli.maps.metrics import ConfusionMatrix

IGNORE_INDEX = 255
Counts = Int64[np.ndarray, "row 4"]


def count_pixels(
    prediction: UInt8[np.ndarray, "height width"],
    target: UInt8[np.ndarray, "height width"],
    *,
    level: UInt8[np.ndarray, "height width"] | None = None,
) -> Counts:
    """Count the pixels of one image by (level, target, predicted); those whose target is 255 are dropped.

    Args:
        prediction: index image; 255 where a pseudo mask takes no side.
        target: ground truth, 0 … and 255.
        level: for maps, the number of thresholds that the pixel's class is over; 0 for masks.

    Returns:
        Rows (level, target, predicted, pixels), sorted.

    Raises:
        DataError: the sizes differ.
    """
    if prediction.shape != target.shape:
        raise DataError(
            f"prediction and ground truth differ in size: found {prediction.shape} and {target.shape}, expected equal "
            "sizes; see which masks do not fit their images with `mcis check`"
        )
    counted = target != IGNORE_INDEX
    code = target[counted].astype(np.int64) * 256 + prediction[counted]
    if level is not None:
        code += level[counted].astype(np.int64) * 65536
    codes, pixels = np.unique(code, return_counts=True)
    return np.stack([codes // 65536, codes // 256 % 256, codes % 256, pixels], axis=1).astype(np.int64)


def total_counts(rows: Iterable[Counts], num_levels: int = 1) -> Int64[np.ndarray, "level 256 256"]:
    """The sum of the counts of many images."""
    total = np.zeros((num_levels, 256, 256), dtype=np.int64)
    for counts in rows:
        np.add.at(total, (counts[:, 0], counts[:, 1], counts[:, 2]), counts[:, 3])
    return total


def at_threshold(total: Int64[np.ndarray, "level 256 256"], index: int) -> Int64[np.ndarray, "256 256"]:
    """Counts of the masks that maps give at threshold number `index`: what is not over it is background."""
    matrix: Int64[np.ndarray, "256 256"] = total[index + 1 :].sum(axis=0)
    matrix[:, 0] += total[: index + 1].sum(axis=(0, 2))
    return matrix


def scores(matrix: Int64[np.ndarray, "256 256"], num_classes: int) -> dict[str, Any]:
    """Scores of masks from their counts.

    Pixels on which a mask takes no side (255) count as missed: they are in the union of their true class. `coverage` is
    the share of the others, and `mean_iou_covered` the score on them alone.

    Returns:
        `mean_iou` and `mean_iou_covered` (fractions, or None), `iou` (a fraction a class, None for an empty union),
        `coverage`.
    """
    covered = ConfusionMatrix(num_classes)
    covered.matrix = matrix[:num_classes, :num_classes].copy()
    missed = matrix[:num_classes, IGNORE_INDEX]
    intersection = np.diagonal(covered.matrix)
    union = covered.matrix.sum(axis=0) + covered.matrix.sum(axis=1) - intersection + missed
    iou = [float(i / u) if u else None for i, u in zip(intersection, union, strict=True)]
    scored = [value for value in iou if value is not None]
    num_pixels = int(covered.matrix.sum() + missed.sum())
    return {
        "mean_iou": float(np.mean(scored)) if scored else None,
        "iou": iou,
        "coverage": 1 - int(missed.sum()) / num_pixels if num_pixels else None,
        "mean_iou_covered": None if np.isnan(covered.mean_iou()) else covered.mean_iou(),
    }


def sweep(
    total: Int64[np.ndarray, "level 256 256"], thresholds: Sequence[float], num_classes: int
) -> list[dict[str, Any]]:
    """Scores of maps at each threshold."""
    return [
        {"threshold": threshold, **scores(at_threshold(total, index), num_classes)}
        for index, threshold in enumerate(thresholds)
    ]
