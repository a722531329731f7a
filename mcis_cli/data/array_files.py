"""Arrays in the files of NumPy, `.npy` and `.npz`, read by NumPy after a check that the bytes fill the shape.

Plain numbers only: an array of objects is a pickle, and refused (`interop.imports.pickled_arrays` reads those that hold
a dictionary of arrays).
"""

import io
import math
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mcis_cli.data.archives import open_archive
from mcis_cli.errors import DataError

MAX_ARRAY_BYTES = 2**28  # of one file, and of its unpacked content


class Header(NamedTuple):
    """The header of a `.npy` file, and where its data begins."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def read_header(content: bytes, name: str) -> Header:
    """Read the header of a `.npy` file.

    Raises:
        DataError: The bytes do not begin as NumPy begins a file.
    """
    file = io.BytesIO(content)
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # NumPy parses Python here, which raises many kinds of errors
        raise _malformed(name, f"a head that NumPy cannot read ({type(error).__name__})") from None
    return Header(dtype, shape, file.tell())


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether values are truth values, or integers or floats of at most 8 bytes."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.names is None


def read_npy(content: bytes, name: str) -> NDArray[Any]:
    """The array in the bytes of a `.npy` file, in this machine's byte order.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Raises:
        DataError: The bytes are not a `.npy` file, are truncated, or hold anything but plain numbers.
    """
    header = read_header(content, name)
    if not is_plain(header.dtype):
        raise _malformed(name, f"values of dtype {header.dtype.str}")
    num_bytes = len(content) - header.start
    if min(header.shape, default=0) < 0 or math.prod(header.shape) * header.dtype.itemsize != num_bytes:
        raise _malformed(name, f"{num_bytes:,} bytes of values for the shape {header.shape}")
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise _malformed(name, f"an array that NumPy cannot read ({error!s:.80})") from None
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def list_npz(content: bytes, name: str) -> tuple[str, ...]:
    """Names of the arrays in a `.npz` file, without the extension of each.

    Raises:
        DataError: The bytes are not a `.npz` file.
    """
    with _opened(content, name) as archive:
        return tuple(info.filename.removesuffix(".npy") for info in archive.infolist())


def read_npz(content: bytes, name: str, wanted: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of some names in a `.npz` file; the others are not unpacked.

    Raises:
        DataError: The bytes are not a `.npz` file, a name is missing, an array is not of plain numbers, or all of them
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
