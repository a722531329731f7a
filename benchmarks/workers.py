"""What workers write, read and seal where only the number of images counts: `python -m benchmarks.workers IMAGES`.

Stand-ins take the place of features and maps, so no network runs. Prints a JSON object: processor seconds for an image
of each part of the work, and how often eight workers that begin together pass an image through the network.
"""

import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch

from benchmarks.nearest import NUM_CHANNELS, NUM_CLASSES, entries, seconds
from benchmarks.phases import SCHEMA
from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.similarity import Nearest
from mcis_cli.store import Recipe, Record, Store, open_store, segments_of

WORKERS = 8
MEANS, MAPS = (Recipe("cams", 1, {"bench": name}, {}) for name in ("means", "maps"))


class StandIn:
    """In place of a `FeatureCache`: the same features for all images; counts how often they are requested."""

    def __init__(self) -> None:
        self.passes = 0
        self._features = SimpleNamespace(features=torch.rand(NUM_CHANNELS, 1, 1))

    def __call__(self, image_id: str, view: object) -> SimpleNamespace:
        self.passes += 1
        return self._features

    @contextmanager
    def reading_ahead(self, keys: object, workers: int) -> Iterator[None]:
        """Read nothing."""
        yield


def nearest(store: Store, images: Catalogue, features: StandIn, shard: tuple[int, int] | None = None) -> Nearest:
    """References of all images, whose means are shared in a store."""
    return Nearest(
        cast(FeatureCache, features),
        images,
        images,
        num_references=10,
        num_without=10,
        options=RunOptions(workers=0, shard=shard),
        sharing=lambda ids: store.begin(MEANS, lock="none"),
    )


def passes_together(folder: Path, images: Catalogue) -> int:
    """Passes of workers that begin at the same time, in all."""
    context = multiprocessing.get_context("fork")
    together, counts = context.Barrier(WORKERS), context.SimpleQueue()
    store = open_store(folder / "together")
    workers = [
        context.Process(target=_prepare, args=(store, images, (number, WORKERS), together, counts))
        for number in range(1, WORKERS + 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts.get() for _ in workers)


def _prepare(
    store: Store, images: Catalogue, shard: tuple[int, int], together: Barrier, counts: "SimpleQueue[int]"
) -> None:
    features = StandIn()
    with store.begin(MEANS, lock="none"):  # so that the means of the first stay until the last has them
        together.wait()
        nearest(store, images, features, shard).prepare()
        together.wait()
    counts.put(features.passes)


def maps_of(ids: Sequence[str]) -> Iterator[Record]:
    """Two small maps for each image."""
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float16)
    for one in ids:
        yield one, {"maps": maps, "classes": np.array([1, 2], np.int32), "references": np.zeros(200, np.uint8)}


def parts(folder: Path, images: Catalogue) -> dict[str, float]:
    """Processor seconds for all images: writing their means, reading them, writing maps, sealing these."""
    store, segments = open_store(folder / "alone"), segments_of(images.ids)
    found = {}
    with store.begin(MEANS, lock="none"):
        both = seconds(nearest(store, images, StandIn()).prepare)
        found["read_means"] = seconds(nearest(store, images, StandIn()).prepare)
        found["write_means"] = both - found["read_means"]
    with store.begin(MAPS) as partial:

        def write() -> None:
            for number, ids in enumerate(segments):
                partial.write_segment(number, SCHEMA, maps_of(ids))

        found["write_maps"] = seconds(write)
    with store.begin(MAPS) as partial:  # of a process that has written none of them
        found["seal_maps"] = seconds(lambda: partial.seal(SCHEMA, len(segments), {}, {}))
    return found


def main() -> None:
    """Measure."""
    count = int(sys.argv[1])
    names = tuple(f"class {k}" for k in range(NUM_CLASSES))
    images = Catalogue(root=Path(), layout="folders", class_names=names, entries=entries(count))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mcis-bench-") as folder:
        together = passes_together(Path(folder), images)
        each = {name: taken / count for name, taken in parts(Path(folder), images).items()}
    sys.stdout.write(json.dumps({"passes": together / count, **each}) + "\n")


if __name__ == "__main__":
    main()
