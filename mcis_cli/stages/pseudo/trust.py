"""How far each class is to trust saliency: as far as its maps agree with it, over all images."""

from collections.abc import Callable, Sequence

import numpy as np

from mcis_cli.config import PseudoConfig, RunOptions
from mcis_cli.data.loading import ordered_map
from mcis_cli.maps.pseudo import agreement
from mcis_cli.stages.pseudo.fusing import Material, normalised


def class_trust(
    config: PseudoConfig,
    ids: Sequence[str],
    read: Callable[[str], Material],
    class_names: Sequence[str],
    options: RunOptions,
) -> tuple[float, ...]:
    """The part of saliency's weight that each class takes, in [0, 1], and a note of those that do not take all.

    It is the mean correlation of the maps of a class with saliency (`maps.pseudo.agreement`), over the images that have
    both, on the way from 0 to `trusted_correlation`. What saliency overlooks, as tables and plants, is found by the
    maps alone so. No ground truth is asked. A class without such an image trusts in full.

    Args:
        config: settings; `trusted_correlation` is over 0.
        ids: all images with maps, also those of other shards: the trust is of the whole set.
        read: the maps of an image, and its saliency.
        class_names: of the foreground, by index.
        options: how to run on this machine.
    """
    total, count = np.zeros(len(class_names)), np.zeros(len(class_names), dtype=np.int64)

    def look(image_id: str) -> list[tuple[int, float | None]]:
        material = read(image_id)
        if material.saliency is None:
            return []
        return list(zip(material.classes, agreement(normalised(config, material), material.saliency), strict=True))

    for found in ordered_map(look, ids, workers=options.workers):
        for index, correlation in found:
            if correlation is not None:
                total[index] += correlation
                count[index] += 1
    mean = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    trust = tuple(float(part) for part in np.clip(mean / config.trusted_correlation, 0, 1))
    in_part = sorted((part, name) for part, name in zip(trust, class_names, strict=True) if part < 1)
    if in_part:
        told = ", ".join(f"{name} {100 * part:.0f} %" for part, name in in_part)
        options.reporter.note(f"classes that trust saliency in part: {told}")
    return trust
