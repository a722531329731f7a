"""What a background rule is."""

from collections.abc import Callable
from typing import NamedTuple

from mcis_cli.config import PseudoConfig
from mcis_cli.stages.pseudo.material import Maps, Mask, Material, Score


class Background(NamedTuple):
    """A rule that separates background from objects.

    Attributes:
        mask: for hard fusion: from maps at the image's size to an index image.
        score: for soft fusion: the score of background, on the scale of the maps.
        keeps_scale: whether maps are compared as they are, not each normalised to [0, 1].
    """

    mask: Callable[[PseudoConfig, Material, Maps], Mask]
    score: Callable[[PseudoConfig, Material, Maps], Score]
    keeps_scale: bool = False
