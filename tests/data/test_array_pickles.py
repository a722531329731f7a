"""Dictionaries of arrays that other projects pickled: read, and never run."""

import io
import os
import pickle

import numpy as np
import pytest
import torch

from mcis_cli.data import array_pickles
from mcis_cli.data.array_pickles import read_dictionary
from mcis_cli.errors import DataError

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


def test_an_array_that_is_there_twice_is_read_twice():
    read = read_dictionary(saved({1: MAPS[3], 2: MAPS[3]}), "x.npy")
    np.testing.assert_array_equal(read[1], read[2])


def test_what_is_no_array_is_left_aside():
    read = read_dictionary(saved({"keys": torch.tensor([1, 2]), "cam": torch.ones(2, 3), "high_res": MAPS[3]}), "x.npy")
    assert (read["keys"], read["cam"]) == (None, None)
    np.testing.assert_array_equal(read["high_res"], MAPS[3])
    assert read_dictionary(saved({"a": [1], "b": "text", "c": {"d": 1}, "e": None}), "x.npy") == dict.fromkeys("abce")


class Canary:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_in_the_file_is_run_or_looked_up(tmp_path, protocol, monkeypatch):
    target = tmp_path / "canary"
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: pytest.fail("unpickled"))
    value = {1: Canary(os.mkdir, str(target)), 2: MAPS[3]}
    assert read_dictionary(pickled(value, protocol), "x.npy")[1] is None
    with pytest.raises(DataError, match="no dictionary"):
        read_dictionary(HEAD + pickle.dumps(Canary(os.mkdir, str(target)), protocol=protocol), "x.npy")
    program = HEAD + b"cno_such_module_at_all\nname\n)R."
    with pytest.raises(DataError, match="no dictionary"):
        read_dictionary(program, "x.npy")
    assert not target.exists()


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (b"", "a program that is broken"),
        (b".", "0 results"),
        (b"0.", "the instruction POP"),
        (b"i__main__\nx\n.", "the instruction INST"),
        (b"(cos\nsystem\nS'x'\no.", "the instruction"),
        (b"\x80\x04\x8c\x00Q.", "the instruction BINPERSID"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"N" * 100_001 + b".", "more than 100,000 instructions"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "a program that is broken"),
        (b"h\x07.", "a reference to nothing"),
        (b"t.", "no mark"),
        (b"\x87.", "a tuple of nothing"),
        (b"KKK\1a.", "a program that is broken|a list that is none"),
        (b"NK\1b.", "a state of nothing"),
        (b"NK\1K\2s.", "a dictionary that is none"),
        (b"]\x94h\x00a.", "no dictionary"),
    ],
)
def test_other_programs_are_refused(program, found):
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


def test_a_shape_that_the_bytes_do_not_fill_is_refused():
    content = saved({1: np.zeros((2, 3), np.uint8)})
    with pytest.raises(DataError, match="6 bytes of values for the shape"):
        read_dictionary(content.replace(b"K\2K\3\x86", b"K\2K\4\x86"), "x.npy")


def test_arrays_of_objects_inside_are_left_aside():
    assert read_dictionary(saved({1: np.array([None, {}], dtype=object)}), "x.npy") == {1: None}


def test_the_list_of_instructions_has_none_that_calls():
    assert not {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"} & (
        set(array_pickles._INSTRUCTIONS) | array_pickles._LITERALS
    )
