"""Background is not salient: by the rules of the released code, or as a score that saliency changes."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import fuse_saliency, salient_background
from mcis_cli.stages.pseudo.material import Background, Maps, Mask, Material, Score, Size


def _mask(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    assert material.saliency is not None, "checked before"
    return fuse_saliency(
        maps,
        material.classes,
        material.saliency,
        foreground_threshold=config.foreground_threshold,
        conflict_threshold=config.conflict_threshold,
        salient_threshold=config.salient_threshold,
        confident_threshold=config.confident_threshold,
        min_foreground=config.min_foreground,
    )


def _score(config: PseudoConfig, material: Material, maps: Maps) -> Score:
    assert material.saliency is not None, "checked before"
    return salient_background(
        material.saliency,
        background_score=config.background_score,
        weight=config.saliency_weight,
        middle=config.saliency_middle,
    )


RULE = Background(
    _mask,
    _score,
    Size("background_score", (0.2, 0.3, 0.4, 0.5)),  # few, because the weight of saliency is fitted beside it
    size_of_hard=Size("foreground_threshold", (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)),
)
