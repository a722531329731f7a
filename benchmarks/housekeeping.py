"""Rows about everything else: listing, start-up, shards, memory, the store."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import Bench, dots, run_cams, shapes
from benchmarks.measuring import Row, Sizes, alternate, at_least, at_most, peak_of, seconds
from mcis_cli.config import resolve
from mcis_cli.data.reading import read_catalogue
from mcis_cli.stages.cams.declaration import SCHEMA
from mcis_cli.store import Recipe, StatCache, open_store, segments_of


def listing(sizes: Sizes) -> list[Row]:
    """Hashing a set, and listing it again through the stat cache."""
    with shapes(sizes.images * 8, size=sizes.photograph(300, 500)) as bench:
        root = Path(bench.data.root)
        num_bytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        store = open_store(bench.folder / "store")
        time.sleep(2.1)  # younger files are not remembered
        with StatCache(store.index_path) as cache:
            first = seconds(lambda: read_catalogue(bench.data, cache))
        with StatCache(store.index_path) as cache:
            second = seconds(lambda: read_catalogue(bench.data, cache))
    facts = {"megabytes": round(num_bytes / 1e6, 1), "gigabytes_per_second": round(num_bytes / 1e9 / first, 3)}
    return [at_least("hash", "listing a set for the first time over listing it again", first / second, 2, **facts)]


def start_up(sizes: Sizes) -> list[Row]:
    """Seconds of commands that compute nothing: an empty store, and a stage that is done for many images."""
    rows = []
    with dots(sizes.many) as bench:
        _, artifact = bench.classifier("lite0", "quick", image_size=32)
        config = resolve({"cams": {"refs": 0, "image_size": 32}}, "quick").cams
        run_cams(bench, artifact, config, "store")
        store = bench.folder / "store"
        done = ["cams", str(artifact.path), "--refs", "0", "--image-size", "32", "--data", bench.data.root]
        _command(done, bench.folder, store)  # the stat cache is warm after this one
        status = ["status", "--set", f"data.root={bench.data.root}"]
        for arguments, most in ((["--help"], 0.4), (["ls"], 0.4), (status, 0.4), (done, 0.6)):
            taken = [seconds(partial(_command, arguments, bench.folder, store)) for _ in range(sizes.repeats)]
            name = "a stage that is done" if arguments is done else f"mcis {arguments[0]}"
            what = f"seconds, {sizes.many:,} images in the set"
            rows.append(at_most(f"start-up ({name})", what, sorted(taken)[len(taken) // 2], most, runs=len(taken)))
    return rows


def scaling(sizes: Sizes) -> list[Row]:
    """Two shards of `cams`, and two ranks of `train-cls`, with one thread each, against one process with one thread."""
    with shapes(sizes.shared) as bench:
        _, artifact = bench.classifier("lite0", "quick")
        data, number = ["--data", bench.data.root], count()
        maps = ["cams", str(artifact.path), "--refs", "1", *data]
        training = ["train-cls", bench.data.root, "--preset", "quick", "--epochs", "1"]

        def run(*commands: list[str], launcher: Sequence[str] = ()) -> None:
            store = bench.folder / f"run-{next(number)}"
            running = [_start(one, bench.folder, store, launcher=launcher, OMP_NUM_THREADS="1") for one in commands]
            codes = [process.wait() for process in running]
            assert not any(codes)

        together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        taken = alternate(
            min(sizes.repeats, 2),
            0,
            whole=lambda: run(maps),
            shards=lambda: run(*([*maps, "--shard", f"{part}/2"] for part in (1, 2))),
            alone=lambda: run([*training, "--set", "train-cls.batch_pairs=8"]),
            ranks=lambda: run([*training, "--set", "train-cls.batch_pairs=4"], launcher=together),
        )
        what = "{} over one process, one thread each, start-up included"
        facts = {"images": bench.num_images}
        return [
            at_least(
                "scaling (shards)",
                what.format("two shards of cams"),
                taken["whole"] / taken["shards"],
                1.7,
                seconds_alone=round(taken["whole"], 1),
                **facts,
            ),
            at_least(
                "scaling (ranks)",
                what.format("two ranks of train-cls with half the batch"),
                taken["alone"] / taken["ranks"],
                1.7,
                seconds_alone=round(taken["alone"], 1),
                **facts,
            ),
        ]


def engine(sizes: Sizes) -> list[Row]:
    """Two workers of an engine against the limit of the machine: two unrelated commands, each with all the images.

    Of both, the time of a sixth of the images is subtracted, and with it what processes take to start.
    """
    few, many = (_together(number, sizes) for number in (sizes.shared // 6, sizes.shared))
    unrelated, by_engine = (many[name] - few[name] for name in ("unrelated", "engine"))
    return [
        at_least(
            "engine",
            "images a second of cams by two worker processes, over those of two unrelated commands at once",
            unrelated / 2 / by_engine,
            0.85,
            images=[sizes.shared // 6, sizes.shared],
            **{name: [round(of[name], 1) for of in (few, many)] for name in many},
        )
    ]


def _together(num_images: int, sizes: Sizes) -> dict[str, float]:
    """Seconds of two commands at once that map all images, and of an engine of two processes that maps them once."""
    with shapes(num_images) as bench:
        _, artifact = bench.classifier("lite0", "quick")
        maps = ["cams", str(artifact.path), "--refs", "1", "--data", bench.data.root]
        number = count()

        def run(commands: int, *more: str) -> None:
            stores = [bench.folder / f"run-{next(number)}" for _ in range(commands)]
            running = [_start([*maps, *more], bench.folder, store, OMP_NUM_THREADS="1") for store in stores]
            codes = [process.wait() for process in running]
            assert not any(codes)

        return alternate(
            sizes.repeats,
            0,
            unrelated=lambda: run(2),
            engine=lambda: run(1, "--engine", "processes", "--workers", "2"),
        )


def memory(sizes: Sizes) -> list[Row]:
    """Peak resident memory of `cams` over many and over a tenth of them."""
    peaks = []
    for num_images in (sizes.many // 10, sizes.many):
        with dots(num_images) as bench:
            _, artifact = bench.classifier("lite0", "quick", image_size=32)
            arguments = ["cams", str(artifact.path), "--refs", "1", "--image-size", "32", "--data", bench.data.root]
            peaks.append(_peak([*arguments, "--cache-mb", "16"], bench))
    facts = {"megabytes": [round(peak / 1e6) for peak in peaks], "images": [sizes.many // 10, sizes.many]}
    return [at_most("memory", "peak of `cams` over ten times as many images", peaks[1] / peaks[0], 1.1, **facts)]


def store_overhead(sizes: Sizes) -> list[Row]:
    """What writing maps costs beside computing them: time and bytes for an image."""
    draw = np.random.default_rng(0)
    records: dict[str, dict[str, NDArray[Any]]] = {
        f"{number:06d}": {
            "maps": draw.standard_normal((2, 32, 32)).astype(np.float16),
            "classes": np.array([1, 5], np.int32),
            "references": np.frombuffer(b'{"a":["b","c","d"]}', np.uint8),
        }
        for number in range(1024)
    }
    with shapes(1, size=(40, 60)) as bench:
        began = time.perf_counter()
        with bench.store().begin(Recipe("cams", 1, {"bench": 0}, {})) as unfinished:
            parts = segments_of(records)
            for index, ids in enumerate(parts):
                unfinished.write_segment(index, SCHEMA, ((image_id, records[image_id]) for image_id in ids))
            sealed = unfinished.seal(SCHEMA, len(parts), {}, {})
        spent = time.perf_counter() - began
        size = sealed.path.stat().st_size
    raw = sum(array.nbytes for fields in records.values() for array in fields.values())
    facts = {"milliseconds_per_image": round(1000 * spent / len(records), 3), "bytes_per_image": size // len(records)}
    return [at_most("store-overhead", "bytes on disk over bytes of the arrays", size / raw, 1.1, **facts)]


def _start(
    arguments: list[str], folder: Path, store: Path, *, launcher: Sequence[str] = (), **variables: str
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "mcis_cli", *arguments],
        cwd=folder,
        env={**os.environ, "MCIS_STORE": str(store), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _command(arguments: list[str], folder: Path, store: Path, **variables: str) -> None:
    code = _start(arguments, folder, store, **variables).wait()
    assert code == 0, f"mcis {' '.join(arguments)} left with {code}"


def _peak(arguments: list[str], bench: Bench) -> int:
    """Peak resident bytes of a command."""
    given = {"cwd": bench.folder, "env": {**os.environ, "MCIS_STORE": str(bench.folder / "peak")}}
    peak, _ = peak_of([sys.executable, "-m", "mcis_cli", *arguments], stderr=subprocess.DEVNULL, **given)
    return peak
