"""What is known of a file by reading it once: its SHA-256 and what a measure tells of its bytes.

Facts are remembered by the store's stat cache, so that a second command does not read the images again.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcis_cli.errors import DataError

if TYPE_CHECKING:
    from mcis_cli.store import StatCache

Facts = dict[str, Any]
Measure = Callable[[bytes, str], Facts]
BATCH = 1024  # files in flight: bounds memory whatever the size of the set
WORKERS = 4


def no_facts(content: bytes, name: str) -> Facts:
    """Measure nothing: the digest alone is wanted."""
    return {}


def file_facts(
    files: Sequence[Path], kind: str, measure: Measure, cache: "StatCache | None" = None
) -> Iterator[Facts | DataError]:
    """Read files in threads, or remember what was read before.

    Args:
        files: The files, in the order of the results.
        kind: Name and version of the measure; facts of another kind are not taken from the cache.
        measure: Facts of (bytes, name); may raise DataError.
        cache: The store's stat cache.

    Yields:
        For each file its facts with "kind" and "sha256", or the error that reading it gave.
    """
    remaining = iter(files)
    with ThreadPoolExecutor(WORKERS) as pool:
        while batch := list(islice(remaining, BATCH)):
            known = [_remembered(file, kind, cache) for file in batch]
            fresh = iter(list(pool.map(lambda file: _read(file, kind, measure), _without(batch, known))))
            for file, facts in zip(batch, known, strict=True):
                if facts is not None:
                    yield facts
                    continue
                result, before = next(fresh)
                if cache is not None and before is not None and not isinstance(result, DataError):
                    cache.put(file, before, result)
                yield result


def _remembered(file: Path, kind: str, cache: "StatCache | None") -> Facts | None:
    facts = cache.get(file) if cache is not None else None
    return facts if facts is not None and facts.get("kind") == kind else None


def _without(batch: Sequence[Path], known: Sequence[Facts | None]) -> list[Path]:
    return [file for file, facts in zip(batch, known, strict=True) if facts is None]


def _read(file: Path, kind: str, measure: Measure) -> tuple[Facts | DataError, os.stat_result | None]:
    try:
        before = file.stat()
        content = file.read_bytes()
    except OSError as error:
        return DataError(f"cannot read {file}: {error.strerror}; replace or remove it"), None
    try:
        facts = measure(content, str(file))
    except DataError as error:
        return error, None
    return {"kind": kind, "sha256": hashlib.sha256(content).hexdigest(), **facts}, before
