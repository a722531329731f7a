"""Facts about files outside the store, so that unchanged ones are not read again.

A file counts as unchanged while device, inode, size, mtime and ctime are the same. That fails for a file that changes
within the tick of the clock in which it was read, so files that young are not remembered. The cache is one file with a
digest. It is replaced as a whole, and discarded if the digest is wrong. Nothing depends on it: if it cannot be read or
written, files are read again.
"""

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcis_cli.errors import McisError
from mcis_cli.store import files

RACY_NS = 2_000_000_000  # the coarsest clock of a file system: FAT's
MAX_BYTES = 2**30  # a million files take a quarter of it
_MIN_UNSAVED = 8192  # at most this much is computed again after a kill, or as much as is known
_HEAD = b"mcis facts 1\n"
_DIGEST_SIZE = 64
Key = bytes  # device, inode and kind
Entry = bytes  # a line: key; size, mtime and ctime; facts in JSON
Stamp = tuple[int, ...]


class StatCache:
    """Facts (JSON objects) by file and kind of fact. Safe to use from several threads and processes."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Open the cache in the file `path`; without one, nothing is remembered longer than this object lives.

        Args:
            path: The file, in the folder of a store; made if there is none.
            read_only: Whether to leave the file as it is, and to make none.
        """
        self._path = path
        self._read_only = read_only
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._known: dict[Key, Entry] = {}
        self._new: dict[Key, Entry] = {}
        self._read()

    def _read(self) -> None:
        """Load the file, if it exists, is intact, and has changed."""
        stamp = _stamp(self._path)
        if self._path is None or stamp is None or stamp == self._stamp:
            return
        self._known, self._stamp = {}, stamp
        with suppress(McisError):
            self._known = _parse(files.read_regular(self._path, MAX_BYTES))

    def get(self, file: Path | str, kind: str) -> dict[str, Any] | None:
        """The facts about a file, if it is unchanged.

        Raises:
            OSError: the file cannot be accessed.
        """
        return self._get(os.stat(file), kind.encode())

    def get_all(self, wanted: Iterable[tuple[Path | str, str]]) -> list[dict[str, Any] | None]:
        """The result of `get` for each of many files and kinds; None for files that cannot be accessed."""
        found: list[dict[str, Any] | None] = []
        for path, kind in wanted:
            try:
                found.append(self._get(os.stat(path), kind.encode()))
            except OSError:
                found.append(None)
        return found

    def _get(self, status: os.stat_result, kind: bytes) -> dict[str, Any] | None:
        key = _key(status, kind)
        entry = self._new.get(key) or self._known.get(key)
        if entry is None:
            return None
        try:
            _, state, facts = entry.split(b"\t", 2)
            if state != _state(status):
                return None
            found = json.loads(facts)
        except (ValueError, RecursionError):  # of a store from elsewhere, with a correct digest
            return None
        return found if isinstance(found, dict) else None

    def look(self, file: Path, kind: str, compute: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """The facts that `compute` finds in a file; remembered, unless the file changed, or may have changed,
        meanwhile.

        Raises:
            OSError: the file cannot be accessed; and whatever `compute` raises.
        """
        looked, before = time.time_ns(), os.stat(file)
        facts = compute(file)
        self.put(file, kind, before, facts, looked_ns=looked)
        return facts

    def put(
        self,
        file: Path | str,
        kind: str,
        stat_before: os.stat_result,
        facts: Mapping[str, Any],
        *,
        looked_ns: int | None = None,
    ) -> None:
        """Remember the facts of a file, unless it changed, or may have changed, while it was read.

        Args:
            file: The file.
            kind: Kind of facts: name and version of the function that finds them.
            stat_before: `os.stat(file)` before it was read.
            facts: A JSON object.
            looked_ns: `time.time_ns()` when `stat_before` was taken; now, if not given.
        """
        looked = time.time_ns() if looked_ns is None else looked_ns
        youngest = max(stat_before.st_mtime_ns, stat_before.st_ctime_ns)
        now, of_kind = os.stat(file), kind.encode()
        key, state = _key(now, of_kind), _state(now)
        if looked - youngest < RACY_NS or (key, state) != (_key(stat_before, of_kind), _state(stat_before)):
            return
        entry = b"\t".join((key, state, json.dumps(dict(facts)).encode()))
        with self._lock:
            self._new[key] = entry
            is_due = len(self._new) >= max(_MIN_UNSAVED, len(self._known))
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write the new facts, and keep those that other processes have written since."""
        with self._lock:
            if not self._new:
                return
            self._read()
            self._known |= self._new
            if self._path is not None and not self._read_only:
                with suppress(McisError):  # the disk is full or read-only: these files are read again next time
                    self._write(self._path)
            self._new = {}

    def _write(self, path: Path) -> None:
        data = _render(self._known)
        if len(data) > MAX_BYTES:
            data = _render(self._new)
        temporary = path.parent / "tmp" / f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
        with files.temporary(temporary) as descriptor:
            with files.reported("write", path):
                files.write(descriptor, data, 0)
            files.replace(temporary, path)  # not synced: after a loss of power the digest shows whether it is intact
        self._stamp = _stamp(path)

    def close(self) -> None:
        """Write the new facts."""
        self.flush()

    def __enter__(self) -> "StatCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _render(entries: Mapping[Key, Entry]) -> bytes:
    body = b"\n".join(entries.values())
    return b"%b%b\n%b" % (_HEAD, hashlib.sha256(body).hexdigest().encode(), body)


def _parse(data: bytes) -> dict[Key, Entry]:
    """The entries of a file; none if `_render` did not make it."""
    start = len(_HEAD) + _DIGEST_SIZE + 1
    body = data[start:]
    if not body or data[:start] != b"%b%b\n" % (_HEAD, hashlib.sha256(body).hexdigest().encode()):
        return {}
    lines = body.split(b"\n")
    keys = [line[: line.find(b"\t")] for line in lines]
    return dict(zip(keys, lines, strict=True))  # a line is split further when its facts are requested


def _stamp(path: Path | None) -> Stamp | None:
    """The facts that differ between versions of a file."""
    with suppress(OSError):
        if path is not None:
            status = os.lstat(path)
            return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return None


def _key(status: os.stat_result, kind: bytes) -> Key:
    return b"%d %d %b" % (status.st_dev, status.st_ino, kind)


def _state(status: os.stat_result) -> bytes:
    return b"%d %d %d" % (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
