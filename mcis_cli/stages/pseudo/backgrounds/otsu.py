"""Background has a score of each image's own: Otsu's threshold of its highest map, times `otsu_factor`."""

import numpy as np

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import fuse_constant, otsu_threshold
from mcis_cli.stages.pseudo.material import Background, Maps, Mask, Material, Score, Size


def _own_score(config: PseudoConfig, maps: Maps) -> float:
    return config.otsu_factor * otsu_threshold(maps.max(axis=0))


def _mask(config: PseudoConfig, material: Material, maps: Maps) -> Mask:
    return fuse_constant(maps, material.classes, background_score=_own_score(config, maps))


def _score(config: PseudoConfig, material: Material, maps: Maps) -> Score:
    return np.full(material.size, _own_score(config, maps), dtype=np.float32)


RULE = Background(_mask, _score, Size("otsu_factor", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)))
