"""The only module that opens or writes files of the store, one system call to a function, so that tests can fail each.

Nothing is ever written in place under a final name: bytes go to a new temporary file, are synced, and get their name
by `link`. Only regular files are read or appended to, never a link, a pipe or a device, since a store may have been
copied from elsewhere. A failure of the file system becomes a StorageError of one line. Files in use are held: a process
that reads a sealed file, writes a temporary one or works in a folder of `partial/` has a shared `flock` on it, which
ends with the process. To remove such a file, a process claims it first, which fails while another holds it.
"""

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mcis_cli.errors import DamagedError, MissingError, StorageError

REMEDY = "`mcis verify --repair` sets it aside and prints how to make it again; or copy it again"
_COPIED = 2**20  # bytes at a time
_ELSEWHERE = "give --store FOLDER on a file system that can be written"
_REMEDIES = {
    errno.ENOSPC: "free some space, or give --store FOLDER on another disk, and run the same command again",
    errno.EDQUOT: "free some of your quota, or give --store FOLDER elsewhere, and run the same command again",
    errno.EFBIG: "raise the limit on the size of files, or give --store FOLDER elsewhere",
    errno.EIO: "check the disk and its cable, then run the same command again",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: f"{_ELSEWHERE}, and has hard links, which FAT lacks",
    errno.ENOTSUP: "the store needs hard links: give --store FOLDER on a file system that has them",
    errno.ENOSYS: "the store needs hard links: give --store FOLDER on a file system that has them",
    errno.EMLINK: _ELSEWHERE,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}

_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # errors of file systems without hard links
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


@contextmanager
def reported(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a StorageError that names what was tried and what helps."""
    try:
        yield
    except OSError as error:
        raise storage_error(action, path, error) from error


def storage_error(action: str, path: Path, error: OSError) -> StorageError:
    """The StorageError for an `error` that came from doing `action` to `path`."""
    remedy = _REMEDIES.get(error.errno or 0, "check the folder, then run the same command again")
    return StorageError(f"cannot {action} {path}: {error.strerror or error}; {remedy}")


def damaged(path: Path, found: str, expected: str) -> DamagedError:
    """The error for a file with other content than was written."""
    return DamagedError(f"{path} is damaged: {found}, expected {expected}; {REMEDY}")


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file of the store, without following links and without blocking on pipes.

    Args:
        path: the file.
        flags: those of `os.open`; for reading, if not given.

    Returns:
        The descriptor.

    Raises:
        MissingError: there is nothing at `path`.
        DamagedError: it is a link, a folder, a pipe or a device.
        StorageError: it cannot be opened.
    """
    with reported("open", path):
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) and not flags & os.O_CREAT:
                raise MissingError(f"{path} does not exist; mcis ls lists the artifacts of the store") from None
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
                raise
            descriptor = -1
        if descriptor >= 0 and stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
    if descriptor >= 0:
        os.close(descriptor)
    raise damaged(path, "it is a link, a folder, a pipe or a device", "a file")


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a file of the store.

    Raises:
        MissingError: there is nothing at `path`.
        DamagedError: it is no regular file, or has more than `limit` bytes.
        StorageError: it cannot be read.
    """
    with open(open_regular(path), "rb") as file, reported("read", path):
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, limit) + 1)  # memory for all of them is allocated at once
    if len(data) > limit:
        raise damaged(path, f"it has more than {limit:,} bytes", "fewer")
    return data


def read_end(path: Path, limit: int) -> bytes:
    """The last `limit` bytes of a file of the store, or all that it has; see `read_regular` for what is raised."""
    with open(open_regular(path), "rb") as file, reported("read", path):
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def copy(source: int, path: Path, target: int, size: int) -> None:
    """Copy the first `size` bytes of an open file, `path`, to another.

    Raises:
        DamagedError: the file is shorter.
        StorageError: it cannot be read, or the other not be written.
    """
    offset = 0
    while offset < size:
        with reported("read", path):
            data = os.pread(source, min(_COPIED, size - offset), offset)
        if not data:
            raise damaged(path, f"it has {offset:,} bytes", f"{size:,}")
        with reported("write a copy of", path):
            write(target, data, offset)
        offset += len(data)


def make_folder(path: Path) -> None:
    """Make one folder if needed, and always sync its parent: whoever made it may have been stopped before that.

    Raises:
        StorageError: it cannot be made, or a link is in its place.
    """
    new_folder(path)
    sync_folder(path.parent)


def new_folder(path: Path) -> None:
    """As `make_folder`, without syncing its name."""
    with reported("make the folder", path), suppress(FileExistsError):
        os.mkdir(path)
    check_folder(path)


def check_folder(path: Path) -> None:
    """Check that a folder of the store is a folder: in a store from elsewhere it may be a link, which leads anywhere.

    Raises:
        StorageError: there is something else at `path`.
    """
    with reported("look at", path):
        mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        raise StorageError(
            f"{path} is a {'link' if stat.S_ISLNK(mode) else 'file, pipe or device'}, expected a folder of the store "
            "itself; replace it with what it leads to, or remove it (the store as a whole may be a link)"
        )


def create(path: Path) -> int:
    """Open a new file for writing and reading, whose permissions are read-only for others. Returns the descriptor."""
    with reported("create", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)


@contextmanager
def temporary(path: Path) -> Iterator[int]:
    """A new file, held, that loses this name at the end in any case; to last, it gets another name before that."""
    descriptor = create(path)
    hold(descriptor)
    while not is_named(descriptor, path):  # it was removed as left behind, in the moment before it was held
        os.close(descriptor)
        descriptor = create(path)
        hold(descriptor)
    try:
        yield descriptor
    finally:
        with suppress(OSError):  # the file was synced before it got its name, so this cannot lose data
            os.close(descriptor)
        with suppress(StorageError):  # must not hide the error that led here; the next run removes it
            unlink(path)


def write(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`. Raises OSError: the caller knows the path and what the write was for."""
    rest = memoryview(data).cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest, offset = rest[written:], offset + written


def truncate(descriptor: int, length: int) -> None:
    """Set the length of an open file. Raises OSError, as `write` does."""
    os.ftruncate(descriptor, length)


def sync(descriptor: int, path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with reported("sync", path):
        os.fsync(descriptor)


def hold(descriptor: int) -> None:
    """Hold an open file or folder for as long as it is open; without effect on file systems without such locks.

    Waits while another process has claimed it, to remove it; so check `is_named` afterwards.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def claim(descriptor: int) -> bool:
    """Claim an open file or folder: whether nobody else holds it; then nobody can until it is closed.

    Raises OSError if the file system has no flock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_byte(descriptor: int, number: int, *, wait: bool) -> bool:
    """Lock one byte of an open file until it is closed: whether no other process has locked it, or no longer.

    The process must lock no other byte of the file meanwhile. Without effect on file systems without such locks.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, number)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def missing_locks(descriptor: int) -> list[str]:
    """The kinds of locks that the file system of an open file lacks, by their system calls; it gets none of them."""
    missing = []
    for name, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(descriptor, fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # another process has it
                missing.append(name)
    return missing


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim `path` for the block, to remove it. False if a process holds it, or if it does not exist.

    Raises:
        StorageError: it cannot be opened, or its file system cannot show whether it is in use.
    """
    descriptor, is_unheld = -1, False
    with reported("open", path), suppress(FileNotFoundError):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            is_unheld = error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV)  # nobody holds a link or a socket
            if not is_unheld:
                raise
    if descriptor < 0:
        yield is_unheld
        return
    try:
        try:
            mine = claim(descriptor)
        except OSError as error:
            raise StorageError(
                f"cannot determine whether {path} is in use: {error.strerror or error}, expected a file system with "
                "flock; remove by hand what is not needed, while no command runs"
            ) from error
        yield mine and is_named(descriptor, path)
    finally:
        os.close(descriptor)


def sweep(folder: Path, owner: str) -> None:
    """Remove the temporary files of an owner that has ended; a running owner holds its files."""
    for path in folder.glob(f"{owner}.*"):
        with suppress(StorageError), claimed(path) as mine:
            if mine:
                unlink(path)


def is_named(descriptor: int, path: Path) -> bool:
    """Whether `path` names this open file or folder, and not another one or none."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def open_folder(path: Path) -> int:
    """Open a folder, to sync or to hold it. Raises OSError, as `write` does."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def sync_folder(path: Path) -> None:
    """Wait until the folder's names are on the disk."""
    with reported("sync the folder", path):
        descriptor = open_folder(path)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(source: Path, target: Path) -> bool:
    """Give a synced file its final name. Returns False, and changes nothing, if the name is taken."""
    with reported("link into place", target):
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            return _rename_new(source, target, error)
    return True


def _rename_new(source: Path, target: Path, refused: OSError) -> bool:
    """As `link`, on a file system without hard links, such as FAT: also one step, but the first name is removed."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise refused
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        return False
    raise refused


def replace(source: Path, target: Path) -> None:
    """Give a synced file a name that may be taken, in one step: for names, logs, and what was found damaged."""
    with reported("replace", target):
        os.replace(source, target)


def put(new: Path, path: Path, data: bytes, *, overwrite: bool) -> bool:
    """Write a small file in one step, first under the name `new`. Returns False if `path` exists, which stays."""
    with temporary(new) as descriptor:
        with reported("write", path):
            write(descriptor, data, 0)
        sync(descriptor, new)
        if overwrite:
            replace(new, path)
        done = overwrite or link(new, path)
        sync_folder(path.parent)
    return done


def unlink(path: Path) -> None:
    """Remove a name; one that is already gone is fine."""
    with reported("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


def remove_folder(path: Path) -> None:
    """Remove an empty folder; one that is gone, or that another process has filled again, is fine."""
    with reported("remove the folder", path):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise


def append(path: Path, data: bytes) -> None:
    """Add `data` to the end of a log, unsynced: a crash may lose or tear its last lines.

    Raises:
        DamagedError: a link, a folder, a pipe or a device is in its place.
        StorageError: it cannot be written.
    """
    descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        with reported("write to", path):
            rest = memoryview(data)
            while rest:  # one turn, except if the disk fills up in the middle
                rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
