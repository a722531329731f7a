import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcis_cli.data import array_files
from mcis_cli.data.array_files import list_npz, read_npy, read_npz
from mcis_cli.errors import DataError

NUMBERS = st.one_of(
    st.just(np.dtype(bool)),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(save=np.savez, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def with_head(text: bytes, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)), st.booleans())
def test_what_numpy_writes_is_read_as_it_was(array, fortran_order):
    array = np.asfortranarray(array) if fortran_order else array
    read = read_npy(npy(array), "x.npy")
    assert (read.dtype, read.shape) == (array.dtype.newbyteorder("="), array.shape)
    np.testing.assert_array_equal(read, array)


@pytest.mark.filterwarnings("ignore:Reading .* as it was created on Python 2")
def test_an_array_of_python_2_is_read():
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }".ljust(117) + b"\n"
    assert read_npy(with_head(head, np.ones(2, "<f4").tobytes()), "x").tolist() == [[1], [1]]


HEAD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"
UNREADABLE = "a head that NumPy cannot read"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", UNREADABLE),
        (b"\x93NUMPY\x01\x00\xff\xff{}", UNREADABLE),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", UNREADABLE),
        (with_head(b"(" * 5000), UNREADABLE),
        (with_head(b"-" * 9000 + b"1"), UNREADABLE),
        (with_head(b"{'descr': '<f4', 'fortran_order': False, 'shape': ((2,),), }\n"), UNREADABLE),
        (with_head(b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (), }"), UNREADABLE),
        (with_head(HEAD.replace(b"(2,)", b"(" + b"9" * 9000 + b";)")), UNREADABLE),  # by fuzzing: took days once
        (with_head(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", bytes(8)), "dtype |V4"),
        (with_head(HEAD, bytes(7)), "7 bytes of values"),
        (with_head(HEAD, bytes(9)), "9 bytes of values"),
        (with_head(HEAD.replace(b"(2,)", b"(-2,-1)"), bytes(8)), "8 bytes of values"),
        (with_head(HEAD.replace(b"(2,)", b"(99999999999,)")), "0 bytes of values"),
        (with_head(HEAD.replace(b"(2,)", b"(" + b", ".join([b"999999999999999999"] * 9) + b")")), "0 bytes of values"),
        (with_head(HEAD.replace(b"(2,)", b"(0, 999999999999999999, 999999999999999999)")), "cannot read"),
        (with_head(HEAD.replace(b"(2,)", b"(" + b"1," * 70 + b")"), bytes(4)), "cannot read"),
        (npy(np.array(["a"])), "values of dtype <U1"),
        (npy(np.array([1j])), "values of dtype <c16"),
        (npy(np.array([{}])), "values of dtype |O"),
    ],
)
def test_other_bytes_are_refused_in_one_line_that_names_the_file(content, found):
    with pytest.raises(DataError) as error:
        read_npy(content, "folder/x.npy")
    assert str(error.value).startswith("folder/x.npy: found ")
    assert found in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_are_listed_and_what_is_wanted_of_them_read(save):
    content = npz(save, cat=np.ones((2, 3)), dog=np.zeros(2, "u1"))
    assert list_npz(content, "x.npz") == ("cat", "dog")
    assert read_npz(content, "x.npz", ["dog"])["dog"].tolist() == [0, 0]
    with pytest.raises(DataError, match="no array 'cow'"):
        read_npz(content, "x.npz", ["cow"])


def test_an_archive_that_unpacks_to_too_much_is_refused_in_little_memory(monkeypatch):
    monkeypatch.setattr(array_files, "MAX_ARRAY_BYTES", 2**20)
    content = npz(np.savez_compressed, cat=np.zeros(2**26, "u1"))
    assert len(content) < 2**18
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 1,048,576 bytes unpacked"):
            read_npz(content, "x.npz", ["cat"])
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def archive(*names, method=zipfile.ZIP_STORED, comment=b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name in names:
            file.writestr(name, npy(np.ones(1)))
        file.comment = comment
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PK", "no archive"),
        (archive("a.npy", comment=b"hello"), "with a comment"),
        (archive("a.npy", method=zipfile.ZIP_BZIP2), "compressed or locked"),
        (b"before" + archive("a.npy"), "bytes that belong to no member"),
        (archive("a.npy")[:-10] + b"\xff\xff\xff\x00" + archive("a.npy")[-6:], "bytes that belong to no member"),
    ],
)
def test_strange_archives_are_refused(content, found):
    with pytest.raises(DataError, match=found):
        list_npz(content, "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused():
    with pytest.raises(DataError, match="a member twice"):
        list_npz(archive("a.npy", "a.npy"), "x.npz")


def test_an_archive_of_a_million_members_is_refused_before_they_are_listed():
    listed = b"PK\1\2" + bytes(42)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 46 * 10**6, 0, 0)
    with pytest.raises(DataError, match="a list of members that is huge"):
        list_npz(listed * 10**6 + end, "x.npz")


def test_members_that_do_not_unpack_are_refused():
    content = bytearray(npz(np.savez_compressed, cat=np.arange(100)))
    content[60:80] = bytes(20)
    with pytest.raises(DataError, match="bytes at 'cat' that do not unpack"):
        read_npz(bytes(content), "x.npz", ["cat"])
