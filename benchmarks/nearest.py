"""Nearest references among many images of which only the means matter: `python -m benchmarks.nearest IMAGES REPEATS`.

Prints the median processor seconds for a segment of 64 images, and for the products of their means with all others.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.similarity import OTHERS, Nearest, Units
from mcis_cli.store.segments import SEGMENT_SIZE

NUM_CLASSES, NUM_CHANNELS = 20, 1280  # of PASCAL VOC, of EfficientNet-Lite0


def entries(count: int) -> tuple[ImageEntry, ...]:
    """Images of one or two classes, of which no pixels are read."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, NUM_CLASSES, (count, 2)).tolist()
    return tuple(
        ImageEntry(
            id=f"{number:07}", image="", digest="", height=1, width=1, labels=tuple(sorted({*some})), splits=frozenset()
        )
        for number, some in enumerate(labels)
    )


def units(count: int) -> Units:
    """Their means: random directions, of length 1."""
    drawn = np.random.default_rng(1).random((count, NUM_CHANNELS), dtype=np.float32)
    drawn /= np.sqrt(np.einsum("ic,ic->i", drawn, drawn))[:, None]
    return drawn


def products(means: Units) -> Callable[[], Sequence[float]]:
    """The products alone, in blocks of the same size."""
    left, starts = means[:SEGMENT_SIZE], range(0, len(means), OTHERS)
    return lambda: [float((left @ means[one : one + OTHERS].T)[0, 0]) for one in starts]


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Measure."""
    count, repeats = map(int, sys.argv[1:])
    names = tuple(f"class {k}" for k in range(NUM_CLASSES))
    images = Catalogue(root=Path(), layout="folders", class_names=names, entries=entries(count))
    features = cast(FeatureCache, None)
    nearest = Nearest(features, images, images, num_references=10, num_without=10, options=RunOptions())
    means = nearest._units = units(count)
    first = [entry.id for entry in images.entries[:SEGMENT_SIZE]]

    def compare() -> None:
        nearest._found = {}
        nearest.compare(first)

    bare = products(means)
    compare()  # the lists of classes are made once
    taken = [(seconds(compare), seconds(bare)) for _ in range(repeats)]
    sys.stdout.write(" ".join(f"{statistics.median(some):.3f}" for some in zip(*taken, strict=True)) + "\n")


if __name__ == "__main__":
    main()
