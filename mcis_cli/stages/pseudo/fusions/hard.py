"""Hard fusion: the highest score wins, and a CRF starts from its mask."""

from dataclasses import replace

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.crf import refine_mask
from mcis_cli.maps.regions import vote
from mcis_cli.stages.pseudo.backgrounds import BACKGROUNDS, normalised
from mcis_cli.stages.pseudo.material import Mask, Material


def fuse(config: PseudoConfig, material: Material) -> Mask:
    """The mask of the highest scores, averaged in regions if there are any, after a dense CRF on its labels if the
    settings have one."""
    maps, regions = normalised(config, material), material.regions
    if regions is not None:
        maps = vote(maps, regions)
        if material.saliency is not None:
            material = replace(material, saliency=vote(material.saliency[None], regions)[0])
    mask = BACKGROUNDS[config.background].mask(config, material, maps)
    if not config.crf:
        return mask
    assert material.image is not None, "read for the CRF"
    return refine_mask(material.image, mask, confidence=config.crf_confidence, **config.crf_settings.model_dump())
