"""`predict`: a trained segmentation network gives masks for new photographs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import EvalConfig, RunOptions
from mcis_cli.data.formats import MAX_IMAGE_BYTES
from mcis_cli.data.images import decode_image
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError
from mcis_cli.stages.engine.predictor import Predictor
from mcis_cli.store import Artifact


@dataclass(frozen=True)
class Region:
    """All pixels of one label in a mask.

    Attributes:
        value: of the label in the mask; 0 is background.
        pixels: how many they are.
        confidence: the label's mean probability over them, in [0, 1].
    """

    value: int
    pixels: int
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """The mask of one photograph, or why there is none.

    Attributes:
        path: the photograph.
        image: its pixels; None where it could not be read.
        mask: index image at the photograph's size: 0 background, k + 1 class k.
        regions: of each label that is in the mask, by value.
        fault: the error of the photograph.
    """

    path: Path
    image: UInt8[np.ndarray, "height width 3"] | None = None
    mask: UInt8[np.ndarray, "height width"] | None = None
    regions: tuple[Region, ...] = ()
    fault: str | None = None


def run(config: EvalConfig, network: Artifact, paths: Iterable[Path], options: RunOptions) -> Iterator[Prediction]:
    """Masks of photographs, one after another; a photograph that cannot be read does not stop the rest.

    Args:
        config: scales, mirror, window and CRF as for `eval`.
        network: a `train-seg` artifact.
        paths: photographs.
        options: how to run on this machine.
    """
    predictor = Predictor(network, config, options)
    for path in paths:
        try:
            image = decode_image(read_regular(path, MAX_IMAGE_BYTES), str(path))
        except DataError as error:
            yield Prediction(path, fault=str(error))
            continue
        probabilities = predictor.refined(image)
        mask = probabilities.argmax(axis=0).astype(np.uint8)
        yield Prediction(path, image, mask, regions_of(mask, probabilities))


def regions_of(
    mask: UInt8[np.ndarray, "height width"], probabilities: Float32[np.ndarray, "label height width"]
) -> tuple[Region, ...]:
    """The labels of a mask, with their number of pixels and the network's confidence."""
    winning = np.take_along_axis(probabilities, mask[None], axis=0)
    counts = np.bincount(mask.ravel())
    sums = np.bincount(mask.ravel(), weights=winning.ravel())
    return tuple(
        Region(value, int(counts[value]), float(sums[value] / counts[value]))
        for value in np.flatnonzero(counts).tolist()
    )
