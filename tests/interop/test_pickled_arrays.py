"""Dictionaries of arrays that other projects pickled: what NumPy and PyTorch write is read, and nothing else is run."""

import io
import os
import pickle
import pickletools
import threading
import tracemalloc

import numpy as np
import pytest
import torch

from mcis_cli.errors import DataError
from mcis_cli.interop.imports.pickled_arrays import INSTRUCTIONS, NAMES, read_dictionary

MAPS = {3: np.arange(6, dtype=np.float32).reshape(2, 3), "cat": np.asfortranarray(np.arange(6.0).reshape(2, 3))}


def saved(value) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


HEAD = saved({})[: saved({}).index(b"\n") + 1]


def pickled(value, protocol: int) -> bytes:
    return HEAD + pickle.dumps(np.array(value, dtype=object), protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_dictionaries_are_read_by_every_protocol_that_numpy_had(protocol):
    read = read_dictionary(pickled(MAPS, protocol), "x.npy")
    assert read.keys() == MAPS.keys()
    for key, array in MAPS.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


def test_keys_of_numpy_are_integers_and_other_byte_orders_are_read():
    read = read_dictionary(saved({np.int64(4): np.array([1.5], ">f2"), np.uint8(7): np.array([True])}), "x.npy")
    assert {key: value.tolist() for key, value in read.items()} == {4: [1.5], 7: [True]}
    assert all(type(key) is int for key in read)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_of_torch_are_read_as_arrays(protocol):
    value = {"keys": torch.tensor([1, 2]), 3: torch.arange(6.0).reshape(2, 3).t(), 4: torch.ones(2).bfloat16()}
    read = read_dictionary(pickled(value, protocol), "x.npy")
    assert {key: array.tolist() for key, array in read.items()} == {
        "keys": [1, 2],
        3: [[0, 3], [1, 4], [2, 5]],
        4: [1, 1],
    }
    assert read[4].dtype == np.float32


def test_an_array_that_is_there_twice_is_read_twice():
    large = np.arange(10_000)
    read = read_dictionary(saved({1: large, 2: large}), "x.npy")
    np.testing.assert_array_equal(read[1], read[2])


def test_values_that_are_no_arrays_are_left_aside():
    value = {"a": [1], "b": "text", "c": {"d": 1}, "e": None, "f": np.array([None, {}], dtype=object)}
    assert read_dictionary(saved(value), "x.npy") == dict.fromkeys("abcef")


class Canary:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_call_of_another_name_is_refused_and_not_made(tmp_path, protocol):
    target = tmp_path / "canary"
    for value in ({1: Canary(os.mkdir, str(target)), 2: MAPS[3]}, {1: torch.nn.Parameter(torch.ones(2))}):
        with pytest.raises(DataError, match=r"found the name '(posix\.mkdir|torch\._utils\._rebuild_parameter)'"):
            read_dictionary(pickled(value, protocol), "x.npy")
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os system", "builtins eval", "numpy load", "numpy.core.multiarray fromfile", "no_such_module_at_all name"),
        *("torch.storage UntypedStorage", "torch._utils _import_dotted_name", "numpy dtype.__init__", "pickle loads"),
    ],
)
def test_every_name_that_is_not_listed_is_refused(name):
    module, attribute = (part.encode() for part in name.split())
    for program in (
        b"\x80\x02c" + module + b"\n" + attribute + b"\n.",
        b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(attribute)]) + attribute + b"\x93.",
    ):
        with pytest.raises(DataError, match="found the name"):
            read_dictionary(HEAD + program, "x.npy")


def test_a_tensor_within_runs_nothing_either(tmp_path):
    target = tmp_path / "canary"
    buffer = io.BytesIO()
    torch.save(Canary(os.mkdir, str(target)), buffer)
    content = Canary(
        torch._utils._rebuild_tensor_v2, Canary(torch.storage._load_from_bytes, buffer.getvalue()), 0, (), ()
    )
    with pytest.raises(DataError, match="bytes that do not load safely"):
        read_dictionary(pickled({1: content}, 4), "x.npy")
    assert not target.exists()


def test_a_state_cannot_change_what_a_name_stands_for():
    program = HEAD + b"\x80\x02cnumpy\nndarray\n}b."
    with pytest.raises(DataError, match="a state for a name"):
        read_dictionary(program, "x.npy")


EVERY_INSTRUCTION = {code.name: code for code in pickletools.opcodes}


@pytest.mark.parametrize("name", sorted(EVERY_INSTRUCTION.keys() - INSTRUCTIONS))
def test_every_instruction_that_is_not_listed_is_refused(name):
    arguments = {
        "GLOBAL": b"a\nb\n",
        "INST": b"a\nb\n",
        "PERSID": b"1\n",
        "INT": b"1\n",
        "LONG": b"1L\n",
        "FLOAT": b"1.0\n",
    }
    arguments |= dict.fromkeys(("STRING", "UNICODE"), b"'x'\n") | dict.fromkeys(("GET", "PUT"), b"1\n")
    program = EVERY_INSTRUCTION[name].code.encode("latin-1") + arguments.get(name, bytes(16)) + b"."
    with pytest.raises(DataError, match=f"the instruction {name};"):
        read_dictionary(HEAD + program, "x.npy")


def test_no_listed_instruction_or_name_makes_objects_of_other_classes():
    assert not {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"} & INSTRUCTIONS
    assert {name for _, name in NAMES} == {
        *("dtype", "ndarray", "encode", "OrderedDict", "_reconstruct", "scalar", "_frombuffer"),
        *("_rebuild_tensor_v2", "_load_from_bytes"),
    }


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (b"", "a program that is broken"),
        (b".", "a program that is broken"),
        (b"N" * 50_001 + b".", "more than 50,000 instructions"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "a program that is broken"),
        (b"\x80\x05\x96\0\0\0\0\0\1\0\0.", "a program that is broken"),
        (b"Nr\xff\xff\xff\xff.", "a memo of that size"),
        (b"h\x07.", "a program that is broken"),
        (b"t.", "a program that is broken"),
        (b"\x87.", "a program that is broken"),
        (b"KKK\1a.", "a program that is broken"),
        (b"NK\1b.", "a program that is broken"),
        (b"NK\1K\2s.", "a program that is broken"),
        (b"]\x94h\x00a.", "no dictionary"),
        (b"N.", "no dictionary"),
    ],
)
def test_programs_that_make_no_dictionary_are_refused(program, found):
    with pytest.raises(DataError, match=rf"^a/x\.npy: found .*({found}).*numpy\.savez instead$"):
        read_dictionary(HEAD + program, "a/x.npy")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.ones(3), "an array of dtype <f8"),
        (np.array([{}], dtype=object), r"shape \(1,\)"),
        (5, "an array of dtype <i8"),
        ({(1, 2): np.ones(1)}, "a key that is no class"),
        ({1.5: np.ones(1)}, "a key that is no class"),
        ({2**80: np.ones(1)}, "a key that is no class"),
        (dict.fromkeys(range(1001)), "1,001 entries"),
        ([1], "no dictionary|an array"),
    ],
)
def test_other_values_are_refused(value, found):
    with pytest.raises(DataError, match=found):
        read_dictionary(saved(value), "x.npy")


def test_a_thousand_arrays_are_read():
    assert len(read_dictionary(pickled({np.int64(n): np.ones(1) for n in range(1000)}, 2), "x.npy")) == 1000


def test_a_shape_that_the_bytes_do_not_fill_is_refused():
    content = saved({1: np.zeros((2, 3), np.uint8)})
    with pytest.raises(DataError, match="6 bytes of values for the shape"):
        read_dictionary(content.replace(b"K\2K\3\x86", b"K\2K\4\x86"), "x.npy")


class Rebuilt:
    """A tensor of any layout over a storage of four values."""

    def __init__(self, offset, shape, stride):
        self.layout = offset, shape, stride

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (torch.ones(4).storage(), *self.layout, False, {})


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ((0, (2**40,), (0,)), "a tensor that is not plain"),
        ((0, (5,), (1,)), "a program that is broken"),
        ((2**40, (1,), (1,)), "a program that is broken"),
        ((-1, (2,), (1,)), "a program that is broken"),
        ((0, (2,), (-1,)), "a program that is broken"),
        ((0, (2, 2), (1,)), "a program that is broken"),
        ((0, ("x",), (1,)), "a program that is broken"),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(layout, found):
    assert read_dictionary(saved({1: Rebuilt(1, (2,), (2,))}), "x.npy")[1].tolist() == [1, 1]
    with pytest.raises(DataError, match=found):
        read_dictionary(saved({1: Rebuilt(*layout)}), "x.npy")


def test_values_that_are_named_again_and_again_take_no_more_memory_than_the_file_has():
    """Each of 200 arrays is made of the same text, which is in the file once."""
    text = b"X" + (2**20).to_bytes(4, "little") + b"a" * 2**20
    dtype = b"cnumpy\ndtype\nX\2\0\0\0u1\x85R(K\3X\1\0\0\0|tbq\2"
    made = b"cnumpy.core.numeric\n_frombuffer\n(c_codecs\nencode\nh\1X\6\0\0\0latin1\x86Rh\2J\0\0\x10\0\x85X\1\0\0\0CtR"
    entries = b"".join(b"K" + bytes([n]) + made + b"s" for n in range(200))
    whole = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85X\1\0\0\0b\x87R"
    program = b"\x80\x02" + text + b"q\1" + dtype + b"\x86" + whole + b"(K\1)h\2\x89]}" + entries + b"atb."
    content = HEAD + program
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="arrays of more bytes than the file has"):
            read_dictionary(content, "x.npy")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_the_deepest_nesting_is_refused_in_a_thread():
    """Python hashes a tuple of tuples by recursion."""
    found = []

    def read() -> None:
        try:
            read_dictionary(HEAD + b"\x80\x02})" + b"\x85" * 49_000 + b"Ns.", "x.npy")
        except DataError as error:
            found.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert "no dictionary" in found[0]
