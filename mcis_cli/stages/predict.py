"""`predict`: a trained segmentation network gives masks for new photographs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mcis_cli.config import EvalConfig, RunOptions
from mcis_cli.data.images import MAX_IMAGE_BYTES, decode_image
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError
from mcis_cli.maps.crf import crf_on_present, dense_crf
from mcis_cli.stages.segmenting import load_segmenter
from mcis_cli.store import Artifact
from mcis_cli.training.precision import choose_device, choose_precision


@dataclass(frozen=True)
class Prediction:
    """The mask of one photograph, or why there is none.

    Attributes:
        path: the photograph.
        image: its pixels; None where it could not be read.
        mask: index image at the photograph's size: 0 background, k + 1 class k.
        fault: what is wrong with it.
    """

    path: Path
    image: UInt8[np.ndarray, "height width 3"] | None = None
    mask: UInt8[np.ndarray, "height width"] | None = None
    fault: str | None = None


def run(config: EvalConfig, network: Artifact, paths: Iterable[Path], options: RunOptions) -> Iterator[Prediction]:
    """Masks of photographs, one after another; a photograph that cannot be read does not stop the rest.

    Args:
        config: scales, mirror, window and CRF as for `eval`.
        network: a `train-seg` artifact.
        paths: photographs.
        options: how to run on this machine.
    """
    device = choose_device(options.device)
    segmenter = load_segmenter(
        network,
        scales=config.scales,
        flip=config.flip,
        window=config.window,
        device=device,
        precision=choose_precision(config.precision, device),
    )
    refine = crf_on_present if config.crf_labels == "present" else dense_crf
    for path in paths:
        try:
            image = decode_image(read_regular(path, MAX_IMAGE_BYTES), str(path))
        except DataError as error:
            yield Prediction(path, fault=str(error))
            continue
        probabilities = segmenter.probabilities(image)
        if config.crf:
            probabilities = refine(image, probabilities, **config.crf_settings.model_dump())
        yield Prediction(path, image, probabilities.argmax(axis=0).astype(np.uint8))
