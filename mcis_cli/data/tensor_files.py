"""Named tensors in the format of safetensors: the length of a head, the head in JSON, and the values one after another.

Read by a strict reader of our own, so that no package is needed: every byte of the values belongs to one tensor, and
nothing is allocated that no bytes fill.
"""

import itertools
import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from mcis_cli.errors import DataError

MAX_HEADER = 2**24
MAX_TENSORS = 100_000
MAX_RANK = 8
SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
TORCH_DTYPES: Mapping[str, str] = {  # what torch calls them
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
}


class StoredTensor(NamedTuple):
    """A tensor as it lies in the file: name of its dtype (see `SIZES`), shape, and the bytes of its values."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_safetensors_head(content: bytes | bytearray, name: str) -> dict[str, StoredTensor]:
    """Where the tensors of a `.safetensors` file lie.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Returns:
        By name; `start` and `end` count from the first byte of the file.

    Raises:
        DataError: The bytes are no such file.
    """
    if len(content) < 8:
        raise _malformed(name, f"{len(content)} bytes")
    (length,) = struct.unpack_from("<Q", content)
    if length > min(MAX_HEADER, len(content) - 8):
        raise _malformed(name, f"a head of {length:,} bytes")
    head = _parse(content[8 : 8 + length], name)
    head.pop("__metadata__", None)
    if len(head) > MAX_TENSORS:
        raise _malformed(name, f"{len(head):,} tensors")
    tensors = {key: _tensor(entry, 8 + length, f"{name} ({key[:64]!r})") for key, entry in head.items()}
    places = sorted((tensor.start, tensor.end) for tensor in tensors.values())
    ends = [8 + length, *(end for _, end in places)]
    starts = [*(start for start, _ in places), len(content)]
    if ends != starts:
        raise _malformed(name, "tensors that overlap, or bytes that belong to none")
    return tensors


def _parse(head: bytes | bytearray, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(head.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _malformed(name, "a head that is no JSON object, or names something twice")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _tensor(entry: Any, base: int, name: str) -> StoredTensor:
    match entry:
        case {"dtype": str() as dtype, "shape": [*shape], "data_offsets": [start, end], **rest} if not rest:
            numbers = list(itertools.chain(shape, (start, end)))
            sound = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
            if sound and dtype in SIZES and len(shape) <= MAX_RANK and end - start == math.prod(shape) * SIZES[dtype]:
                return StoredTensor(dtype, tuple(shape), base + start, base + end)
    raise _malformed(name, f"a tensor listed as {str(entry)[:80]}")


def _malformed(name: str, found: str) -> DataError:
    return DataError(f"{name}: found {found}; expected a file of safetensors; save it anew, or as .pth")
