"""Stages that go image by image: fixed segments, each a pure function of the recipe and its number."""

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from mcis_cli import __version__
from mcis_cli.config import Reporter, RunOptions
from mcis_cli.data.loading import Workers
from mcis_cli.errors import UnfinishedError, counted
from mcis_cli.store import Artifact, Partial, Recipe, Record, Schema, Store, segments_of

Work = Generator[None, None, Artifact]
Name = TypeVar("Name")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def segment_by_segment(
    recipe: Recipe,
    store: Store,
    options: RunOptions,
    *,
    schema: Schema,
    ids: Sequence[str],
    compute: Callable[[Sequence[str]], Iterable[Record]],
    meta: Callable[[], Mapping[str, Any]],
    machine: Mapping[str, Any] | None = None,
    observe: Callable[[Record], None] | None = None,
    observed: Mapping[str, Any] | None = None,
) -> Work:
    """Compute what is missing of an artifact, segment by segment, and seal it; a step for each segment.

    A shard computes every n-th segment. It seals if all the others are there by then; shards with other counts, and a
    command that does all, may work beside it.

    Args:
        recipe: what is computed.
        store: where to.
        options: how to run here.
        schema: the fields of a record.
        ids: sorted image ids.
        compute: from the ids of a segment to its records, in the same order.
        meta: what downstream stages read; asked for after the last segment.
        machine: what the stage computes on, for the provenance.
        observe: called with every record as it is sealed, also with cached ones.
        observed: what it fills in, for the provenance.

    Returns:
        The sealed artifact; that of another process, if it was quicker.

    Raises:
        UnfinishedError: this shard has done its part, and others have not.
    """
    segments, arithmetic = segments_of(ids), arithmetic_of(machine or {})

    def waits(pid: int) -> None:
        options.reporter.note(f"waiting for process {pid}")

    computed = {"images": 0}

    def fill(partial: Partial, indices: Sequence[int], *, tell: bool) -> Generator[None, None, Artifact | None]:
        """Compute those of some segments that are missing. Returns what another process has sealed meanwhile."""
        missing = [index for index in indices if not partial.segment(index)]
        if missing and not options.mixed:
            partial.check_arithmetic(arithmetic)
        total, left = (sum(len(segments[index]) for index in some) for some in (indices, missing))
        if missing or tell:
            options.reporter.start(recipe.stage, total, total - left, images=1)
        for index in missing:
            yield
            if done := _sealed(partial):
                return done
            if partial.segment(index):
                options.reporter.advance(len(segments[index]))
            else:
                partial.write_segment(index, schema, _counted(compute(segments[index]), options), arithmetic)
                computed["images"] += len(segments[index])
        return None

    if options.shard is not None:
        number, count = options.shard
        with store.begin(recipe, waits, shard=options.shard) as partial:
            own = range(number - 1, len(segments), count)
            if done := _sealed(partial) or (yield from fill(partial, own, tell=True)):
                return done
            waiting = sum(not partial.is_written(index) for index in range(len(segments)))
            if done := _sealed(partial):
                return done
        if waiting:
            raise UnfinishedError(
                f"shard {number}/{count} is done; left to the others: {waiting} of {len(segments)} segments, the last "
                "of them seals"
            )
    with store.begin(recipe, waits) as partial:
        with provenance_of(options, machine) as provenance:
            everything, computed["images"] = range(len(segments)), 0  # in these seconds: a shard's came before
            provenance["computed"] = computed
            if done := _sealed(partial) or (yield from fill(partial, everything, tell=options.shard is None)):
                return done
        sealed_as = {**provenance, **(observed or {})}
        return partial.seal(schema, len(segments), meta(), sealed_as, observe, mixed=options.mixed)


def require_segment(ids: Sequence[str], options: RunOptions) -> None:
    """Stop a shard that has no segment before a network is loaded: there may be more shards than segments.

    Raises:
        UnfinishedError: it has none.
    """
    total = len(segments_of(ids))
    if options.shard is not None and options.shard[0] > total:
        number, count = options.shard
        raise UnfinishedError(
            f"shard {number}/{count} has nothing to do: {counted(len(ids), 'image')} make {counted(total, 'segment')}, "
            f"which shards 1 to {total} compute"
        )


def arithmetic_of(machine: Mapping[str, Any]) -> dict[str, str | int]:
    """What a machine computes with that may change bits, from its description."""
    names = ("device_name", "cuda", "torch") if "cuda" in machine else ("threads", "instructions", "torch")
    return {name: machine[name] for name in (*names, "onnxruntime") if name in machine}


def _at_once(begin: Callable[Arguments, Work]) -> Callable[Arguments, Artifact]:
    @wraps(begin)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Artifact:
        return run_together({"": begin(*args, **kwargs)})[""]

    return run


run_segments = _at_once(segment_by_segment)


def run_together(works: Mapping[Name, Work]) -> dict[Name, Artifact]:
    """Do several works in turn, a segment of each at a time: what one has in memory, the next finds there.

    Raises:
        UnfinishedError: this shard has done its part of all of them, and others have not.
    """
    made: dict[Name, Artifact] = {}
    unfinished: list[UnfinishedError] = []
    with ExitStack() as stack:
        left = {name: stack.enter_context(closing(work)) for name, work in works.items()}
        while left:
            for name, work in list(left.items()):
                try:
                    next(work)
                except StopIteration as stop:
                    made[name] = stop.value
                    del left[name]
                except UnfinishedError as others:
                    unfinished.append(others)
                    del left[name]
    if unfinished:
        raise unfinished[0]
    return {name: made[name] for name in works}


@dataclass(frozen=True)
class ByImage(Generic[Result]):
    """Work on images one by one, in the background.

    Attributes:
        workers: make a result of each item, as a record.
        items: of some image ids, what the workers need.
    """

    workers: Workers[Any, Result]
    items: Callable[[Sequence[str]], Iterable[Any]]

    def records(self, ids: Sequence[str]) -> Iterator[Result]:
        """The results of some images, in their order; while `workers` are there."""
        return self.workers.map(self.items(ids))


class Joined:
    """A reporter for several works that are done in turn: to who listens they are one."""

    def __init__(self, listener: Reporter) -> None:
        self._listener = listener
        self._title, self._total, self._done, self._images = "", 0, 0, 0
        self._is_told = False

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        """One of them begins; told when the first of them has something done, or at the end."""
        self._title, self._total, self._done, self._images = title, self._total + total, self._done + done, images

    def advance(self, count: int = 1, **facts: float) -> None:
        """As in `Reporter`."""
        self.tell()
        self._listener.advance(count, **facts)

    def tell(self) -> None:
        """Tell of those that have begun; for the end, where all that was left of them was to be sealed."""
        if self._title and not self._is_told:
            self._listener.start(self._title, self._total, self._done, images=self._images)
            self._is_told = True

    def note(self, text: str) -> None:
        """As in `Reporter`."""
        self._listener.note(text)

    def warn(self, text: str) -> None:
        """As in `Reporter`."""
        self._listener.warn(text)


def _sealed(partial: Partial) -> Artifact | None:
    """What another process has sealed; segments that were written all the same are not wanted any more."""
    if done := partial.sealed():
        partial.discard()
    return done


@contextmanager
def provenance_of(options: RunOptions, machine: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """When, how long and by what something is made; complete when the block ends, never part of its identity."""
    started = time.monotonic()
    provenance: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "workers": options.workers,
        "preset": options.preset,
        "versions": {"mcis": __version__, "python": platform.python_version()},
        "machine": dict(machine or {}),
    }
    yield provenance
    provenance["seconds"] = round(time.monotonic() - started, 3)


def _counted(records: Iterable[Record], options: RunOptions) -> Iterator[Record]:
    for record in records:
        yield record
        options.reporter.advance()
