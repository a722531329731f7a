"""Background scores (1 − max over the maps) to the power `background_power`."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import fuse_power, power_background
from mcis_cli.stages.pseudo.material import Background, Maps, Mask, Material, Score, Size


def _mask(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    return fuse_power(maps, material.classes, background_power=config.background_power)


def _score(config: PseudoConfig, material: Material, maps: Maps) -> Score:
    return power_background(maps, config.background_power)


RULE = Background(_mask, _score, Size("background_power", (1, 2, 3, 4, 6, 8, 12, 16), grows=True))
