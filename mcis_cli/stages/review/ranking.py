"""Scores and reasons of a review: from the terms of each mask to a list, the most likely wrong mask first.

The score is 1 minus the mean of the terms, all with the same weight: agreement with the mask of the maps alone,
certainty of the maps, border of the image without objects, and agreement with saliency and with a network if these were
given. `docs/explanation/results.md` has the rank correlation with true scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mcis_cli.errors import share_in_percent
from mcis_cli.stages import check, read_records
from mcis_cli.stages.review.declaration import ABSENT
from mcis_cli.store import Artifact

MAX_REASONS = 3
UNUSUAL = 0.25  # terms in this part of all images, the lowest, are reasons
FEW, LARGE, SMALL = 5, 2.0, 0.25  # a share is unusual beside the median of so many images, as a multiple of it


@dataclass(frozen=True)
class Reviewed:
    """A mask and how likely it is wrong.

    Attributes:
        image_id: of its image.
        score: in [0, 1]; higher for masks that are more likely wrong.
        reasons: the terms that stand out, the most unusual first, in words.
    """

    image_id: str
    score: float
    reasons: tuple[str, ...]


def ranking(review: Artifact) -> list[Reviewed]:
    """All masks of a review, the most likely wrong one first.

    Raises:
        DamagedError: its content is not what the stage writes.
    """
    check(review)
    names = ("background", *review.meta["class_names"])
    ids, values, by_value, of_image = [], [], [], []
    for image_id, fields in read_records(review):
        ids.append(image_id)
        values.append(fields["values"])
        by_value.append(fields["by_value"])
        of_image.append(fields["of_image"])
    image_terms = np.stack(of_image).astype(np.float64)
    means = np.stack([one[:, 1:].mean(axis=0, dtype=np.float64) for one in by_value])
    scores = 1 - _mean_of_present(np.concatenate([means, image_terms], axis=1))
    reasons = _Reasons(names, np.concatenate(values), np.concatenate(by_value), image_terms)
    starts = np.cumsum([0, *map(len, values)])
    found = [
        Reviewed(image_id, round(float(score), 4), reasons.of(number, range(starts[number], starts[number + 1])))
        for number, (image_id, score) in enumerate(zip(ids, scores, strict=True))
    ]
    return sorted(found, key=lambda one: (-one.score, one.image_id))


def _mean_of_present(terms: Float[np.ndarray, "image term"]) -> Float[np.ndarray, " image"]:
    is_present = terms != ABSENT
    return np.asarray(np.where(is_present, terms, 0).sum(axis=1) / is_present.sum(axis=1))


class _Reasons:
    """The terms of all masks, to find those that stand out in one."""

    def __init__(
        self,
        names: Sequence[str],
        values: Float[np.ndarray, " row"],
        by_value: Float[np.ndarray, "row term"],
        of_image: Float[np.ndarray, "image term"],
    ) -> None:
        """Rank each term among all images.

        Args:
            names: of mask values.
            values: the mask value of each row; an image has a row for background and for each tag.
            by_value: terms of rows, see `declaration.BY_VALUE`.
            of_image: terms of images, see `declaration.OF_IMAGE`.
        """
        self._names, self._values, self._by_value, self._of_image = names, values, by_value, of_image
        self._row_ranks, self._image_ranks = _ranks(by_value), _ranks(of_image)
        of_value = [by_value[values == value, 0] for value in range(len(names))]
        self._usual = [float(np.median(one)) if len(one) >= FEW else None for one in of_value]

    def of(self, image: int, rows: range) -> tuple[str, ...]:
        """The most unusual terms of an image; of several with the same words, one."""
        ranked = sorted([*self._of_rows(rows), *self._of_whole(image)])
        unusual = [words for rank, words in ranked if rank <= UNUSUAL]
        return tuple(unusual[:MAX_REASONS] or [ranked[0][1]])

    def _of_rows(self, rows: range) -> Iterator[tuple[float, str]]:
        for row in rows:
            share, usual = float(self._by_value[row, 0]), self._usual[self._values[row]]
            name = self._names[self._values[row]]
            if not share:
                yield 0.0, f"no pixel of {name}"
                continue
            if usual is not None and not SMALL * usual <= share <= LARGE * usual:
                yield (
                    self._row_ranks[row, 0],
                    f"{name} covers {share_in_percent(share)}, usually {share_in_percent(usual)}",
                )
            for place, what in ((1, "the maps alone"), (2, "the network")):
                if (term := float(self._by_value[row, place])) != ABSENT:
                    yield float(self._row_ranks[row, place]), f"{name}: IoU {share_in_percent(term)} with {what}"

    def _of_whole(self, image: int) -> Iterator[tuple[float, str]]:
        certainty, interior, saliency = self._of_image[image].tolist()
        ranks = self._image_ranks[image].tolist()
        yield ranks[0], f"the maps are only {share_in_percent(certainty)} certain"
        yield ranks[1], f"objects cover {share_in_percent(1 - interior)} of the image border"
        if saliency != ABSENT:
            yield ranks[2], f"objects: IoU {share_in_percent(saliency)} with saliency"


def _ranks(terms: Float[np.ndarray, "row term"]) -> Float[np.ndarray, "row term"]:
    """The part of all rows with a smaller or the same value, in (0, 1]."""
    ordered = np.sort(terms, axis=0)
    places = [np.searchsorted(ordered[:, term], terms[:, term], side="right") for term in range(terms.shape[1])]
    return np.asarray(np.stack(places, axis=1) / len(terms))
