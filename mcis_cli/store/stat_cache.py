"""What is known about files outside the store, so that unchanged ones are not read again.

A file is taken for unchanged while device, inode, size, mtime and ctime are. That fails for a file that changes within
the same tick of the clock in which it was read, so what is that young is not remembered. The cache is never needed:
where it cannot be read or written, files are read again.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

RACY_NS = 2_000_000_000  # the coarsest clock of a file system: FAT's
_BATCH = 900  # old SQLite takes 999 parameters
LOCK_SECONDS = 5.0
_decode = json.JSONDecoder().raw_decode  # `json.loads` looks for white space around each, too
Key = tuple[int, int]
Row = tuple[int, int, int, str]
_TABLE = """
create table if not exists facts (
    device integer, inode integer, size integer, mtime integer, ctime integer, facts text not null,
    primary key (device, inode)) without rowid
"""
# The primary key finds rows by device first: without it, each batch would read the whole table.
_QUERY = "select inode, size, mtime, ctime, facts from facts where device = ? and inode in ({places})"


class StatCache:
    """Facts (JSON objects) by file. Safe to use from several threads and processes; use as a context manager."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Open the cache in the file `path`; without one, nothing is remembered longer than this object lives.

        Args:
            path: The file; made where there is none.
            read_only: Whether to leave the file as it is, and to make none.
        """
        self._path = path
        self._read_only = read_only
        self._lock = threading.Lock()
        self._new: dict[Key, Row] = {}
        self._database = self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._path is not None and not (self._read_only and not self._path.exists()):
            for _ in range(2):
                try:
                    return _open(self._path, self._read_only)
                except sqlite3.OperationalError:  # locked, or on a read-only disk
                    break
                except sqlite3.DatabaseError:  # not a database: made anew
                    if self._read_only:
                        break
                    self._delete()
        return _open(None)

    def _delete(self) -> None:
        if self._path is not None:
            for suffix in ("", "-wal", "-shm", "-journal"):
                with suppress(OSError):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def get(self, file: Path) -> dict[str, Any] | None:
        """What is known about a file, if it is what it was.

        Raises:
            OSError: the file cannot be looked at.
        """
        return self._known([os.stat(file)])[0]

    def get_all(self, files: Sequence[Path | str]) -> list[dict[str, Any] | None]:
        """What `get` would say of each of many files, at a fraction of the time; None where one cannot be looked at."""
        statuses: list[os.stat_result | None] = []
        for file in files:
            try:
                statuses.append(os.stat(file))
            except OSError:
                statuses.append(None)
        known = iter(self._known([status for status in statuses if status is not None]))
        return [None if status is None else next(known) for status in statuses]

    def _known(self, statuses: Sequence[os.stat_result]) -> list[dict[str, Any] | None]:
        keys = [_key(status) for status in statuses]
        with self._lock:
            rows = self._select([key for key in keys if key not in self._new]) | self._new
        found = []
        for key, status in zip(keys, statuses, strict=True):
            row = rows.get(key)
            found.append(_decode(row[3])[0] if row is not None and row[:3] == _state(status) else None)
        return found

    def look(self, file: Path, compute: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` finds in a file; remembered, unless the file changed, or may have changed, meanwhile.

        Raises:
            OSError: the file cannot be looked at; and whatever `compute` raises.
        """
        looked, before = time.time_ns(), os.stat(file)
        facts = compute(file)
        self.put(file, before, facts, looked_ns=looked)
        return facts

    def put(
        self, file: Path, stat_before: os.stat_result, facts: Mapping[str, Any], *, looked_ns: int | None = None
    ) -> None:
        """Remember what was found in a file, unless it changed, or may have changed, while it was read.

        Args:
            file: The file.
            stat_before: `os.stat(file)` before it was read.
            facts: What was found: a JSON object.
            looked_ns: `time.time_ns()` when `stat_before` was taken; now, if not given.
        """
        looked = time.time_ns() if looked_ns is None else looked_ns
        youngest = max(stat_before.st_mtime_ns, stat_before.st_ctime_ns)
        now = os.stat(file)
        if looked - youngest < RACY_NS or (_key(now), _state(now)) != (_key(stat_before), _state(stat_before)):
            return
        with self._lock:
            self._new[_key(now)] = (*_state(now), json.dumps(dict(facts)))
            if len(self._new) >= _BATCH:
                self._flush()

    def flush(self) -> None:
        """Write what is new."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write what is new, and close the file."""
        with self._lock:
            self._flush()
            self._database.close()

    def __enter__(self) -> "StatCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _select(self, keys: Sequence[Key]) -> dict[Key, Row]:
        found: dict[Key, Row] = {}
        by_device: dict[int, list[int]] = {}
        for device, inode in keys:
            by_device.setdefault(device, []).append(inode)
        for device, inodes in by_device.items():
            for start in range(0, len(inodes), _BATCH):
                some = inodes[start : start + _BATCH]
                query = _QUERY.format(places=", ".join("?" * len(some)))
                try:
                    rows = self._database.execute(query, (device, *some)).fetchall()
                except sqlite3.OperationalError:
                    continue
                except sqlite3.DatabaseError:
                    self._rebuild()
                    continue
                found |= {(device, row[0]): row[1:] for row in rows}
        return found

    def _flush(self) -> None:
        rows = [(*key, *row) for key, row in self._new.items()]
        try:
            with self._database:
                self._database.executemany("insert or replace into facts values (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.OperationalError:
            pass  # locked, full, or read-only: these files are read again next time
        except sqlite3.DatabaseError:
            self._rebuild()
        self._new.clear()

    def _rebuild(self) -> None:
        self._database.close()
        if not self._read_only:
            self._delete()
        self._database = _open(None) if self._read_only else self._connect()


def _open(path: Path | None, read_only: bool = False) -> sqlite3.Connection:
    name = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    database = sqlite3.connect(name, timeout=LOCK_SECONDS, check_same_thread=False, uri=path is not None)
    try:
        database.execute("pragma synchronous = off")  # may be lost at any time, so nothing waits for the disk
        database.execute(_TABLE)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _key(status: os.stat_result) -> Key:
    """Device and inode, as the signed numbers that SQLite has."""
    device, inode = status.st_dev, status.st_ino
    return device if device < 2**63 else device - 2**64, inode if inode < 2**63 else inode - 2**64


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
