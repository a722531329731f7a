"""Records and tensors through HDF5 and back."""

import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from store_makers import IDS, SCHEMA, TENSORS, make_store, record, records, seal_records, seal_tensors

from mcis_cli.store.format import container
from mcis_cli.store.format.identity import DTYPES
from mcis_cli.store.format.reader import Reader


def write(path, schema, items, kind="segment"):
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    spelled = {name: list(field) for name, field in schema.items()}
    container.write_records(
        descriptor, path, kind, schema, items, lambda count: {"schema": spelled, "num_records": count}
    )
    os.close(descriptor)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_records_read_back_alone_and_in_order(tmp_path):
    artifact = seal_records(make_store(tmp_path))
    assert artifact.ids == IDS
    for image_id in (IDS[0], IDS[63], IDS[64], IDS[129]):
        assert_same(artifact.read(image_id), record(image_id)[1])
    streamed = list(artifact.records())
    assert [image_id for image_id, _ in streamed] == list(IDS)
    for image_id, fields in streamed:
        assert_same(fields, record(image_id)[1])


def test_records_longer_than_a_chunk_and_than_a_read_come_back(tmp_path):
    count = container.CHUNK_BYTES + 7
    items = [(f"{number}", {"x": np.arange(number, number + count, dtype=np.int32)}) for number in range(9)]
    write(tmp_path / "x.h5", {"x": ("int32", 1)}, items)
    with Reader(tmp_path / "x.h5", "segment") as reader:
        assert_same(reader.read("4"), items[4][1])
        for (_, found), (_, expected) in zip(reader.records(), items, strict=True):
            assert_same(found, expected)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_write_then_read_is_identity(tmp_path_factory, data):
    schema = data.draw(
        st.dictionaries(
            st.from_regex(container.FIELD_NAME, fullmatch=True),
            st.tuples(st.sampled_from(sorted(DTYPES)), st.integers(0, 3)),
            max_size=3,
        )
    )
    ids = sorted(data.draw(st.sets(st.text(min_size=1, max_size=5).filter(_encodes), max_size=4)), key=str.encode)
    items = []
    for image_id in ids:
        fields = {
            name: data.draw(arrays_of.arrays(dtype, data.draw(st.tuples(*[st.integers(0, 3)] * rank))))
            for name, (dtype, rank) in schema.items()
        }
        items.append((image_id, fields))
    path = tmp_path_factory.mktemp("identity") / "x.h5"
    write(path, schema, items)
    with Reader(path, "segment") as reader:
        assert reader.ids == tuple(ids)
        for (_, found), (_, expected) in zip(reader.records(), items, strict=True):
            assert_same(found, expected)


def _encodes(text):
    return text.encode(errors="ignore").decode() == text


def test_a_record_may_be_changed_by_its_owner_after_it_was_taken(tmp_path):
    shared = np.zeros(3, np.uint8)

    def items():
        for number in range(3):
            shared[:] = number
            yield f"{number}", {"x": shared}

    write(tmp_path / "x.h5", {"x": ("uint8", 1)}, items())
    with Reader(tmp_path / "x.h5", "segment") as reader:
        assert [fields["x"].tolist() for _, fields in reader.records()] == [[0] * 3, [1] * 3, [2] * 3]


def test_what_is_read_may_be_changed(tmp_path):
    artifact = seal_records(make_store(tmp_path))
    artifact.read(IDS[1])["seen"][:] = False
    assert_same(artifact.read(IDS[1]), record(IDS[1])[1])


def test_tensors_of_any_dtype_and_rank_come_back(tmp_path):
    artifact = seal_tensors(make_store(tmp_path))
    assert_same(artifact.tensors(), TENSORS)
    assert np.signbit(artifact.tensors()["head/bias"][0])
    assert artifact.ids == ()


def test_the_number_of_objects_does_not_grow_with_the_number_of_records(tmp_path):
    def count(ids):
        names = []
        write(tmp_path / "x.h5", SCHEMA, records(ids))
        with h5py.File(tmp_path / "x.h5") as file:
            file.visit(names.append)
        return len(names)

    assert count(IDS[:1]) == count(IDS)


def test_the_same_records_make_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, SCHEMA, records(IDS))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([("b", {"x": np.zeros(1)}), ("a", {"x": np.zeros(1)})], "ascend strictly"),
        ([("a", {"x": np.zeros(1)}), ("a", {"x": np.zeros(1)})], "ascend strictly"),
        ([("", {"x": np.zeros(1)})], "not empty"),
        ([("a", {"y": np.zeros(1)})], "not the schema's"),
        ([("a", {"x": np.zeros(1, np.float32)})], "float32 of rank 1; the schema says float64 of rank 1"),
        ([("a", {"x": np.zeros((1, 1))})], "rank 2; the schema says float64 of rank 1"),
    ],
)
def test_records_that_do_not_fit_are_a_fault_of_ours(tmp_path, items, message):
    with pytest.raises(AssertionError, match=message):
        write(tmp_path / "x.h5", {"x": ("float64", 1)}, items)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"a/b": ("uint8", 1)}, "a field is called"),
        ({"x": ("object", 1)}, "has dtype object"),
        ({"x": ("uint8", 9)}, "has rank 9"),
    ],
)
def test_schemas_that_files_cannot_have_are_a_fault_of_ours(tmp_path, schema, message):
    with pytest.raises(AssertionError, match=message):
        write(tmp_path / "x.h5", schema, [])


def test_an_error_of_whoever_computes_the_records_passes_through(tmp_path):
    def items():
        yield record(IDS[0])
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        write(tmp_path / "x.h5", SCHEMA, items())
