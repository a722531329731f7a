"""Engines compute the segments of a stage in other processes: on this machine, or on those of a Ray cluster.

The command that the user started is the driver. It runs its stage as always, but hands the numbers of missing segments
to an engine, and seals. A worker repeats the call of the stage, from its inputs on, and publishes the segments whose
numbers it gets. A segment is a function of key and number alone, so it does not matter who computes it, or how often.
"""

import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from mcis_cli.allocator import keep_freed_memory
from mcis_cli.config import Asked, Engine, RunOptions, Silent
from mcis_cli.data.loading import Crew, WorkerDiedError
from mcis_cli.errors import McisError, UnfinishedError, UsageError
from mcis_cli.store.workplace import clear_unheld

THREADS = "OMP_NUM_THREADS"
TRIES = 3  # of a segment whose worker process is killed
FEATURES = "features-*"  # folders of `scratch`
READERS_OF_GPU = 4  # threads that read images for it

Stage = TypeVar("Stage", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """A call of a stage, which every process that sees the store and the images can repeat."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: RunOptions
    more: Mapping[str, Any]

    def packed(self, device: str, workers: int) -> bytes:
        """The call for a worker with a kind of device, and so many threads or processes to read and finish images."""
        here = replace(self.options, reporter=Silent(), engine=None, local=None)
        return pickle.dumps(replace(self, options=replace(here, device=device, workers=workers)))

    def repeat(self, asked: Iterator[Asked]) -> None:
        """Compute the segments whose numbers come."""
        options = replace(self.options, asked=asked)
        self.function(*self.arguments, options, **self.more)


def in_segments(run: Stage) -> Stage:
    """Let an engine, if the options have one, compute the segments of a stage, whose first arguments are as usual."""

    @wraps(run)
    def with_engine(config: Any, inputs: Any, store: Any, options: RunOptions, **more: Any) -> Any:
        if options.engine is not None:
            call = Call(with_engine, (config, inputs, store), options, more)
            options = replace(options, engine=None, elsewhere=Elsewhere(options.engine, call))
        return run(config, inputs, store, options, **more)

    return cast(Stage, with_engine)


class Elsewhere:
    """Has the segments of one call computed, each number once, also if it belongs to several artifacts."""

    def __init__(self, engine: Engine, call: Call) -> None:
        self._engine, self._packed = engine, cache(call.packed)
        self._futures: dict[int, Future[None]] = {}

    def __call__(self, key: str, numbers: Sequence[int], device: str) -> Iterator[int]:
        """Yield the numbers of segments in the order in which they are published.

        Args:
            key: of the recipe.
            numbers: of the segments.
            device: that computes them.
        """
        kind, _, _ = device.partition(":")  # a worker has one GPU, its first
        on_gpu = kind == "cuda"
        packed = self._packed(kind, READERS_OF_GPU if on_gpu else self._engine.threads)
        for number in numbers:
            if number not in self._futures:
                self._futures[number] = self._engine.submit(packed, (key, number), on_gpu=on_gpu)
        ending = {self._futures[number]: number for number in numbers}
        for future in as_completed(ending):
            future.result()
            yield ending[future]


# In a worker


class Worker:
    """A call of a stage, which waits in a thread for numbers of segments, so that it loads its network once.

    Attributes:
        packed: the call.
        ended: whether it ended, by an error, or because it found the artifact sealed.
    """

    def __init__(self, packed: bytes) -> None:
        self.packed, self.ended = packed, False
        self._asked: SimpleQueue[Asked | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        keep_freed_memory(in_threads=True)
        self._thread = threading.Thread(target=self._run, daemon=True, name="mcis-segments")
        self._thread.start()

    def compute(self, asked: Asked) -> None:
        """Compute and publish a segment; raises what the stage raises."""
        self._asked.put(asked)
        if (error := self._answers.get()) is not None:
            raise error

    def close(self) -> None:
        """End the call, which releases what it holds of the store."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            pickle.loads(self.packed).repeat(self._numbers())
        except UnfinishedError:
            pass
        except BaseException as raised:
            error = raised
        self.ended = True
        self._answers.put(error)

    def _numbers(self) -> Iterator[Asked]:
        while (asked := self._asked.get()) is not None:
            yield asked
            self._answers.put(None)


_workers: list[Worker] = []  # of this process: one at most, kept from segment to segment


def compute(packed: bytes, asked: Asked, threads: int) -> McisError | None:
    """Compute and publish a segment in this process; returns an error that users can fix."""
    os.environ[THREADS] = str(threads)  # before torch is imported
    if _workers and (_workers[0].ended or _workers[0].packed != packed):
        _workers.pop().close()
    if not _workers:
        _workers.append(Worker(packed))
    try:
        _workers[0].compute(asked)
    except McisError as error:
        return error
    return None


def _compute(task: tuple[bytes, Asked, int]) -> McisError | None:
    return compute(*task)


# Engines


@contextmanager
def opened(name: str, options: RunOptions, scratch: Path | None = None) -> Iterator[RunOptions]:
    """The options with an engine, `processes` or `ray`, which ends with the block.

    Args:
        name: of the engine.
        options: how to run here.
        scratch: the store's scratch folder, where workers leave features, because they are killed at the end.

    Raises:
        UsageError: it is not installed.
    """
    if name == "ray":
        from mcis_cli.stages.engine.ray_cluster import Cluster

        chosen: Cluster | Processes = Cluster(options.workers, num_threads())
    else:
        chosen = Processes(options.workers, num_threads())
    try:
        with chosen as engine:
            yield replace(options, engine=engine)
    finally:
        for left in scratch.glob(FEATURES) if scratch else ():
            clear_unheld(left)


def num_threads() -> int:
    """The threads of each worker: OMP_NUM_THREADS, or 1. They change bits, so all workers have as many."""
    given = os.environ.get(THREADS, "1").partition(",")[0]
    return max(1, int(given)) if given.isdecimal() else 1


@dataclass
class Processes:
    """Worker processes on this machine. The segment of one that is killed is computed by a new one.

    Attributes:
        cores: that they share.
        threads: of each.
    """

    cores: int
    threads: int
    _crew: Crew = field(init=False)
    _pool: ThreadPoolExecutor = field(init=False)

    def __enter__(self) -> "Processes":
        count = max(1, self.cores // self.threads)
        self._crew = Crew(_compute, count, daemon=False)  # a CRF has processes of its own
        self._pool = ThreadPoolExecutor(count, "mcis")
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.dismiss()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, packed: bytes, asked: Asked, *, on_gpu: bool) -> "Future[None]":
        """As in `Engine`."""
        if on_gpu:
            raise UsageError(
                "--engine processes computes on the CPU, found --device cuda: give --engine ray, which gives each "
                "process a GPU of its own, --shard, or --device cpu"
            )
        return self._pool.submit(self._work, (packed, asked, self.threads))

    def _work(self, task: tuple[bytes, Asked, int]) -> None:
        for left in reversed(range(TRIES)):
            try:
                error = self._crew.work(task)
                break
            except WorkerDiedError:
                if not left:
                    raise
        if error is not None:
            raise error
