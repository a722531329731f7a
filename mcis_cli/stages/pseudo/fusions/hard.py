"""Hard fusion: the highest score wins, and a CRF starts from its mask."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.crf import refine_mask
from mcis_cli.stages.pseudo.backgrounds import BACKGROUNDS, normalised
from mcis_cli.stages.pseudo.material import Mask, Material


def fuse(config: PseudoConfig, material: Material) -> Mask:
    """The mask of the highest scores, after a dense CRF on its labels if the settings have one."""
    mask = BACKGROUNDS[config.background].mask(config, material, normalised(config, material))
    if not config.crf:
        return mask
    assert material.image is not None, "read for the CRF"
    return refine_mask(material.image, mask, confidence=config.crf_confidence, **config.crf_settings.model_dump())
