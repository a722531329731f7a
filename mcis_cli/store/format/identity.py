"""Recipes (key) and results (content id): canonical JSON, and the two hashes over meaning.

The third hash, over the bytes of a file, is in user_block.py. docs/reference/artifact-format.md specifies all three.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from mcis_cli.errors import UsageError

if TYPE_CHECKING:  # listing a store needs no arrays, and takes 0.4 s without NumPy
    from numpy.typing import NDArray

JSON: TypeAlias = "bool | int | float | str | list[JSON] | tuple[JSON, ...] | Mapping[str, JSON] | None"
Schema: TypeAlias = Mapping[str, tuple[str, int]]
Record: TypeAlias = "tuple[str, Mapping[str, NDArray[Any]]]"

FORMAT = 1
MAX_INTEGER = 2**63  # readers refuse others
DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)
STAGE = re.compile(r"[a-z][a-z0-9-]{0,39}")


def canonical_json(value: Any) -> bytes:
    """The one UTF-8 spelling of a JSON value: keys sorted, no spaces, no escapes that are not needed.

    Raises:
        UsageError: a number that is not finite, an integer of more than 64 bits, or a text that UTF-8 cannot encode.
        TypeError: a value or a key of a type that JSON lacks; nothing is converted silently.
    """
    plain = _plain(value, "value")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # a file name in another encoding, as Python returns it
        found = text[max(0, error.start - 20) : error.end]
        raise UsageError(f"{found!r} is not valid UTF-8; rename the file or class, or set a UTF-8 locale") from error


def _plain(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        if not -MAX_INTEGER <= value < MAX_INTEGER:
            raise UsageError(f"{where} is an integer of {value.bit_length()} bits; expected one from -2^63 to 2^63 - 1")
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise UsageError(f"{where} is {value}; expected a finite number; give another value")
        return value
    if isinstance(value, Mapping):
        if strange := [key for key in value if type(key) is not str]:
            raise TypeError(f"{where} has the key {strange[0]!r}; keys are strings")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is of type {type(value).__name__}; JSON knows None, bool, int, float, str, list and dict")


@dataclass(frozen=True)
class Recipe:
    """The work of a stage: equal recipes have equal results.

    Attributes:
        stage: Name of the stage, as on the command line: `train-cls`.
        version: Algorithm version, raised by hand when the results of the stage change.
        config: All settings with their defaults filled in. Device, workers and paths are no part of it.
        inputs: Content ids, or other digests, of what the stage reads, by role.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    def __post_init__(self) -> None:
        if not STAGE.fullmatch(self.stage):
            raise ValueError(f"stage is {self.stage!r}; a stage's name has lower-case letters, digits and dashes")

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON, of which the key is the hash."""
        parts = {"config": self.config, "inputs": self.inputs, "stage": self.stage, "version": self.version}
        spelled: dict[str, Any] = json.loads(canonical_json(parts))
        return spelled

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of the recipe, as 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.as_dict())).hexdigest()


class ContentHash:
    """Content id of records or tensors, fed one by one in ascending order of their ids, or names."""

    def __init__(self, stage: str, meta: Mapping[str, Any], schema: Schema | None) -> None:
        self._hash = hashlib.sha256()
        self._last: bytes | None = None
        fields = None if schema is None else {name: [dtype, rank] for name, (dtype, rank) in schema.items()}
        for part in (b"mcis content", b"%d" % FORMAT, stage.encode(), canonical_json(meta), canonical_json(fields)):
            self._frame(part)

    def _frame(self, data: "bytes | memoryview") -> None:
        """Feed each part after its length, so that no two sequences of parts are the same bytes."""
        self._hash.update(memoryview(data).nbytes.to_bytes(8, "little"))
        self._hash.update(data)

    def add(self, image_id: str, fields: "Mapping[str, NDArray[Any]]") -> None:
        """Take in a record. Ids must ascend strictly, by their UTF-8 bytes; fields may come in any order."""
        self._name(image_id)
        for name in sorted(fields):
            self._frame(name.encode())
            self._array(fields[name])

    def add_tensor(self, name: str, tensor: "NDArray[Any]") -> None:
        """Take in a named tensor. Names must ascend strictly, by their UTF-8 bytes."""
        self._name(name)
        self._array(tensor)

    def _name(self, name: str) -> None:
        encoded = name.encode()
        assert self._last is None or self._last < encoded, f"{name!r} after {self._last!r}: ids ascend strictly"
        self._last = encoded
        self._frame(encoded)

    def _array(self, array: "NDArray[Any]") -> None:
        self._frame(array.dtype.name.encode())
        self._frame(",".join(map(str, array.shape)).encode())
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._frame(little.ravel().data)

    def hexdigest(self) -> str:
        """The content id of everything fed so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()


def hashed(content: ContentHash, records: "Iterator[Record]") -> "Iterator[Record]":
    """Pass records on, taking each into `content`."""
    for image_id, fields in records:
        content.add(image_id, fields)
        yield image_id, fields
