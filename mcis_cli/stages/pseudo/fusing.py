"""The pseudo mask of one image: of its maps, a background cue, and what a network predicts where one is asked."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.crf import dense_crf, refine_mask
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import (
    IGNORE_INDEX,
    agreed,
    fuse_constant,
    fuse_power,
    fuse_saliency,
    mask_of_probabilities,
    power_background,
    salient_background,
    soft_scores,
    with_own_background,
)
from mcis_cli.store import Record

Maps = Float32[np.ndarray, "cls height width"]
Mask = UInt8[np.ndarray, "height width"]


@dataclass(frozen=True)
class Material:
    """What one mask is made of.

    Attributes:
        image_id: whose mask it is.
        maps: one for each of its classes, at the resolution they are stored in, unnormalised.
        classes: the foreground class of each map, from 0.
        size: height and width of the image.
        saliency: in [0, 1]; None without a map, or where none is looked at.
        image: the photograph, for the CRF.
        trust: of each class in saliency, in [0, 1]; None where all trust it in full.
        predicted: probabilities of a network, of background and the classes.
    """

    image_id: str
    maps: Float32[np.ndarray, "cls h w"]
    classes: tuple[int, ...]
    size: tuple[int, int]
    saliency: Float32[np.ndarray, "height width"] | None
    image: UInt8[np.ndarray, "height width 3"] | None
    trust: tuple[float, ...] | None = None
    predicted: Float32[np.ndarray, "kept height width"] | None = None


def normalised(config: PseudoConfig, material: Material) -> Maps:
    """The maps at the image's size, each in [0, 1]."""
    if config.background == "affinity":  # the walk has left its maps on the scale of the background
        return enlarge(material.maps, *material.size)
    return normalise(enlarge(material.maps, *material.size, config.enlarging), config.normalization)


def make_mask(config: PseudoConfig, material: Material) -> Record:
    """The pseudo mask of one image; wholly ignored where saliency is asked for and there is none."""
    maps = normalised(config, material)
    if config.background == "saliency" and material.saliency is None:
        mask = np.full(material.size, IGNORE_INDEX, dtype=np.uint8)
    else:
        mask = (_soft if config.fusion == "soft" else _hard)(config, material, maps)
    return material.image_id, {"mask": mask, "classes": np.array(material.classes, dtype=np.int32)}


def _hard(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    """The mask of the highest scores, after a dense CRF on its labels where one is asked for."""
    if config.background == "constant":
        mask = fuse_constant(maps, material.classes, background_score=config.background_score)
    elif config.background == "affinity":
        mask = fuse_constant(maps, material.classes, background_score=config.background_threshold)
    elif config.background == "power":
        mask = fuse_power(maps, material.classes, background_power=config.background_power)
    else:
        assert material.saliency is not None, "looked at before"
        mask = fuse_saliency(
            maps,
            material.classes,
            material.saliency,
            foreground_threshold=config.foreground_threshold,
            conflict_threshold=config.conflict_threshold,
            salient_threshold=config.salient_threshold,
            confident_threshold=config.confident_threshold,
            min_foreground=config.min_foreground,
        )
    if material.image is None:
        return mask
    return refine_mask(material.image, mask, confidence=config.crf_confidence, **config.crf_settings.model_dump())


def _soft(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    """The mask of the highest probabilities, a network's among them, after a dense CRF where one is asked for."""
    background = _background(config, material, maps)
    if material.trust is not None:
        assert material.saliency is not None, "looked at before"
        weight, middle = config.saliency_weight, config.saliency_middle
        maps = with_own_background(maps, material.saliency, material.trust, weight=weight, middle=middle)
    probabilities = soft_scores(maps, background, sharpness=config.sharpness)
    if material.predicted is not None:
        probabilities = agreed(probabilities, material.predicted, weight=config.network_weight)
    if material.image is not None and len(maps):
        probabilities = dense_crf(material.image, probabilities, **config.crf_settings.model_dump())
    return mask_of_probabilities(probabilities, material.classes, min_confidence=config.min_confidence)


def _background(config: PseudoConfig, material: Material, maps: Maps) -> Float32[np.ndarray, "height width"]:
    if config.background == "power":
        return power_background(maps, config.background_power)
    if config.background == "saliency":
        assert material.saliency is not None, "looked at before"
        return salient_background(
            material.saliency,
            background_score=config.background_score,
            weight=config.saliency_weight,
            middle=config.saliency_middle,
        )
    score = config.background_threshold if config.background == "affinity" else config.background_score
    return np.full(material.size, score, dtype=np.float32)
