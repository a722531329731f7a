"""Small stores for the tests of `mcis_cli.store`: rectangular records, seeded by their ids."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcis_cli.store import Artifact, Recipe, Store, open_store, segments_of

SCHEMA = {"classes": ("uint8", 1), "maps": ("float16", 3), "score": ("float64", 0), "seen": ("bool", 1)}
IDS = tuple(f"photos/{number:03d}" for number in range(130))  # three segments, the last with two


def recipe(stage: str = "cams", **config: Any) -> Recipe:
    return Recipe(stage, 1, {"refs": 3, **config}, {"classifier": "ab" * 32})


def record(image_id: str) -> tuple[str, dict[str, NDArray[Any]]]:
    draw = np.random.default_rng(zlib.crc32(image_id.encode()))
    count, height, width = draw.integers(0, 3), draw.integers(1, 6), draw.integers(6, 9)
    return image_id, {
        "classes": np.arange(count, dtype=np.uint8),
        "maps": draw.random((count, height, width)).astype(np.float16),
        "score": np.array(draw.random()),
        "seen": draw.random(4) > 0.5,
    }


def records(ids: Any) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    return map(record, ids)


def make_store(folder: Path) -> Store:
    return open_store(folder / ".mcis")


def seal_records(store: Store, of: Recipe | None = None, ids: tuple[str, ...] = IDS) -> Artifact:
    with store.begin(of or recipe()) as partial:
        segments = segments_of(ids)
        for index, segment in enumerate(segments):
            if not partial.segment(index):
                partial.write_segment(index, SCHEMA, records(segment))
        return partial.seal(SCHEMA, len(segments), {"class_names": ["cat", "dog"]}, {"seconds": 1.5})


def seal_tensors(store: Store, of: Recipe | None = None) -> Artifact:
    with store.begin(of or recipe("train-cls")) as partial:
        return partial.seal_tensors(TENSORS, {"backbone": "lite0"}, {})


TENSORS = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head/bias": np.array([-0.0, 1.5]),
    "num_batches": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float16),
    "mask": np.array([[True, False]]),
}


def rewrite(path: Path, data: bytes) -> None:
    """Change a sealed file, which is read-only, as a faulty disk would."""
    path.chmod(0o644)
    path.write_bytes(data)
