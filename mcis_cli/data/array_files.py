"""Arrays in the files of NumPy, `.npy` and `.npz`, read from bytes by a strict reader of our own.

Plain numbers alone: a head that NumPy itself would not write is refused, and so is every array of objects, which is a
pickle (see `array_pickles` for those that hold a dictionary of arrays). Nothing is allocated that no bytes fill.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.archives import open_archive
from mcis_cli.errors import DataError

MAX_ARRAY_BYTES = 2**28  # of one file, and of what it unpacks to
MAX_RANK = 8
_MAX_HEADER = 10_000
_MAGIC = b"\x93NUMPY"
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NUMBER = "[0-9]{1,18}L?"
_HEADER = re.compile(  # there is one way to read a shape, or else a long one takes for ever
    r"\{'descr': '([^']{1,40})', 'fortran_order': (True|False), "
    rf"'shape': \(((?:{_NUMBER},)?|{_NUMBER}(?:, {_NUMBER}){{1,31}})\), \}} *\n?"
)


class Header(NamedTuple):
    """What the head of a `.npy` file says, and where its data begins. `dtype` is as it is spelled there."""

    dtype: str
    fortran_order: bool
    shape: tuple[int, ...]
    start: int


def read_header(content: bytes, name: str) -> Header:
    """The head of a `.npy` file.

    Raises:
        DataError: The bytes do not begin as NumPy begins a file.
    """
    widths = {1: "<H", 2: "<I", 3: "<I"}
    if content[:6] != _MAGIC or len(content) < 12 or content[6] not in widths:
        raise _malformed(name, "other first bytes")
    width = struct.calcsize(widths[content[6]])
    (length,) = struct.unpack_from(widths[content[6]], content, 8)
    start = 8 + width + length
    if length > _MAX_HEADER or start > len(content):
        raise _malformed(name, f"a head of {length:,} bytes")
    match = _HEADER.fullmatch(content[8 + width : start].decode("latin-1"))
    if match is None:
        raise _malformed(name, "a head that NumPy does not write, or fields with names")
    shape = tuple(int(part.strip(" L")) for part in match[3].split(",") if part.strip())
    return Header(match[1], match[2] == "True", shape, start)


def plain_dtype(spelled: str) -> np.dtype[Any] | None:
    """The dtype of a spelling, where it is one of plain numbers."""
    return np.dtype(spelled) if _DTYPE.fullmatch(spelled) else None


def build_array(
    data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran_order: bool
) -> NDArray[Any] | None:
    """An array over bytes, in this machine's byte order; None where the bytes are not as many as it takes."""
    sound = len(shape) <= MAX_RANK and all(0 <= size < 2**31 for size in shape)
    if not sound or math.prod(shape) * dtype.itemsize != memoryview(data).nbytes:
        return None
    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_npy(content: bytes, name: str) -> NDArray[Any]:
    """The array in the bytes of a `.npy` file.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Raises:
        DataError: The bytes are no `.npy` file, cut off, or hold anything but plain numbers.
    """
    header = read_header(content, name)
    dtype = plain_dtype(header.dtype)
    if dtype is None:
        raise _malformed(name, f"values of dtype {header.dtype}")
    array = build_array(memoryview(content)[header.start :], dtype, header.shape, fortran_order=header.fortran_order)
    if array is None:
        raise _malformed(name, f"{len(content) - header.start:,} bytes of values for the shape {header.shape}")
    return array


def list_npz(content: bytes, name: str) -> tuple[str, ...]:
    """Names of the arrays in a `.npz` file, without the extension of each.

    Raises:
        DataError: The bytes are no `.npz` file.
    """
    with _opened(content, name) as archive:
        return tuple(info.filename.removesuffix(".npy") for info in archive.infolist())


def read_npz(content: bytes, name: str, wanted: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of some names in a `.npz` file; the others are not unpacked.

    Raises:
        DataError: The bytes are no `.npz` file, a name is not there, an array is not of plain numbers, or all of them
            unpack to more than `MAX_ARRAY_BYTES`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    left = MAX_ARRAY_BYTES
    with _opened(content, name) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key in wanted:
            if key not in members:
                raise _malformed(name, f"no array {key!r}")
            try:
                with archive.open(members[key]) as file:
                    unpacked = file.read(left + 1)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
                raise _malformed(name, f"bytes at {key!r} that do not unpack") from None
            left -= len(unpacked)
            if left < 0:
                raise _malformed(name, f"more than {MAX_ARRAY_BYTES:,} bytes unpacked")
            arrays[key] = read_npy(unpacked, f"{name} ({key})")
    return arrays


def _opened(content: bytes, name: str) -> zipfile.ZipFile:
    return open_archive(io.BytesIO(content), name, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))


def _malformed(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: found {found}; expected plain numbers as numpy.save or numpy.savez writes them; convert or remove it"
    )
