"""Locks that keep two processes from doing the same work. Without them everything is right, only slower."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mcis_cli.errors import BusyError, McisError
from mcis_cli.store import files

if TYPE_CHECKING:
    import filelock

Locking = Literal["wait", "fail", "none"]


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
    import filelock  # not at the top: it takes a tenth of the time to list a store

    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    os.close(files.open_regular(Path(lock.lock_file), os.O_RDWR | os.O_CREAT))  # filelock would follow a link
    holder = path.with_name(f"{path.name}.pid")
    if not _acquired(lock, timeout=0):
        pid = _read_pid(holder)
        if locking == "fail":
            raise BusyError(f"process {pid} works on {path.name}; wait until it is done, then run the command again")
        if on_wait is not None:
            on_wait(pid)
        _acquired(lock, timeout=-1)
    try:
        _write_pid(holder)
        yield
    finally:
        lock.release()


def _acquired(lock: "filelock.BaseFileLock", timeout: float) -> bool:
    import filelock

    with files.reported("lock", Path(lock.lock_file)):
        try:
            lock.acquire(timeout=timeout, poll_interval=0.1)
        except filelock.Timeout:  # an OSError, so it is caught before `reported` sees it
            return False
        except NotImplementedError:
            pass  # this file system has no locks
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
