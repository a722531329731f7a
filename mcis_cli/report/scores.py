"""Scores of one subject for the page: of classes, of images, and which classes are confused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from mcis_cli.maps.metrics import at_threshold, total_counts
from mcis_cli.stages import kind_of, read_records
from mcis_cli.stages.evaluate.run import describe, metrics
from mcis_cli.stages.plan.lineage import beyond_tags
from mcis_cli.stages.stage import IGNORE_INDEX
from mcis_cli.store import Artifact, Store


@dataclass(frozen=True)
class Scores:
    """The scores of one subject by `mcis eval`.

    Attributes:
        artifact: of `eval`.
        metrics: see `stages.evaluate.metrics`; its `iou` is by class name, background first.
        confusion: pixels by true class (rows) and prediction (columns); the last column counts ignored pixels of a
            mask. Maps are at the threshold of their score.
        images: mean IoU of each image by id, see `image_score`.
        beyond: what it rests on beside tags, see `beyond_tags`; empty if on nothing.
    """

    artifact: Artifact
    metrics: Mapping[str, Any]
    confusion: Int64[np.ndarray, "target predicted"]
    images: Mapping[str, float]
    beyond: str = ""

    @property
    def described(self) -> str:
        """What exactly was measured."""
        return describe(self.metrics, self.beyond)

    @property
    def title(self) -> str:
        """The scored subject, in words."""
        return kind_of(self.metrics["subject"]) or ""


def read_scores(artifact: Artifact, store: Store) -> Scores:
    """The scores of an `eval` artifact, whose lineage is in the store.

    Raises:
        DamagedError: its content is not what that stage writes.
    """
    found = metrics(artifact)
    thresholds = artifact.meta["settings"].get("thresholds", [])
    chosen = thresholds.index(found["threshold"]) if thresholds else None
    records = [(image_id, fields["counts"]) for image_id, fields in read_records(artifact)]
    refined = bool(artifact.meta["settings"].get("crf"))  # its counts before the CRF have their own level
    total = total_counts((counts for _, counts in records), len(thresholds) + 1 + refined)
    matrix = total[0] if chosen is None else at_threshold(total, chosen)
    num_classes = len(artifact.meta["class_names"]) + 1
    kept = [*range(num_classes), IGNORE_INDEX]
    scores = {image_id: image_score(counts, chosen) for image_id, counts in records}
    return Scores(
        artifact=artifact,
        metrics=found,
        confusion=matrix[:num_classes, kept],
        images={image_id: score for image_id, score in scores.items() if score is not None},
        beyond=beyond_tags(artifact, store),
    )


def image_score(counts: Int64[np.ndarray, "row 4"], threshold_index: int | None = None) -> float | None:
    """Mean IoU of one image over the classes that its ground truth or its mask has, in [0, 1]; None without pixels.

    Args:
        counts: rows (level, target, predicted, pixels), see `maps.metrics`.
        threshold_index: for maps, the number of the threshold that a level must exceed, otherwise it is background.
            None for masks and networks, whose rows of level 0 count.
    """
    level, target, predicted, pixels = counts[counts[:, 0] == 0].T if threshold_index is None else counts.T
    if threshold_index is not None:
        predicted = np.where(level > threshold_index, predicted, 0)
    hit = np.bincount(target, np.where(target == predicted, pixels, 0), minlength=256)
    union = np.bincount(target, pixels, minlength=256) + np.bincount(predicted, pixels, minlength=256) - hit
    union[IGNORE_INDEX] = 0  # not a class: undecided pixels are in the union of their true one
    present = union > 0
    return float((hit[present] / union[present]).mean()) if present.any() else None


@dataclass(frozen=True)
class Mistake:
    """A class that is predicted as another one: the share of its pixels, in [0, 1]."""

    target: int
    predicted: int
    share: float


def mistakes(scores: Scores, *, count: int) -> Sequence[Mistake]:
    """The most frequent mistakes, as shares of the pixels of the true class."""
    shares = confusion_shares(scores)
    np.fill_diagonal(shares, 0)
    order = np.argsort(shares, axis=None)[::-1][:count]
    places = [divmod(int(place), shares.shape[1]) for place in order]
    found = [Mistake(target, predicted, float(shares[target, predicted])) for target, predicted in places]
    return [one for one in found if one.share >= 0.005]


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def confusion_shares(scores: Scores) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The confusion matrix with rows that sum to one; zeros where a class has no pixels."""
    rows = scores.confusion.sum(axis=1, keepdims=True)
    shares = np.zeros(scores.confusion.shape)
    np.divide(scores.confusion, rows, out=shares, where=rows > 0)
    return shares
