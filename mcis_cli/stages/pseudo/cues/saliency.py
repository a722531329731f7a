"""Saliency maps as a cue of background: those of the image set, or those that were made or imported."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mcis_cli.errors import DataError
from mcis_cli.stages.pseudo.declaration import missing_maps
from mcis_cli.stages.pseudo.evidence import Evidence
from mcis_cli.stages.pseudo.material import Material, Score


def is_used(evidence: Evidence) -> bool:
    """Whether saliency determines the background."""
    return evidence.maps is not None and evidence.config.background == "saliency"


def open_cue(evidence: Evidence) -> Callable[[Material], Material] | None:
    """Read the saliency map of each image that has one."""
    if not is_used(evidence):
        return None
    return lambda material: replace(material, saliency=_of_image(evidence, material.image_id))


def missing(evidence: Evidence) -> list[str]:
    """The images without a saliency map, if saliency is used.

    Raises:
        DataError: there are such images, and the settings do not allow it.
    """
    if not is_used(evidence):
        return []
    images, imported = evidence.images, evidence.saliency
    if imported is not None:
        absent = sorted(set(images.ids) - set(imported.ids))
    else:
        absent = [entry.id for entry in images.entries if entry.saliency is None]
    if absent and not evidence.config.allow_missing_saliency:
        raise DataError(missing_maps(absent, len(images.ids)))
    return absent


def _of_image(evidence: Evidence, image_id: str) -> Score | None:
    entry, imported = evidence.images[image_id], evidence.saliency
    if imported is None:
        return evidence.images.read_saliency(image_id) if entry.saliency is not None else None
    if image_id not in imported:
        return None
    saliency = imported.read(image_id)["saliency"]
    if saliency.shape != (entry.height, entry.width):
        raise DataError(
            f"the saliency map of {image_id!r} in {imported.path.name} is of another image: found {saliency.shape}, "
            f"expected {(entry.height, entry.width)}; make or import the maps again"
        )
    return saliency.astype(np.float32) / np.float32(255)
