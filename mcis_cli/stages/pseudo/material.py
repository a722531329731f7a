"""The material of one pseudo mask: maps and cues."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions

Maps = Float32[np.ndarray, "cls height width"]
Mask = UInt8[np.ndarray, "height width"]
Score = Float32[np.ndarray, "height width"]


class RegionFile(NamedTuple):
    """The path and the bytes of a file of regions."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Material:
    """The inputs of one mask.

    Attributes:
        image_id: whose mask it is.
        maps: one for each of its classes, at the resolution they are stored in, unnormalised; None in a second round
            without maps.
        classes: the foreground class of each map, from 0; without maps, the tags.
        names: of these classes.
        size: height and width of the image.
        saliency: in [0, 1]; None without a map, or if the background does not use it.
        image: the photograph, for the CRF, or for regions of it.
        trust: of each class in saliency, in [0, 1]; None if all trust it in full.
        predicted: probabilities of a network, of background and the classes.
        region_file: the regions of another tool.
        regions: the regions that vote; None until they are found, or without any.
        corrected: the mask that people corrected, which overrides all else.
    """

    image_id: str
    maps: Float32[np.ndarray, "cls h w"] | None
    classes: tuple[int, ...]
    size: tuple[int, int]
    saliency: Score | None = None
    image: UInt8[np.ndarray, "height width 3"] | None = None
    trust: tuple[float, ...] | None = None
    predicted: Float32[np.ndarray, "kept height width"] | None = None
    region_file: RegionFile | None = None
    regions: Regions | None = None
    corrected: Mask | None = None
    names: tuple[str, ...] = ()


class Size(NamedTuple):
    """The setting that determines how large masks are.

    Attributes:
        setting: its name in `[pseudo]`.
        values: those that `mcis fit` tries.
        grows: whether masks grow with it.
    """

    setting: str
    values: tuple[float, ...]
    grows: bool = False


class Background(NamedTuple):
    """A rule that separates background from objects.

    Attributes:
        mask: for hard fusion: from maps at the image's size to an index image.
        score: for soft fusion: the score of background, on the scale of the maps.
        size: what determines how large masks are.
        size_of_hard: the same in hard fusion, if it is another setting there.
        keeps_scale: whether maps are compared without normalising each to [0, 1].
    """

    mask: Callable[[PseudoConfig, Material, Maps], Mask]
    score: Callable[[PseudoConfig, Material, Maps], Score]
    size: Size
    size_of_hard: Size | None = None
    keeps_scale: bool = False
