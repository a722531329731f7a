"""Checks and words that the declarations of several stages share."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import first_few
from mcis_cli.stages.stage import IGNORE_INDEX, Fields, Lack
from mcis_cli.store import Artifact
from mcis_cli.store.files import damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def lacking_truth(images: Catalogue) -> Lack | None:
    """The lack of ground truth, if any."""
    without = [entry.id for entry in images.entries if entry.mask is None]
    if not without:
        return None
    return Lack(
        f"ground truth missing for {len(without)} of {len(images)} images of split {images.split_name!r} "
        f"({first_few(without)}): expected a mask each; add them, or choose another split"
    )


def refuse_unlisted(artifact: Artifact, backbone: str) -> None:
    """Check that a backbone of timm's is one that timm lists.

    Raises:
        DamagedError: it is not.
    """
    if backbone.startswith("timm:"):
        from mcis_cli.models.timm_networks import is_listed  # imports torch

        if not is_listed(backbone.removeprefix("timm:")):
            raise damaged(artifact.path, f"its backbone is {backbone!r:.80}", "a network that this timm lists")


def ascend(classes: "NDArray[Any]", num_foreground: int) -> bool:
    """Whether these are indices of foreground classes, in ascending order and none twice."""
    inside = bool(((classes >= 0) & (classes < num_foreground)).all())
    return inside and bool((classes[1:] > classes[:-1]).all())


def fault_of_maps(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    """The fault of a record of maps, or None: `maps` (n, h, w) must be finite, `classes` (n) ascending."""
    maps, classes = fields["maps"], fields["classes"]
    if maps.shape[0] != len(classes) or (len(classes) and not maps.size):
        return f"maps of the shape {maps.shape} for {len(classes)} classes"
    if not ascend(classes, len(meta["class_names"])):
        return "classes that are unknown or repeated"
    return None if (abs(maps) < math.inf).all() else "values that are not finite"


def fault_of_mask(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    """The fault of a record with a `mask` (H, W), or None: it must hold 0, classes from 1, and 255."""
    mask = fields["mask"]
    return None if ((mask <= len(meta["class_names"])) | (mask == IGNORE_INDEX)).all() else "a value that is no class"


def maps_measured(metrics: Mapping[str, Any]) -> Sequence[str]:
    """How scores of maps were measured."""
    chosen = " (chosen with ground truth)" if metrics["threshold_chosen_with_ground_truth"] else ""
    return (f"background threshold {metrics['threshold']:g}{chosen}",)
