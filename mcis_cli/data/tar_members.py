"""Members of tar archives, read where they are: `shard.tar/cat/001.jpg` is a path like any other.

Nothing is extracted and no file stays open, so workers may be spawned at any time. Each process makes the index of an
archive once, when it reads the first member, unless the layout gives it the index that it remembers.
"""

import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from mcis_cli.data.formats import JUNK_FOLDERS, id_fault
from mcis_cli.data.regular_files import open_regular
from mcis_cli.errors import DataError

SUFFIX = ".tar"
MAX_BYTES = 2**50
MAX_NAME = 255  # of a member, with its extension
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_END = bytes(512)

Members = Mapping[str, tuple[int, int]]  # offset and size by name
Stamp = tuple[int, ...]
_known: dict[str, tuple[Stamp, Members]] = {}


def archive_of(path: str) -> str | None:
    """The archive whose member a path names, or None."""
    end = path.find(f"{SUFFIX}/")
    while end >= 0:
        end += len(SUFFIX)
        if os.path.isfile(path[:end]):
            return path[:end]
        end = path.find(f"{SUFFIX}/", end)
    return None


def find_member(path: str) -> tuple[str, int, int] | None:
    """The archive, offset and size of the member that a path names; None if it names no member of an archive.

    Raises:
        DataError: The archive cannot be read, or has no such member.
        OSError: It cannot be opened.
    """
    archive = archive_of(path)
    if archive is None:
        return None
    name = path[len(archive) + 1 :]
    stamp = _stamp(archive)
    known = _known.get(archive)
    if known is None or known[0] != stamp:
        with open_regular(Path(archive), MAX_BYTES)[0] as file:
            known = stamp, {name: (offset, size) for name, offset, size in scan(file, archive)}
        _known[archive] = known
    if name not in known[1]:
        raise DataError(
            f"{archive} has no member {name!r}; it has changed since it was listed; start the command again"
        )
    return archive, *known[1][name]


def remember(archive: str, members: Members) -> None:
    """Keep the index of an archive for this process."""
    _known[archive] = _stamp(archive), members


def read_member(path: str, limit: int) -> bytes | None:
    """The bytes of the member that a path names; None if it names no member of an archive.

    Raises:
        DataError: as `find_member`; or it is cut off, or has more than `limit` bytes.
        OSError: The archive cannot be opened.
    """
    found = find_member(path)
    if found is None:
        return None
    archive, offset, size = found
    if size > limit:
        raise DataError(f"{path}: {size:,} bytes; expected at most {limit:,}; make it smaller, or remove it")
    with open_regular(Path(archive), MAX_BYTES)[0] as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise _broken(archive, "its end is missing")
    return content


def scan(file: BinaryIO, name: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file of an archive; hidden ones are left out.

    Args:
        file: The archive; the caller may read from it between two members.
        name: How messages call it.

    Raises:
        DataError: It is no whole tar archive, is compressed, or has a member that is a link or a device, leaves its
            folder, or occurs twice.
    """
    head = file.read(6)
    if head.startswith(_COMPRESSED):
        raise DataError(f"{name} is compressed; expected a plain tar, whose members are read in place; decompress it")
    file.seek(0)
    seen: set[str] = set()
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closing it would close nothing
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all
            path = member.name.removeprefix("./")
            if member.isdir() or _is_hidden(path):
                continue
            if fault := _fault(member, path) or ("is in it twice" if path in seen else None):
                raise DataError(f"{name}: the member {path!r:.200} {fault}; pack it again without it")
            seen.add(path)
            yield path, member.offset_data, member.size
        file.seek(archive.offset)
        if file.read(len(_END)) != _END:
            raise _broken(name, "its end is missing")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        reason = "its end is missing" if "unexpected end" in str(error) else str(error) or type(error).__name__
        raise _broken(name, reason) from None


def _fault(member: tarfile.TarInfo, path: str) -> str | None:
    if not member.isreg() or member.issparse():
        return "is a link, a device or a sparse file, expected a plain file"
    if fault := id_fault(path[:1] and os.path.splitext(path)[0]):
        return f"has a name that is not used: {fault}"
    return None if len(path) <= MAX_NAME else f"has a name of {len(path)} characters, expected at most {MAX_NAME}"


def _is_hidden(path: str) -> bool:
    parts = path.split("/")
    return ".." not in parts and any(part.startswith(".") or part in JUNK_FOLDERS for part in parts)


def _broken(name: str, found: str) -> DataError:
    return DataError(f"{name}: not a whole tar archive ({found}); copy it again, or remove it")


def _stamp(archive: str) -> Stamp:
    status = os.stat(archive)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
