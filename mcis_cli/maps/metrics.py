"""Mean intersection over union by one rule: a single confusion matrix over the whole split.

A class whose union is empty has no score (NaN) and is left out of the mean; pixels whose target is the ignore index are
dropped before anything is counted.
"""

import numpy as np
from jaxtyping import Float64, Int64, Integer
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
