"""Background has the same score everywhere: `background_score`."""

import numpy as np

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import fuse_constant
from mcis_cli.stages.pseudo.material import Background, Maps, Mask, Material, Score, Size


def _mask(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    return fuse_constant(maps, material.classes, background_score=config.background_score)


def _score(config: PseudoConfig, material: Material, maps: Maps) -> Score:
    return np.full(material.size, config.background_score, dtype=np.float32)


RULE = Background(
    _mask, _score, Size("background_score", (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8))
)
