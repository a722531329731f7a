"""Soft fusion: scores become probabilities, are combined with a network's, and a CRF starts from them."""

import numpy as np
from jaxtyping import Float32

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.crf import dense_crf
from mcis_cli.maps.pseudo import agreed, mask_of_probabilities, soft_scores, weighted, with_own_background
from mcis_cli.maps.regions import vote
from mcis_cli.stages.pseudo.backgrounds import BACKGROUNDS, normalised
from mcis_cli.stages.pseudo.material import Mask, Material

Probabilities = Float32[np.ndarray, "kept height width"]


def fuse(config: PseudoConfig, material: Material) -> Mask:
    """The mask of the highest probabilities, of maps, a network, or both, after a dense CRF and votes of regions if
    there are any."""
    if material.maps is None:
        assert material.predicted is not None, "a network takes the place of maps"
        probabilities = material.predicted
    else:
        probabilities = _of_maps(config, material)
        if material.predicted is not None:
            probabilities = agreed(probabilities, material.predicted, weight=config.network_weight)
    if config.crf and len(probabilities) > 1:
        assert material.image is not None, "read for the CRF"
        probabilities = dense_crf(material.image, probabilities, **config.crf_settings.model_dump())
    if material.regions is not None:
        probabilities = vote(probabilities, material.regions)
    return mask_of_probabilities(probabilities, material.classes, min_confidence=config.min_confidence)


def _of_maps(config: PseudoConfig, material: Material) -> Probabilities:
    maps = normalised(config, material)
    background = BACKGROUNDS[config.background].score(config, material, maps)
    if config.class_weights:
        maps = weighted(maps, material.names, config.class_weights)
    if material.trust is not None:
        assert material.saliency is not None, "what is trusted"
        weight, middle = config.saliency_weight, config.saliency_middle
        maps = with_own_background(maps, material.saliency, material.trust, weight=weight, middle=middle)
    return soft_scores(maps, background, sharpness=config.sharpness)
