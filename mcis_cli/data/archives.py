"""ZIP archives that others made (`.npz`, `.pth`), opened after checking their ends and their lists of members.

An archive must end as NumPy and PyTorch end theirs, so that no two programs see different members in it: the end
record in the last 22 bytes, the list of members right before it, and no comment.
"""

import os
import struct
import zipfile
from typing import BinaryIO

from mcis_cli.errors import DataError

MAX_DIRECTORY = 2**22  # bytes: a larger list may hold millions of members, each of which becomes an object
_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ANY32 = 2**32 - 1


def open_archive(file: BinaryIO, name: str, methods: tuple[int, ...] = (zipfile.ZIP_STORED,)) -> zipfile.ZipFile:
    """Open an archive; it is read through `file`, which the caller closes.

    Args:
        file: The whole archive.
        name: How messages call it.
        methods: The compression methods that its members may have.

    Raises:
        DataError: It is not an archive of this form, has a member twice, or one of another compression.
    """
    if _directory_size(file, name) > MAX_DIRECTORY:
        raise _malformed(name, "a list of members that is huge")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error):
        raise _malformed(name, "no archive") from None
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise _malformed(name, "a member twice")
    if any(member.compress_type not in methods or member.flag_bits & 1 for member in members):
        raise _malformed(name, "a member that is compressed or locked in a way that is not known")
    if any(member.compress_type == 0 and member.compress_size != member.file_size for member in members):
        raise _malformed(name, "a member of two sizes")
    return archive


def _directory_size(file: BinaryIO, name: str) -> int:
    """Size in bytes of the list of members, as the end record gives it, or that of large archives if there is one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 98))
    tail = file.read(98)
    if tail[-22:-18] != _END:
        raise _malformed(name, "no archive, or one with a comment")
    length, offset, comment = struct.unpack("<IIH", tail[-10:])
    end = size - 22
    if tail[-42:-38] == _LOCATOR:
        end = size - 98
        (place,) = struct.unpack("<Q", tail[-34:-26])
        length64, offset64 = struct.unpack("<QQ", tail[40:56]) if len(tail) == 98 else (0, 0)
        if tail[:4] != _END64 or place != end or length not in (length64, _ANY32) or offset not in (offset64, _ANY32):
            raise _malformed(name, "two ends that differ")
        length, offset = length64, offset64
    if comment or offset + length != end:
        raise _malformed(name, "bytes that belong to no member")
    return int(length)


def _malformed(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: found {found}; expected an archive as numpy.savez or torch.save writes it; save it again or remove it"
    )
