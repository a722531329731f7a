"""Phases that `scale` measures, each in a process of its own: `python -m benchmarks.phases PHASE FOLDER`."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mcis_cli.config import DataConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.pairs import sample_pairs, sample_rings
from mcis_cli.data.references import draw_references
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.inputs import list_images
from mcis_cli.store import Recipe, Record, Schema, open_store

SCHEMA: Schema = {"maps": ("float16", 3), "classes": ("int32", 1), "references": ("uint8", 1)}

Work = Callable[[], object]


def _images(folder: Path) -> Catalogue:
    return list_images(DataConfig(root=str(folder / "tagged")), open_store(folder / "store"))


def _list(folder: Path) -> Work:
    """The set listed: at first each file is hashed, and the set sealed; then neither."""
    return lambda: _images(folder)


def _pairs(folder: Path) -> Work:
    """The pairs of an epoch, one kind after the other."""
    images = _images(folder)
    labels = [entry.labels for entry in images.entries]
    return lambda: [draw(labels, images.ids, seed=0, epoch=0) for draw in (sample_pairs, sample_rings)]


def _references(folder: Path) -> Work:
    """Three references for each class of each image."""
    images = _images(folder)

    def draw() -> None:
        for entry in images.entries:
            for k in entry.labels:
                draw_references(images.carriers(k), entry.id, images.class_names[k], 3, 0)

    return draw


def _maps(folder: Path, *, until: float) -> Work:
    """A stage that works by segments: stopped when that part of its images is done, or resumed from there."""
    images, store = _images(folder), open_store(folder / "store")
    few = set(images.ids[int(until * len(images)) :])

    def compute(ids: Sequence[str]) -> Iterator[Record]:
        if few.intersection(ids):
            raise KeyboardInterrupt
        for image_id in ids:
            labels = images[image_id].labels
            yield (
                image_id,
                {
                    "maps": np.zeros((len(labels), 8, 8), np.float16),
                    "classes": np.array(labels, np.int32),
                    "references": np.frombuffer(b'{"a":["b","c","d"]}', np.uint8),
                },
            )

    def work() -> None:
        try:
            recipe = Recipe("cams", 1, {"bench": 0}, {"images": images.digest("images", "labels")})
            run_segments(recipe, store, RunOptions(), schema=SCHEMA, ids=images.ids, compute=compute, meta=dict)
        except KeyboardInterrupt:
            assert until < 1

    return work


PHASES: Mapping[str, Callable[[Path], Work]] = {
    "listing, first time": _list,
    "listing again": _list,
    "pairs of two epochs": _pairs,
    "references": _references,
    "a stage, first half": lambda folder: _maps(folder, until=0.5),
    "second half, sealing": lambda folder: _maps(folder, until=1),
    "cached": lambda folder: _maps(folder, until=0),
}


def main() -> None:
    """Measure one phase in this process."""
    phase, folder = sys.argv[1:]
    work = PHASES[phase](Path(folder))
    began = time.perf_counter()
    work()
    taken = time.perf_counter() - began
    sys.stdout.write(f"{taken:.3f}\n")


if __name__ == "__main__":
    main()
