"""Open files from elsewhere: only regular files, and none longer than a limit. The one place that knows of archives and
mirrors of URLs."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from mcis_cli.data.places import mirrored
from mcis_cli.errors import DataError


def open_regular(path: Path, limit: int) -> tuple[BufferedReader, int]:
    """Open a file for reading. Returns it with its size.

    Args:
        path: The file; symbolic links are followed, to a file.
        limit: The maximum number of bytes.

    Raises:
        DataError: It is a folder, a pipe or a device, or is too long.
        OSError: It cannot be opened.
    """
    if mirrored(path) is not None:
        from mcis_cli.data.remote import open_mirrored

        file, size = open_mirrored(path)
        if size > limit:
            raise _too_long(path, size, limit)
        return file, size
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would block
    status = os.fstat(descriptor)
    fault: DataError | None = None
    if not stat.S_ISREG(status.st_mode):
        fault = DataError(f"{path}: a folder, a pipe or a device; expected a file; replace or remove it")
    elif status.st_size > limit:
        fault = _too_long(path, status.st_size, limit)
    if fault:
        os.close(descriptor)
        raise fault
    return os.fdopen(descriptor, "rb"), status.st_size


def _too_long(path: Path, size: int, limit: int) -> DataError:
    return DataError(f"{path}: {size:,} bytes; expected at most {limit:,}; make it smaller, or remove it")


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a file, or of a member of a tar archive (`shard.tar/cat/001.jpg`).

    Raises:
        DataError: It cannot be read, is a folder, a pipe or a device, or has more than `limit` bytes.
    """
    try:
        if ".tar/" in str(path):  # a member of an archive, unless a folder is called so
            from mcis_cli.data.tar_members import read_member

            if (content := read_member(str(path), limit)) is not None:
                return content
        file, size = open_regular(path, limit)
        with file:
            return file.read(size)  # reading allocates memory for all of them at once
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; replace or remove it") from error


def other_file(content: bytes) -> str | None:
    """What a failed download or copy left in place of a file, and what to do; None for other content.

    Args:
        content: The first bytes of the file, or all.
    """
    head = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself; run git lfs pull"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not the file itself; download it again"
    return None
