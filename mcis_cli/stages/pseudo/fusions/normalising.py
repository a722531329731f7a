"""Maps at the size of their image, on the scale that the background is compared on."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages.pseudo.backgrounds import BACKGROUNDS
from mcis_cli.stages.pseudo.material import Maps, Material


def normalised(config: PseudoConfig, material: Material) -> Maps:
    """The maps at the image's size, each in [0, 1]."""
    assert material.maps is not None, "asked of maps alone"
    if BACKGROUNDS[config.background].keeps_scale:
        return enlarge(material.maps, *material.size)
    return normalise(enlarge(material.maps, *material.size, config.enlarging), config.normalization)
