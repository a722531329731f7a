"""Locks that keep two processes from doing the same work. Without them everything is right, only slower."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mcis_cli.errors import BusyError, McisError
from mcis_cli.store import files

Locking = Literal["wait", "fail", "none"]
_PAUSE = 0.1  # seconds between two tries


@contextmanager
def held(path: Path, on_wait: Callable[[int], None] | None, locking: Locking) -> Iterator[None]:
    """Hold the lock `path`.lock, with the own process id in `path`.pid.

    Args:
        path: In the store's `locks/`, without suffix.
        on_wait: Called once before waiting, with the holder's process id (0 if unknown).
        locking: Whether to wait for the holder, to raise, or to do without a lock.

    Raises:
        BusyError: another process holds it, and `locking` is "fail".
        StorageError: the lock's file cannot be made.
    """
    if locking == "none":
        yield
        return
    lock, holder = path.with_name(f"{path.name}.lock"), path.with_name(f"{path.name}.pid")
    descriptor = files.open_regular(lock, os.O_RDWR | os.O_CREAT)
    try:
        if not _acquired(descriptor):
            pid = _read_pid(holder)
            if locking == "fail":
                raise BusyError(
                    f"process {pid} works on {path.name}; wait until it is done, then run the command again"
                )
            if on_wait is not None:
                on_wait(pid)
            while not _acquired(descriptor):
                time.sleep(_PAUSE)
        _write_pid(holder)
        yield
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    """Whether no other process has the lock, or the file system has none."""
    try:
        return files.claim(descriptor)
    except OSError:
        return True


def _read_pid(path: Path) -> int:
    try:
        return int(files.read_regular(path, 64))
    except (McisError, ValueError):
        return 0


def _write_pid(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with files.temporary(temporary) as descriptor:
        with files.reported("write", path):
            files.write(descriptor, b"%d\n" % os.getpid(), 0)
        files.replace(temporary, path)
