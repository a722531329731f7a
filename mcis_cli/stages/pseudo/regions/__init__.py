"""The region sources, by their names in `pseudo.regions`; each is a file. Other names are folders, read by `files`."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions, vote
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.pseudo.regions import felzenszwalb, files, slic

SOURCES: Mapping[str, Callable[[PseudoConfig, Material], Regions]] = {
    "felzenszwalb": felzenszwalb.find,
    "slic": slic.find,
}


def with_votes(config: PseudoConfig, material: Material) -> Material:
    """The material with the regions of its image, if the settings have regions, and its cues averaged in them.

    The maps are averaged when they have the image's size, see `backgrounds.normalised`.
    """
    if config.regions is None:
        return material
    regions = SOURCES.get(config.regions, files.find)(config, material)
    saliency, predicted = material.saliency, material.predicted
    return replace(
        material,
        regions=regions,
        saliency=None if saliency is None else vote(saliency[None], regions)[0],
        predicted=None if predicted is None else vote(predicted, regions),
    )
