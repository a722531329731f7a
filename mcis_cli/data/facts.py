"""Facts about a file from reading it once: its SHA-256 and what a measure computes from its bytes.

Facts are remembered by the store's stat cache, so that a second command does not read the images again.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from mcis_cli.data.formats import MAX_IMAGE_BYTES
from mcis_cli.data.regular_files import read_regular
from mcis_cli.data.tar_members import SUFFIX, find_member
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

Facts = dict[str, Any]
Measure = Callable[[bytes, str], Facts]
BATCH = 1024  # files in flight: bounds memory for any size of the set
WORKERS = 4


def no_facts(content: bytes, name: str) -> Facts:
    """Measure nothing, if only the digest is needed."""
    return {}


def file_facts(
    files: Sequence[Path | str], kind: str, measure: Measure, cache: StatCache | None = None
) -> Iterator[Facts | DataError]:
    """Read files in threads, except those whose facts are remembered.

    Args:
        files: The files, in the order of the results.
        kind: Name and version of the measure; the cache only returns facts of this kind.
        measure: Facts of (bytes, name); may raise DataError.
        cache: The store's stat cache.

    Yields:
        For each file its facts with "sha256", or the error from reading it.
    """
    remaining = iter(files)
    with ThreadPoolExecutor(WORKERS) as pool:  # starts no threads until there is something to read
        while batch := list(islice(remaining, BATCH)):
            known = _remembered(batch, kind, cache)
            unknown = [file for file, facts in zip(batch, known, strict=True) if facts is None]
            fresh = iter(list(pool.map(lambda file: _read(file, kind, measure, cache), unknown)))
            for facts in known:
                yield next(fresh) if facts is None else facts


def _remembered(files: Sequence[Path | str], kind: str, cache: StatCache | None) -> list[Facts | None]:
    if cache is None:
        return [None] * len(files)
    return cache.get_all(_on_disk(file, kind) for file in files)


def _on_disk(file: Path | str, kind: str) -> tuple[Path | str, str]:
    """The file that facts depend on, and their kind: for a member of an archive, that archive, and its place in it."""
    if f"{SUFFIX}/" in str(file) and (member := find_member(str(file))) is not None:
        archive, offset, size = member
        return archive, f"{kind}@{offset}+{size}"
    return file, kind


def _read(file: Path | str, kind: str, measure: Measure, cache: StatCache | None) -> Facts | DataError:
    def find(_: Path) -> Facts:
        content = read_regular(Path(file), MAX_IMAGE_BYTES)
        return {"sha256": hashlib.sha256(content).hexdigest(), **measure(content, str(file))}

    try:
        on_disk, kind = _on_disk(file, kind)
        return find(Path(file)) if cache is None else cache.look(Path(on_disk), kind, find)
    except OSError as error:
        return DataError(f"cannot read {file}: {error.strerror}; replace or remove it")
    except DataError as error:
        return error
