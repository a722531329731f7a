"""The background rules, by their names in `pseudo.background`; each is a file."""

from collections.abc import Mapping

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages.pseudo.backgrounds import affinity, constant, otsu, power, saliency
from mcis_cli.stages.pseudo.material import Background, Maps, Material, Size

BACKGROUNDS: Mapping[str, Background] = {
    "affinity": affinity.RULE,
    "constant": constant.RULE,
    "otsu": otsu.RULE,
    "power": power.RULE,
    "saliency": saliency.RULE,
}


def size_of(config: PseudoConfig) -> Size:
    """The setting that determines how large masks are with these settings."""
    rule = BACKGROUNDS[config.background]
    return rule.size_of_hard if rule.size_of_hard and config.fusion == "hard" else rule.size


def normalised(config: PseudoConfig, material: Material) -> Maps:
    """The maps at the image's size, each in [0, 1], the scale of the background."""
    assert material.maps is not None, "called for maps alone"
    if BACKGROUNDS[config.background].keeps_scale:
        return enlarge(material.maps, *material.size)
    return normalise(enlarge(material.maps, *material.size, config.enlarging), config.normalization)
