"""Which masks look wrong, as far as they show it without ground truth: by the share of the smallest of their classes.

A tag with hardly a pixel was missed, and a background with hardly a pixel was flooded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcis_cli.stages.stage import IGNORE_INDEX


@dataclass(frozen=True)
class Coverage:
    """The class with the fewest pixels of a mask, among background and the tags of its image.

    Attributes:
        value: of the class in masks; 0 is background.
        share: of all pixels, in [0, 1]; masks with a small one are doubtful.
    """

    value: int
    share: float

    def in_words(self, class_names: Sequence[str]) -> str:
        """One line; `class_names` are of the foreground."""
        name = class_names[self.value - 1] if self.value else "background"
        percent = f"{100 * self.share:.{0 if self.share >= 0.1 else 1}f}"
        return f"{name} covers {percent} %" if self.share else f"no pixel of {name}"


def coverage_of(mask: NDArray[np.uint8], labels: Sequence[int]) -> Coverage:
    """Measure a mask, an index image, of an image with these labels, classes from 0."""
    counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
    value = min((0, *(label + 1 for label in labels)), key=lambda one: counts[one])
    return Coverage(value, float(counts[value] / mask.size))
