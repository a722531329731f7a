"""Stages that go image by image: fixed segments, each a pure function of the recipe and its number."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mcis_cli import __version__
from mcis_cli.config import RunOptions
from mcis_cli.store import Artifact, Recipe, Record, Schema, Store, segments_of


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
) -> Artifact:
    """Compute what is missing of an artifact, segment by segment, and seal it.

    Args:
        recipe: what is computed.
        store: where to.
        options: how to run here.
        schema: the fields of a record.
        ids: sorted image ids.
        compute: from the ids of a segment to its records, in the same order.
        meta: what downstream stages read; asked for after the last segment.
        machine: what the stage computes on, for the provenance.

    Returns:
        The sealed artifact; that of another process, if it was quicker.
    """
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := store.find(recipe):
            return done
        segments = segments_of(ids)
        missing = [index for index in range(len(segments)) if not partial.segment(index)]
        finished = len(ids) - sum(len(segments[index]) for index in missing)
        options.reporter.start(recipe.stage, len(ids), finished)
        with provenance_of(options, machine) as provenance:
            for index in missing:
                records = _counted(compute(segments[index]), options)
                partial.write_segment(index, schema, records)
        return partial.seal(schema, len(segments), meta(), provenance)


@contextmanager
def provenance_of(options: RunOptions, machine: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """When, how long and by what something is made; complete when the block ends, never part of its identity."""
    started = time.monotonic()
    provenance: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
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
