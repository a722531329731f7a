"""Stages that go image by image: fixed segments, each a pure function of the recipe and its number."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mcis_cli import __version__
from mcis_cli.config import RunOptions
from mcis_cli.errors import UnfinishedError
from mcis_cli.store import Artifact, Partial, Recipe, Record, Schema, Store, segments_of


def run_segments(
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
) -> Artifact:
    """Compute what is missing of an artifact, segment by segment, and seal it.

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
        observe: called with every record as it is sealed, those that were found done too.
        observed: what it fills in, for the provenance.

    Returns:
        The sealed artifact; that of another process, if it was quicker.

    Raises:
        UnfinishedError: this shard has done its part, and others have not.
    """
    segments = segments_of(ids)

    def waits(pid: int) -> None:
        options.reporter.note(f"waiting for process {pid}")

    def fill(partial: Partial, indices: Sequence[int], *, tell: bool) -> Artifact | None:
        """Compute those of some segments that are missing. Returns what another process has sealed meanwhile."""
        missing = [index for index in indices if not partial.segment(index)]
        total, left = (sum(len(segments[index]) for index in some) for some in (indices, missing))
        if missing or tell:
            options.reporter.start(recipe.stage, total, total - left)
        for index in missing:
            if done := _sealed(partial):
                return done
            if partial.segment(index):
                options.reporter.advance(len(segments[index]))
            else:
                partial.write_segment(index, schema, _counted(compute(segments[index]), options))
        return None

    if options.shard is not None:
        number, count = options.shard
        with store.begin(recipe, waits, shard=options.shard) as partial:
            own = range(number - 1, len(segments), count)
            if done := _sealed(partial) or fill(partial, own, tell=True):
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
            if done := _sealed(partial) or fill(partial, range(len(segments)), tell=options.shard is None):
                return done
        return partial.seal(schema, len(segments), meta(), {**provenance, **(observed or {})}, observe)


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
