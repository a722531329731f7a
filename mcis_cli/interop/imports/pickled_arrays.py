"""Dictionaries of arrays in `.npy` files, which other projects write with `numpy.save(file, dictionary)`: pickles.

A pickle is a program. Python's unpickler runs it here with an allow-list of instructions and one of names: those by
which NumPy and PyTorch write arrays and tensors. Each name stands for an object that records how it was called and
does nothing else; arrays of plain numbers are built afterwards from what was recorded, never beyond the file's size.
docs/how-to/import.md explains to users what that means for them.
"""

import io
import itertools
import math
import pickle
import pickletools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.array_files import is_plain, read_header
from mcis_cli.errors import DataError

MAX_INSTRUCTIONS = 50_000  # with more, tuples could nest so deeply that hashing one overflows the C stack
_MAX_ENTRIES = 1000

INSTRUCTIONS = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
    | {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    | {"EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
)
NAMES = frozenset(
    {("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("collections", "OrderedDict")}
    | set(itertools.product(["numpy.core.multiarray", "numpy._core.multiarray"], ["_reconstruct", "scalar"]))
    | set(itertools.product(["numpy.core.numeric", "numpy._core.numeric"], ["_frombuffer"]))
    | {("torch._utils", "_rebuild_tensor_v2"), ("torch.storage", "_load_from_bytes")}
)

Key = int | str


class _Refused(Exception):
    """The program does something that a dictionary of arrays does not need."""


@dataclass(eq=False, slots=True)
class _Call:
    """A recorded call: the name, its arguments, and the state that was set afterwards."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True, slots=True)
class _Name:
    """The replacement of an allowed name: calling it records the call."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        return {} if self.name == "OrderedDict" and not arguments else _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a state for a name")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in NAMES:
            raise _Refused(f"the name {f'{module}.{name}'!r:.80}")
        return _Name(name)


def read_dictionary(content: bytes, name: str) -> dict[Key, NDArray[Any] | None]:
    """Read a `.npy` file that holds one dictionary of arrays.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Returns:
        Arrays of NumPy, and tensors of PyTorch as such arrays; None for a value that is neither.

    Raises:
        DataError: The file does not hold a dictionary with integers or texts for keys, or its program does anything
            that such a dictionary does not need.
    """
    header = read_header(content, name)
    if header.dtype != object or header.shape:
        raise _refused(name, f"an array of dtype {header.dtype.str} and shape {header.shape}")
    try:
        return _Builder(len(content)).dictionary(_run(content[header.start :]))
    except _Refused as error:
        raise _refused(name, str(error)) from None
    except DataError as error:  # of a storage of tensors
        raise _refused(name, str(error).partition("found ")[2].partition(";")[0]) from None
    except Exception as error:  # a program of unknown origin can make the unpickler raise nearly anything
        raise _refused(name, f"a program that is broken ({type(error).__name__})") from None


def _run(program: bytes) -> Any:
    """The object that the program leaves, with recorded calls in it. Lengths are checked against the bytes first."""
    for count, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if count >= MAX_INSTRUCTIONS:
            raise _Refused(f"more than {MAX_INSTRUCTIONS:,} instructions")
        if instruction.name not in INSTRUCTIONS:
            raise _Refused(f"the instruction {instruction.name}")
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > MAX_INSTRUCTIONS:
            raise _Refused("a memo of that size")
    return _Unpickler(io.BytesIO(program)).load()


class _Builder:
    """Builds arrays from recorded calls, with at most as many bytes as the file."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def dictionary(self, made: Any) -> dict[Key, NDArray[Any] | None]:
        """The dictionary in the one-element array in which NumPy saves it."""
        match made:
            case _Call("_reconstruct", _, (_, (), _, _, [dict() as dictionary])):
                pass
            case _:
                raise _Refused("no dictionary")
        if len(dictionary) > _MAX_ENTRIES:
            raise _Refused(f"{len(dictionary):,} entries")
        built = {
            id(value): self._array(value) for value in {id(value): value for value in dictionary.values()}.values()
        }
        return {self._key(key): built[id(value)] for key, value in dictionary.items()}

    def _key(self, made: Any) -> Key:
        match made:
            case _Call("scalar", (kind, data)):
                value = self._plain(data, kind, (), "C")
                if value is not None and value.dtype.kind in "iu":
                    return int(value)
            case str():
                return made
            case int() if type(made) is int and abs(made) < 2**63:
                return made
        raise _Refused("a key that is no class")

    def _array(self, made: Any) -> NDArray[Any] | None:
        """The array of a recorded call; None for anything else."""
        match made:
            case _Call("_reconstruct", _, (_, shape, kind, fortran_order, data)):
                return self._plain(data, kind, shape, "F" if fortran_order else "C")
            case _Call("_frombuffer", (data, kind, shape, order)):
                return self._plain(data, kind, shape, "F" if order == "F" else "C")
            case _Call("_rebuild_tensor_v2", (_Call("_load_from_bytes", (data,)), *layout)):
                storage = _bytes(data)
                self._take(len(storage or b""))
                return None if storage is None else _tensor(storage, *layout[:3])
        return None

    def _plain(self, data: Any, kind: Any, shape: Any, order: Literal["C", "F"]) -> NDArray[Any] | None:
        dtype, values = _dtype(kind), _bytes(data)
        if dtype is None or values is None or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            return None
        self._take(len(values))
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(values):
            raise _Refused(f"{len(values):,} bytes of values for the shape {shape!s:.80}")
        array: NDArray[Any] = np.frombuffer(values, dtype).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _take(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise _Refused("arrays of more bytes than the file has")


def _dtype(made: Any) -> np.dtype[Any] | None:
    match made:
        case _Call("dtype", (str() as spelled, *_), (_, "<" | ">" | "|" as order, *_)) if len(spelled) < 8:
            dtype = np.dtype(spelled)
            return dtype.newbyteorder("<" if order == "|" else order) if is_plain(dtype) else None
    return None


def _bytes(made: Any) -> bytes | None:
    """Bytes, also from the text that protocol 2 writes in their place."""
    match made:
        case bytes() | bytearray():
            return bytes(made)
        case _Call("encode", (str() as text, "latin1")):
            return text.encode("latin-1")
    return None


def _tensor(content: bytes, offset: Any, shape: Any, stride: Any) -> NDArray[Any] | None:
    """A tensor over a storage, which is a file of `torch.save` within the pickle."""
    import torch

    from mcis_cli.training.plain_tensors import load_tensors, tensor_fault

    storage = load_tensors(io.BytesIO(content), "a tensor")
    if not isinstance(storage, torch.TypedStorage):
        return None
    values = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
    tensor = torch.as_strided(values, shape, stride, offset)
    if fault := tensor_fault(tensor):
        raise _Refused(f"{fault} in a tensor")
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _refused(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: found {found}; expected a dictionary from class to array, without any other object in it; save the "
        "maps with numpy.savez instead"
    )
