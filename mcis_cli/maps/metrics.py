"""Mean intersection over union by one rule: a single confusion matrix over the whole split.

A class whose union is empty has no score (NaN) and is left out of the mean; pixels whose target is the ignore index are
dropped before anything is counted.

An image is counted into a few rows (level, target, predicted, number of pixels). Maps have a level for each pixel: how
many of the thresholds its strongest class is over. Their masks at all thresholds follow from the same rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8
from numpy.typing import ArrayLike, NDArray

from mcis_cli.errors import DataError


class ConfusionMatrix:
    """Counts of pixels by target class (rows) and predicted class (columns).

    Attributes:
        num_classes: foreground classes and background together.
        ignore_index: the target value that is dropped.
        matrix: the counts so far.

    Example:
        >>> confusion = ConfusionMatrix(3)
        >>> confusion.update(np.array([[0, 1]]), np.array([[0, 255]]))
        >>> confusion.iou()
        array([ 1., nan, nan])
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        assert num_classes >= 1, num_classes
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix: Int64[np.ndarray, "target predicted"] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, prediction: ArrayLike, target: ArrayLike) -> None:
        """Count the pixels of one image, or of several of a size.

        Args:
            prediction: class index of each pixel, 0 … num_classes − 1 wherever the target counts; an array of integers,
                or what NumPy makes one of, such as a tensor in main memory.
            target: true class index of each pixel, or `ignore_index`; the shape of `prediction`.

        Raises:
            DataError: the shapes differ, or a value is no integer or out of range. Nothing is counted then.
        """
        prediction, target = _indices("prediction", prediction), _indices("ground truth", target)
        if prediction.shape != target.shape:
            raise DataError(
                f"prediction and ground truth differ in size: found {_size(prediction)} and {_size(target)}, expected "
                "equal sizes; see which masks do not fit their images with `mcis check`"
            )
        counted = target != self.ignore_index
        rows, columns = target[counted].astype(np.int64), prediction[counted].astype(np.int64)
        self._check_range("ground truth", rows, f" or {self.ignore_index}", "`mcis check` or the list of classes")
        self._check_range("prediction", columns, "", "the list of classes the prediction was made with")
        cells = np.bincount(rows * self.num_classes + columns, minlength=self.num_classes**2)
        self.matrix = self.matrix + cells.reshape(self.matrix.shape)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of another matrix to this one; the other is left as it is."""
        self._assert_like(other)
        self.matrix = self.matrix + other.matrix

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        self._assert_like(other)
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> Float64[np.ndarray, " num_classes"]:
        """Intersection over union of each class, in [0, 1]; NaN where the union is empty."""
        intersection = np.diagonal(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - intersection
        iou = np.full(self.num_classes, np.nan)
        np.divide(intersection, union, out=iou, where=union > 0)
        return iou

    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that have one, in [0, 1]; NaN if none has."""
        iou = self.iou()
        scored = iou[~np.isnan(iou)]
        return float(scored.mean()) if scored.size else float("nan")

    def _check_range(self, name: str, values: Int64[np.ndarray, " pixel"], also: str, remedy: str) -> None:
        wrong = values[(values < 0) | (values >= self.num_classes)]
        if wrong.size:
            raise DataError(
                f"{name} holds a value that is no class: found {int(wrong[0])} ({wrong.size} such pixels), expected "
                f"0 to {self.num_classes - 1}{also}; compare with {remedy}"
            )

    def _assert_like(self, other: "ConfusionMatrix") -> None:
        mine, theirs = (self.num_classes, self.ignore_index), (other.num_classes, other.ignore_index)
        assert mine == theirs, f"matrices of different classes: {mine} and {theirs}"


def _indices(name: str, mask: ArrayLike) -> Integer[np.ndarray, "..."]:
    found: NDArray[np.generic] = np.asarray(mask)
    if found.dtype.kind not in "biu":
        raise DataError(
            f"{name} holds {found.dtype}, expected integers: the index of a class; take the arg max of scores"
        )
    return found


def _size(mask: Integer[np.ndarray, "..."]) -> str:
    return "×".join(str(side) for side in mask.shape)


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
