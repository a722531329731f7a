"""How far each class is to trust saliency: as far as its maps agree with it, over all images.

So maps decide alone about objects that saliency overlooks, such as tables and plants. No ground truth is used.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mcis_cli.data.loading import ordered_map
from mcis_cli.maps.pseudo import agreement
from mcis_cli.stages.pseudo.backgrounds import normalised
from mcis_cli.stages.pseudo.cues import saliency
from mcis_cli.stages.pseudo.evidence import Evidence
from mcis_cli.stages.pseudo.material import Material


def open_cue(evidence: Evidence) -> Callable[[Material], Material] | None:
    """Measure the trust of each class, if the settings request it and saliency has a weight."""
    config = evidence.config
    if not saliency.is_used(evidence) or config.fusion != "soft" or not config.trusted_correlation:
        return None
    trust = class_trust(evidence)

    def add(material: Material) -> Material:
        if material.saliency is None:
            return material
        return replace(material, trust=tuple(trust[index] for index in material.classes))

    return add


def class_trust(evidence: Evidence) -> tuple[float, ...]:
    """The part of saliency's weight that each class uses, in [0, 1], and a note of classes with less than 1.

    It is the mean correlation of the maps of a class with saliency (`maps.pseudo.agreement`), over all images that have
    both, including those of other shards, as a part of `trusted_correlation`. A class without such an image trusts in
    full.
    """
    config = evidence.config
    # Reads no photographs, and no regions.
    unseen = replace(evidence, config=config.model_copy(update={"crf": False, "regions": None}), regions=None)
    add_saliency = saliency.open_cue(unseen)
    assert add_saliency is not None, "trust is in saliency"
    class_names = evidence.images.class_names
    total, count = np.zeros(len(class_names)), np.zeros(len(class_names), dtype=np.int64)

    def look(image_id: str) -> list[tuple[int, float | None]]:
        material = add_saliency(unseen.material(image_id))
        if material.saliency is None:
            return []
        return list(zip(material.classes, agreement(normalised(config, material), material.saliency), strict=True))

    for found in ordered_map(look, evidence.images.ids, workers=evidence.options.workers):
        for index, correlation in found:
            if correlation is not None:
                total[index] += correlation
                count[index] += 1
    mean = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    trust = tuple(float(part) for part in np.clip(mean / config.trusted_correlation, 0, 1))
    in_part = sorted((part, name) for part, name in zip(trust, class_names, strict=True) if part < 1)
    if in_part:
        listed = ", ".join(f"{name} {100 * part:.0f} %" for part, name in in_part)
        evidence.options.reporter.note(f"classes that trust saliency in part: {listed}")
    return trust
