"""The region sources, by their names in `pseudo.regions`; each is a file. Other names are folders, read by `files`."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.pseudo.regions import felzenszwalb, files, slic

SOURCES: Mapping[str, Callable[[PseudoConfig, Material], Regions]] = {
    "felzenszwalb": felzenszwalb.find,
    "slic": slic.find,
}


def with_regions(config: PseudoConfig, material: Material) -> Material:
    """The material with the regions of its image, if the settings have regions."""
    if config.regions is None:
        return material
    return replace(material, regions=SOURCES.get(config.regions, files.find)(config, material))
