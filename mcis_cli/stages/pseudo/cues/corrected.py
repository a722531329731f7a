"""Masks that people corrected: they override maps, saliency and network."""

from collections.abc import Callable
from dataclasses import replace

from mcis_cli.errors import DataError
from mcis_cli.stages import read_record
from mcis_cli.stages.pseudo.evidence import Evidence
from mcis_cli.stages.pseudo.material import Material


def open_cue(evidence: Evidence) -> Callable[[Material], Material] | None:
    """Read the corrected mask of each image that has one."""
    corrected = evidence.corrected
    if corrected is None:
        return None

    def add(material: Material) -> Material:
        if material.image_id not in corrected:
            return material
        mask = read_record(corrected, material.image_id)["mask"]
        if mask.shape != material.size:
            raise DataError(
                f"the mask of {material.image_id!r} in {corrected.path.name} is of another image: found {mask.shape}, "
                f"expected {material.size}; correct and import it again"
            )
        return replace(material, corrected=mask)

    return add
