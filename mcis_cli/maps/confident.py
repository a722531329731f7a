"""Confident regions of localization maps (Ahn & Kwak, CVPR 2018): what AffinityNet learns alike and unlike from.

Background scores (1 − the strongest map) to a power. A small power makes much of the image background: what is of a
class all the same, surely is. A large one makes little of it background: that surely is. Both after a dense CRF.
"""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import Float, Int64, UInt8

from mcis_cli.maps.crf import Terms, dense_crf

BACKGROUND, IGNORE_INDEX = 0, 255


def confident_regions(
    image: UInt8[np.ndarray, "height width 3"],
    maps: Float[np.ndarray, "cls height width"],
    classes: Sequence[int],
    *,
    object_power: float,
    background_power: float,
    **terms: Unpack[Terms],
) -> UInt8[np.ndarray, "height width"]:
    """Index image of what the maps are sure of: a class, or background; the rest is 255.

    Args:
        image: RGB photograph.
        maps: normalised maps in [0, 1], one a class that the image has.
        classes: the foreground class of each map, from 0.
        object_power: over 0; 4 in AffinityNet.
        background_power: over `object_power`; 24 to 32 there.
        **terms: of the CRF, see `maps.crf.Terms`.
    """
    assert len(maps) == len(classes), f"{len(maps)} maps for the classes {classes}"
    if not len(maps):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    strict, generous = (_strongest(image, maps, power, terms) for power in (object_power, background_power))
    values = np.array([IGNORE_INDEX, *(index + 1 for index in classes)], dtype=np.uint8)
    return np.where(generous == 0, np.uint8(BACKGROUND), values[strict])


def _strongest(
    image: UInt8[np.ndarray, "height width 3"],
    maps: Float[np.ndarray, "cls height width"],
    power: float,
    terms: Terms,
) -> Int64[np.ndarray, "height width"]:
    """0 where background wins, else the number of the map that does, from 1."""
    background = (1 - maps.max(axis=0, keepdims=True)) ** power
    return np.asarray(dense_crf(image, np.concatenate([background, maps]), **terms).argmax(axis=0))
