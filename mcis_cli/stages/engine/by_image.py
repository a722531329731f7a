"""Stages that work image by image: fixed segments, each a pure function of the recipe and its number."""

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from mcis_cli import __version__
from mcis_cli.config import Asked, Reporter, RunOptions
from mcis_cli.data.loading import Workers
from mcis_cli.errors import UnfinishedError, UsageError, counted
from mcis_cli.store import Artifact, Partial, Recipe, Record, Schema, Store, segments_of

Work = Generator[None, None, Artifact]
Name = TypeVar("Name")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SegmentedWork:
    """An artifact whose missing segments are computed one by one; then it is sealed.

    A shard computes every n-th segment. It seals if all other segments exist by then. Shards with other counts, and a
    command that does all, may run at the same time. With an engine, other processes compute the segments, each by
    `publish`; see `engines`.

    Attributes:
        recipe: the recipe of the artifact.
        store: where the artifact goes.
        options: how to run here.
        schema: the fields of a record.
        ids: sorted image ids.
        compute: from the ids of a segment to its records, in the same order.
        meta: facts for later stages; called after the last segment.
        prepare: what missing segments need, with a progress of its own; of works that are done in turn, all prepare
            before the first segment of any.
        machine: the machine, for the provenance.
        observe: called with every record as it is sealed, also with cached ones.
        observed: filled by `observe`, for the provenance.
    """

    recipe: Recipe
    store: Store
    options: RunOptions
    _: KW_ONLY
    schema: Schema
    ids: Sequence[str]
    compute: Callable[[Sequence[str]], Iterable[Record]]
    meta: Callable[[], Mapping[str, Any]]
    prepare: Callable[[], None] | None = None
    machine: Mapping[str, Any] | None = None
    observe: Callable[[Record], None] | None = None
    observed: Mapping[str, Any] | None = None

    def steps(self) -> Work:
        """Compute it, yielding after each segment.

        Returns:
            The sealed artifact; that of another process, if it was quicker.

        Raises:
            UnfinishedError: this shard has done its part, and others have not.
        """
        options, segments = self.options, segments_of(self.ids)
        if options.shard is not None:
            number, count = options.shard
            with self.store.begin(self.recipe, self._waits, shard=options.shard) as partial:
                own = dict(list(enumerate(segments))[number - 1 :: count])
                done = _sealed(partial) or (yield from self._fill(partial, own, {"images": 0}, announce=True))
                waiting = len({*range(len(segments))} - partial.written())
                if done := done or _sealed(partial):
                    return done
            if waiting:
                raise UnfinishedError(
                    f"shard {number}/{count} is done; the other shards still compute {waiting} of {len(segments)} "
                    "segments, and the last one seals the artifact"
                )
        with self.store.begin(self.recipe, self._waits) as partial:
            with provenance_of(options, self.machine) as provenance:
                computed = provenance["computed"] = {"images": 0}  # in this time: those of a shard were computed before
                everything = dict(enumerate(segments))
                filling = self._fill(partial, everything, computed, announce=options.shard is None)
                if done := _sealed(partial) or (yield from filling):
                    return done
            sealed_as = {**provenance, **(self.observed or {})}
            return partial.seal(self.schema, len(segments), self.meta(), sealed_as, self.observe, mixed=options.mixed)

    def _fill(
        self, partial: Partial, segments: Mapping[int, Sequence[str]], computed: dict[str, int], *, announce: bool
    ) -> Generator[None, None, Artifact | None]:
        """Compute the missing ones of some segments. Returns the artifact if another process has sealed it meanwhile.

        Args:
            partial: where segments are kept.
            segments: image ids by the number of the segment.
            computed: counts the images that are computed.
            announce: report the work even if nothing is missing.
        """
        written = partial.written()
        missing = {index: ids for index, ids in segments.items() if index not in written or not partial.segment(index)}
        reporter = self.options.reporter
        if missing and self.options.elsewhere is None:
            self.begin(partial)
        total, left = (sum(map(len, some.values())) for some in (segments, missing))
        if missing or announce:
            reporter.start(self.recipe.stage, total, total - left, images=1)
        if missing and self.options.elsewhere is not None:
            device = str((self.machine or {}).get("device", "cpu"))
            for index in self.options.elsewhere(self.recipe.key, list(missing), device):
                reporter.advance(len(missing[index]))
                yield
            written = partial.written()  # without those that were removed since
            missing = {index: ids for index, ids in missing.items() if index not in written}
        for index, ids in missing.items():
            yield
            if done := _sealed(partial):
                return done
            if partial.segment(index):
                reporter.advance(len(ids))
            else:
                self._write(partial, index, ids)
                computed["images"] += len(ids)
        return None

    def publish(self, partial: Partial, index: int) -> None:
        """Compute a segment for another process, which seals; unless it exists."""
        if partial.sealed() or partial.segment(index):
            return
        self._write(partial, index, segments_of(self.ids)[index])
        _sealed(partial)

    def begin(self, partial: Partial) -> None:
        """Prepare to compute segments, and check that they may lie beside the existing ones."""
        if not self.options.mixed:
            partial.check_arithmetic(arithmetic_of(self.machine or {}))
        if self.prepare is not None:
            self.prepare()

    def _write(self, partial: Partial, index: int, ids: Sequence[str]) -> None:
        records = _counted(self.compute(ids), self.options)
        partial.write_segment(index, self.schema, records, arithmetic_of(self.machine or {}))

    def _waits(self, pid: int) -> None:
        self.options.reporter.note(f"waiting for process {pid}")


def require_segment(ids: Sequence[str], options: RunOptions) -> None:
    """Stop a shard that has no segment before a network is loaded: there may be more shards than segments.

    Raises:
        UnfinishedError: it has no segment.
    """
    total = len(segments_of(ids))
    if options.shard is not None and options.shard[0] > total:
        number, count = options.shard
        raise UnfinishedError(
            f"shard {number}/{count} has nothing to do: {counted(len(ids), 'image')} make {counted(total, 'segment')}, "
            f"which shards 1 to {total} compute"
        )


def arithmetic_of(machine: Mapping[str, Any]) -> dict[str, str | int]:
    """The arithmetic of a machine, which may change bits, from its description."""
    names = ("device_name", "cuda", "torch") if "cuda" in machine else ("threads", "instructions", "torch")
    return {name: machine[name] for name in (*names, "onnxruntime") if name in machine}


def _at_once(of: Callable[Arguments, SegmentedWork]) -> Callable[Arguments, Artifact]:
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Artifact:
        return run_together({"": of(*args, **kwargs)})[""]

    return run


run_segments = _at_once(SegmentedWork)


def run_together(works: Mapping[Name, SegmentedWork]) -> dict[Name, Artifact]:
    """Run several works in turn, a segment of each at a time, so that they share features in memory.

    Raises:
        UnfinishedError: this shard has done its part of all of them, and others have not; or this is a worker of an
            engine, which gets no more segments.
    """
    if (asked := next(iter(works.values())).options.asked) is not None:
        _publish(list(works.values()), asked)
    made: dict[Name, Artifact] = {}
    unfinished: list[UnfinishedError] = []
    with ExitStack() as stack:
        left = {name: stack.enter_context(closing(work.steps())) for name, work in works.items()}
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


def _publish(works: Sequence[SegmentedWork], asked: Iterator[Asked]) -> NoReturn:
    """Compute segments as their numbers come, each for all works, which share features."""
    keys = {work.recipe.key for work in works}
    with ExitStack() as stack:
        partials = [stack.enter_context(work.store.begin(work.recipe, lock="none")) for work in works]
        for number, (key, index) in enumerate(asked):
            if key not in keys:
                raise UsageError(
                    f"this machine cannot compute a part of {works[0].recipe.stage}: found other images, weights or "
                    "another precision than where the command was started; give all machines the same files, and "
                    f"--set {works[0].recipe.stage}.precision=fp32 if only some of them compute bf16"
                )
            for work, partial in zip(works, partials, strict=True):
                if number == 0:
                    work.begin(partial)
                work.publish(partial, index)
    raise UnfinishedError("this worker gets no more segments")


@dataclass(frozen=True)
class ByImage(Generic[Result]):
    """Work on images one by one, in the background.

    Attributes:
        workers: compute a record from each item.
        items: from image ids to the inputs of the workers.
    """

    workers: Workers[Any, Result]
    items: Callable[[Sequence[str]], Iterable[Any]]

    def records(self, ids: Sequence[str]) -> Iterator[Result]:
        """The results of some images, in their order, while `workers` are open."""
        return self.workers.map(self.items(ids))


class Joined:
    """A reporter that presents several works in turn as one."""

    def __init__(self, listener: Reporter) -> None:
        self._listener = listener
        self._title, self._total, self._done, self._images = "", 0, 0, 0
        self._is_announced = False

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        """One of them begins. They are announced when the first has done something, or at the end."""
        self._title, self._total, self._done, self._images = title, self._total + total, self._done + done, images

    def advance(self, count: int = 1, **facts: float) -> None:
        """As in `Reporter`."""
        self.announce()
        self._listener.advance(count, **facts)

    def announce(self) -> None:
        """Announce those that have begun; called at the end too, for work that only had to be sealed."""
        if self._title and not self._is_announced:
            self._listener.start(self._title, self._total, self._done, images=self._images)
            self._is_announced = True

    def note(self, text: str) -> None:
        """As in `Reporter`."""
        self._listener.note(text)

    def warn(self, text: str) -> None:
        """As in `Reporter`."""
        self._listener.warn(text)


def _sealed(partial: Partial) -> Artifact | None:
    """The artifact that another process has sealed; segments written meanwhile are removed."""
    if done := partial.sealed():
        partial.discard()
    return done


@contextmanager
def provenance_of(options: RunOptions, machine: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """When, how long and on what machine something is made; complete when the block ends, never part of its
    identity."""
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
