"""Dictionaries of arrays in `.npy` files, which other projects write with `numpy.save(file, dictionary)`: pickles.

A pickle is a program. It is not run here: its instructions are read as data, by an allow-list of those that build
numbers, texts, tuples, lists, dictionaries and the calls that NumPy pickles an array as. Such a call is noted, never
made; no name in the file is looked up; of what is noted, arrays of plain numbers are built by `array_files`, and
anything else is left aside as something unknown. docs/how-to/import.md tells users what that means for them.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.array_files import build_array, plain_dtype, read_header
from mcis_cli.errors import DataError

MAX_INSTRUCTIONS = 100_000
_MAX_ENTRIES = 1000
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")

Key = int | str
Stack = list[Any]


@dataclass(frozen=True, eq=False)
class _Name:
    """A name that the program would look up."""

    module: str
    name: str


@dataclass(eq=False)
class _Call:
    """A call that the program would make, and the state that it would set afterwards."""

    function: Any
    arguments: Any
    state: Any = None


@dataclass(eq=False)
class _Dictionary:
    """A dictionary as the pairs that the program would put in."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)


class _Malformed(Exception):
    """The program does what no dictionary of arrays needs."""


_MARK: Final = object()
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def read_dictionary(content: bytes, name: str) -> dict[Key, NDArray[Any] | None]:
    """The arrays of a `.npy` file that holds one dictionary; None where a value is no array of plain numbers.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Raises:
        DataError: The file does not hold a dictionary with integers or texts for keys, or its program does anything
            that such a dictionary does not need.
    """
    header = read_header(content, name)
    if header.dtype.lstrip("|") != "O" or header.shape:
        raise _refused(name, f"an array of dtype {header.dtype} and shape {header.shape}")
    try:
        made = _dictionary(_read(content[header.start :]))
        if len(made.pairs) > _MAX_ENTRIES:
            raise _Malformed(f"{len(made.pairs):,} entries")
        return {_key(key): _array(value) for key, value in made.pairs}
    except _Malformed as error:
        raise _refused(name, str(error)) from None
    except (ValueError, IndexError, OverflowError, TypeError) as error:
        raise _refused(name, f"a program that is broken ({type(error).__name__})") from None


def _read(program: bytes) -> Any:
    """What the program would leave behind, as data."""
    stack: Stack = []
    memo: dict[int, Any] = {}
    for count, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if count >= MAX_INSTRUCTIONS:
            raise _Malformed(f"more than {MAX_INSTRUCTIONS:,} instructions")
        name = instruction.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](stack)
        elif name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            stack.append(_Name(module, attribute))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise _Malformed("a reference to nothing")
            stack.append(memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _Malformed(f"the instruction {name}")
    if len(stack) != 1:
        raise _Malformed(f"{len(stack)} results")
    return stack[0]


def _tuple(stack: Stack, count: int) -> None:
    if len(stack) < count:
        raise _Malformed("a tuple of nothing")
    stack[-count:] = [tuple(stack[-count:])]


def _since_mark(stack: Stack) -> list[Any]:
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is _MARK:
            items = stack[place + 1 :]
            del stack[place:]
            return items
    raise _Malformed("no mark")


def _append(stack: Stack, items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise _Malformed("a list that is none")
    stack[-1].extend(items)


def _put(stack: Stack, items: list[Any]) -> None:
    # Values of what is left aside, as of an ordered dictionary that a call would make, are left aside with it.
    if isinstance(stack[-1], _Dictionary):
        stack[-1].pairs.extend(zip(items[::2], items[1::2], strict=True))
    elif not isinstance(stack[-1], _Call):
        raise _Malformed("a dictionary that is none")


def _note_name(stack: Stack) -> None:
    name, module = stack.pop(), stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _Malformed("a name that is none")
    stack.append(_Name(module, name))


def _note_call(stack: Stack) -> None:
    arguments, function = stack.pop(), stack.pop()
    stack.append(_Call(function, arguments))


def _note_state(stack: Stack) -> None:
    state = stack.pop()
    if not isinstance(stack[-1], _Call):
        raise _Malformed("a state of nothing")
    stack[-1].state = state


_INSTRUCTIONS: Mapping[str, Callable[[Stack], None]] = {
    "MARK": lambda stack: stack.append(_MARK),
    "TUPLE1": lambda stack: _tuple(stack, 1),
    "TUPLE2": lambda stack: _tuple(stack, 2),
    "TUPLE3": lambda stack: _tuple(stack, 3),
    "TUPLE": lambda stack: stack.append(tuple(_since_mark(stack))),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "APPEND": lambda stack: _append(stack, [stack.pop()]),
    "APPENDS": lambda stack: _append(stack, _since_mark(stack)),
    "EMPTY_DICT": lambda stack: stack.append(_Dictionary()),
    "SETITEM": lambda stack: _put(stack, [stack.pop(), stack.pop()][::-1]),
    "SETITEMS": lambda stack: _put(stack, _since_mark(stack)),
    "STACK_GLOBAL": _note_name,
    "REDUCE": _note_call,
    "BUILD": _note_state,
}


def _dictionary(made: Any) -> _Dictionary:
    """The dictionary in the array of one object that NumPy wraps it in."""
    if isinstance(made, _Call) and _calls(made, _MULTIARRAY, "_reconstruct"):
        match made.state:
            case (_, (), _, _, [_Dictionary() as dictionary]):
                return dictionary
    raise _Malformed("no dictionary")


def _key(made: Any) -> Key:
    if isinstance(made, _Call) and _calls(made, _MULTIARRAY, "scalar"):
        match made.arguments:
            case (kind, data):
                dtype, value = _dtype(kind), _bytes(data)
                if dtype is not None and dtype.kind in "iu" and value is not None and len(value) == dtype.itemsize:
                    return int(np.frombuffer(value, dtype)[0])
    if isinstance(made, str) or (type(made) is int and abs(made) < 2**63):
        return made
    raise _Malformed("a key that is no class")


def _array(made: Any) -> NDArray[Any] | None:
    """The array that a noted call would make; None where it would make something else."""
    if not isinstance(made, _Call):
        return None
    parts: tuple[Any, ...] = ()
    if _calls(made, _MULTIARRAY, "_reconstruct"):
        match made.state:
            case (_, shape, kind, fortran_order, data):
                parts = shape, kind, bool(fortran_order), data
    elif _calls(made, _NUMERIC, "_frombuffer"):
        match made.arguments:
            case (data, kind, shape, order):
                parts = shape, kind, order == "F", data
    if not parts:
        return None
    shape, kind, fortran_order, data = parts
    dtype, values = _dtype(kind), _bytes(data)
    if dtype is None or values is None or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        return None
    array = build_array(values, dtype, shape, fortran_order=fortran_order)
    if array is None:
        raise _Malformed(f"{len(values):,} bytes of values for the shape {shape!s:.80}")
    return array


def _dtype(made: Any) -> np.dtype[Any] | None:
    if not isinstance(made, _Call) or not _calls(made, ("numpy",), "dtype"):
        return None
    match made.arguments, made.state:
        case ((str() as spelled, *_), (_, str() as order, *_)) if order in ("<", ">", "|", "="):
            dtype = plain_dtype(spelled)
            return dtype.newbyteorder(">" if order == ">" else "<") if dtype is not None else None
    return None


def _bytes(made: Any) -> bytes | None:
    """Bytes as they are, or as the text that the second edition of the format has for them."""
    if isinstance(made, bytes | bytearray):
        return bytes(made)
    if isinstance(made, _Call) and _calls(made, ("_codecs",), "encode"):
        match made.arguments:
            case (str() as text, "latin1"):
                return text.encode("latin-1")
    return None


def _calls(made: _Call, modules: tuple[str, ...], name: str) -> bool:
    function = made.function
    return isinstance(function, _Name) and function.module in modules and function.name == name


def _refused(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: found {found}; expected a dictionary from class to array, which is read without running it; save the "
        "maps with numpy.savez instead"
    )
