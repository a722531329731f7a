"""How much of the pseudo masks is foreground, over all and by class, and what to change if that looks wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcis_cli.config import PseudoConfig, Reporter
from mcis_cli.errors import share_in_percent
from mcis_cli.stages.pseudo.backgrounds import size_of
from mcis_cli.stages.stage import IGNORE_INDEX
from mcis_cli.store import Artifact, Record

LARGE, SMALL = 0.6, 0.02  # shares of foreground beyond which masks look wrong


class Shares:
    """Counts pixels of masks. A function of the masks, so it is stored in the provenance, not in the identity.

    Attributes:
        facts: `foreground`, the share of all pixels; `classes`, by name the share in the images that are tagged with a
            class.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.facts: dict[str, Any] = {"foreground": 0.0, "classes": {}}
        self._names = class_names
        self._pixels = self._foreground = 0
        self._own = np.zeros(len(class_names), dtype=np.int64)
        self._all = np.zeros(len(class_names), dtype=np.int64)

    def add(self, record: Record) -> None:
        """Add a mask."""
        mask, classes = record[1]["mask"], record[1]["classes"]
        counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
        self._pixels += mask.size
        self._foreground += int(counts[1:IGNORE_INDEX].sum())
        self._own[classes] += counts[classes + 1]
        self._all[classes] += mask.size
        self.facts["foreground"] = round(self._foreground / self._pixels, 4)
        seen = np.flatnonzero(self._all)
        self.facts["classes"] = {self._names[k]: round(float(self._own[k] / self._all[k]), 4) for k in seen.tolist()}


def report_shares(masks: Artifact, config: PseudoConfig, reporter: Reporter) -> None:
    """Print the share of foreground and its extremes by class, and what to change if it looks wrong."""
    facts: Mapping[str, Any] = masks.provenance.get("shares", {})  # older masks lack it
    of_classes: Mapping[str, float] = facts.get("classes", {})
    if not of_classes:
        return
    share = float(facts["foreground"])
    words = f"pseudo: {share_in_percent(share)} of all pixels are foreground"
    lowest, highest = (choose(of_classes, key=lambda name: of_classes[name]) for choose in (min, max))
    if of_classes[lowest] < of_classes[highest]:
        words += f"; by class from {lowest}, {share_in_percent(of_classes[lowest])} of its images, to {highest}, "
        words += share_in_percent(of_classes[highest])
    if share > LARGE or share < SMALL:
        is_large = share > LARGE
        name, _, grows = size_of(config)
        change = "raise" if grows != is_large else "lower"
        size = "large" if is_large else "small"
        now = f"{config.flag_of(name)} (now {getattr(config, name):g})"
        words += f". The masks look too {size}: {change} {now}, which retrains nothing"
    reporter.note(words)
