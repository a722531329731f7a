"""Files with a good digest and a bad structure: foreign HDF5 is refused, whatever it has in it."""

import json
import re

import h5py
import numpy as np
import pytest
from store_makers import IDS, make_store, rewrite, seal_records, seal_tensors

from mcis_cli.errors import DamagedError, StorageError
from mcis_cli.store import Artifact, files
from mcis_cli.store.format import reader as reader_module
from mcis_cli.store.format import user_block
from mcis_cli.store.format.reader import Reader

SCHEMA = {"x": ["int16", 1]}


def forge(path, build, manifest=None):
    """A file with a good user block around whatever `build` makes of a valid file of two records."""
    with h5py.File(path, "w", userblock_size=512) as file:
        records = file.create_group("records")
        ids, field = records.create_group("ids"), records.create_group("fields/x")
        ids["bytes"] = np.frombuffer(b"ab", np.uint8)
        ids["ends"] = np.array([1, 2], np.int64)
        field["values"] = np.arange(5, dtype=np.int16)
        field["shapes"] = np.array([[2], [3]], np.int64)
        said = {"schema": SCHEMA, "num_records": 2, **(manifest or {})}
        file["manifest"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
        build(file)
    return seal(path)


def seal(path):
    with path.open("r+b") as file:
        user_block.seal(file.fileno(), path, "artifact", None)
    return path


def put(file, name, **options):
    del file[name]
    return file.create_dataset(name, **options)


def virtual(file):
    layout = h5py.VirtualLayout((5,), "int16")
    layout[:] = h5py.VirtualSource("other.h5", "x", (5,))
    del file["records/fields/x/values"]
    file.create_virtual_dataset("records/fields/x/values", layout)


def relink(name, link):
    def build(file):
        del file[name]
        file[name] = link

    return build


def cycle(file):
    del file["records/fields/x"]
    file["records/fields/x"] = file["records"]


VALUES, ENDS, SHAPES = "records/fields/x/values", "records/ids/ends", "records/fields/x/shapes"
HOSTILE = {
    "external link": (relink(VALUES, h5py.ExternalLink("other.h5", "/x")), "no hard link"),
    "external link in the middle": (relink("records/fields", h5py.ExternalLink("o.h5", "/x")), "no hard link"),
    "soft link": (relink(VALUES, h5py.SoftLink("/manifest")), "no hard link"),
    "soft link to the root": (relink("records/ids", h5py.SoftLink("/")), "no hard link"),
    "external storage": (
        lambda file: put(file, VALUES, shape=(5,), dtype="int16", external=[("/etc/passwd", 0, 10)]),
        "is stored elsewhere",
    ),
    "virtual": (virtual, "is stored elsewhere"),
    "cycle": (cycle, "no hard link"),
    "one more object": (lambda file: file.create_group("more"), "/ has 3 members"),
    "many objects": (lambda file: [file["records"].create_group(f"{n}") for n in range(2000)], "has 2002 members"),
    "attributes of a group": (lambda file: file["records"].attrs.update(a=1), "has attributes"),
    "attributes of data": (lambda file: file[VALUES].attrs.update(a=1), "has attributes"),
    "group for data": (lambda file: (file.__delitem__(VALUES), file.create_group(VALUES)), "is no dataset"),
    "data for a group": (lambda file: put(file, "records/ids", data=[1]), "is no group"),
    "references": (
        lambda file: put(file, VALUES, shape=(5,), dtype=h5py.ref_dtype),
        "is object, expected int16",
    ),
    "strings": (lambda file: put(file, VALUES, shape=(5,), dtype=h5py.string_dtype()), "is object, expected int16"),
    "compound": (lambda file: put(file, VALUES, shape=(5,), dtype=[("a", "i2")]), "expected int16"),
    "big-endian": (lambda file: put(file, VALUES, shape=(5,), dtype=">i2"), "expected int16"),
    "other rank": (lambda file: put(file, VALUES, shape=(5, 1), dtype="int16"), "expected rank 1"),
    "no space": (lambda file: put(file, VALUES, dtype="int16", data=h5py.Empty("int16")), "expected rank 1"),
    "checksum filter": (lambda file: put(file, VALUES, data=np.zeros(5, "i2"), fletcher32=True), "has filters"),
    "lzf": (lambda file: put(file, VALUES, data=np.zeros(5, "i2"), compression="lzf"), "has filters"),
    "huge chunks": (
        lambda file: put(file, VALUES, shape=(5,), maxshape=(None,), dtype="int16", chunks=(2**24,)),
        "has chunks of",
    ),
    "huge": (lambda file: put(file, VALUES, shape=(2**40,), dtype="int16", chunks=(2**16,)), "unpacks to"),
    "huge ids": (lambda file: put(file, ENDS, shape=(2**40,), dtype="int64", chunks=(2**16,)), "unpacks to"),
    "ids that go back": (lambda file: put(file, ENDS, data=np.array([2, 1])), "ids overlap"),
    "ids beyond the end": (lambda file: put(file, ENDS, data=np.array([1, 3])), "ids overlap"),
    "more ids than said": (lambda file: put(file, ENDS, data=np.array([1])), "1 ids"),
    "ids out of order": (
        lambda file: put(file, "records/ids/bytes", data=np.frombuffer(b"ba", np.uint8)),
        "ids out of order",
    ),
    "ids twice": (
        lambda file: put(file, "records/ids/bytes", data=np.frombuffer(b"aa", np.uint8)),
        "ids out of order",
    ),
    "ids that are no text": (
        lambda file: put(file, "records/ids/bytes", data=np.frombuffer(b"a\xff", np.uint8)),
        "can't decode",
    ),
    "negative shapes": (lambda file: put(file, SHAPES, data=np.array([[-1], [6]])), "shape of x is out of bounds"),
    "shapes that wrap": (lambda file: put(file, SHAPES, data=np.array([[2**62], [3]])), "shape of x is out of bounds"),
    "shapes of more": (lambda file: put(file, SHAPES, data=np.array([[2], [4]])), "5 values of x, expected 6"),
    "fewer shapes": (lambda file: put(file, SHAPES, data=np.array([[5]])), "1 shapes of x"),
    "manifest of lies": (lambda file: put(file, "manifest", data=np.frombuffer(b"[]", np.uint8)), "no JSON object"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_structure_is_refused_and_no_other_file_opened(tmp_path, case):
    build, message = HOSTILE[case]
    path = forge(tmp_path / "x.h5", build)
    with pytest.raises(DamagedError, match=message):
        Reader(path, "artifact")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"schema": []}, "its schema is no JSON object"),
        ({"schema": {"x": ["object", 1]}}, "the schema of 'x' is"),
        ({"schema": {"x": ["int16", 99]}}, "the schema of 'x' is"),
        ({"schema": {"x": ["int16"]}}, "the schema of 'x' is"),
        ({"schema": {"../x": ["int16", 1]}}, "the schema of '../x' is"),
        ({"schema": {"y": ["int16", 1]}}, "no hard link"),
        ({"schema": {"x": ["int32", 1]}}, "is int16, expected int32"),
        ({"num_records": 3}, "2 ids, expected num_records"),
        ({"schema": None, "tensors": None}, "no hard link"),
        ({"schema": None, "tensors": [["a", "object", []]]}, "a tensor is listed as|no hard link"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(tmp_path, manifest, message):
    path = forge(tmp_path / "x.h5", lambda file: None, manifest)
    with pytest.raises(DamagedError, match=message):
        Reader(path, "artifact")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (None, "a tensor is listed as 'None'"),
        ([["a", "object", []]], "a tensor is listed as"),
        ([["a", "float32", [-1]]], "a tensor is listed as"),
        ([["a", "float32", [3]]], r"tensor 'a' is \(2,\), expected \(3,\)"),
        ([["a", "float64", [2]]], "is float32, expected float64"),
        ([["a", "float32", [2]], ["b", "float32", [2]]], "has 1 members"),
    ],
)
def test_tensors_that_are_not_as_listed_are_refused(tmp_path, tensors, message):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["tensors/0"] = np.zeros(2, np.float32)
        file["manifest"] = np.frombuffer(json.dumps({"tensors": tensors}).encode(), np.uint8)
    with pytest.raises(DamagedError, match=message):
        Reader(seal(tmp_path / "x.h5"), "artifact")


def test_a_sound_forgery_is_read(tmp_path):
    with Reader(forge(tmp_path / "x.h5", lambda file: None), "artifact") as reader:
        assert reader.ids == ("a", "b")
        assert reader.read("b")["x"].tolist() == [2, 3, 4]


def test_bytes_that_are_no_hdf5_are_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(bytes(1000))
    with pytest.raises(DamagedError, match="HDF5 says"):
        Reader(seal(tmp_path / "x.h5"), "artifact")


def test_chunks_that_do_not_unpack_are_damage(tmp_path):
    def build(file):
        values = put(file, VALUES, shape=(5,), dtype="int16", chunks=(5,), compression="gzip")
        values.id.write_direct_chunk((0,), b"no gzip")

    with (
        Reader(forge(tmp_path / "x.h5", build), "artifact") as reader,
        pytest.raises(DamagedError, match=r"HDF5 says .*filter"),
    ):
        reader.read("a")


def test_flipped_bits_truncation_and_zeroed_pages_are_noticed_before_hdf5_opens_the_file(tmp_path, monkeypatch):
    path = seal_tensors(make_store(tmp_path)).path
    whole = path.read_bytes()
    monkeypatch.setattr(reader_module.h5py, "File", lambda *_, **__: pytest.fail("libhdf5 saw the file"))
    draw = np.random.default_rng(0)
    path.chmod(0o644)
    for _ in range(200):
        data = bytearray(whole)
        data[int(draw.integers(512, len(data)))] ^= 1 << int(draw.integers(8))
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=re.escape(str(path))):
            Reader(path, "artifact")
    for length in draw.integers(0, len(whole), 50).tolist():
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=re.escape(str(path))):
            Reader(path, "artifact")
    data = bytearray(whole)
    data[1024:1536] = bytes(512) if any(data[1024:1536]) else b"\1" * 512
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="its bytes have the digest"):
        Reader(path, "artifact")


def test_two_manifests_are_refused(tmp_path):
    path = seal_records(make_store(tmp_path)).path
    data = path.read_bytes()
    block, sound = data[:512], Artifact(path).manifest
    told = json.dumps(sound | {"meta": {"class_names": ["other"]}}).encode()
    place = user_block.place_of(len(data), told)
    rewrite(path, data + told)
    with path.open("r+b") as file:
        user_block.seal(file.fileno(), path, "artifact", place)
    assert path.read_bytes()[:512] != block
    artifact = Artifact(path)
    assert artifact.meta == {"class_names": ["other"]}
    with pytest.raises(DamagedError, match="it has two manifests"):
        artifact.read(IDS[0])


def test_a_file_that_is_swapped_while_it_is_opened_is_noticed(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    path, other = seal_tensors(store).path, seal_records(store).path
    real = h5py.File

    def swap(name, *arguments, **options):
        files.replace(other, path)
        return real(name, *arguments, **options)

    monkeypatch.setattr(reader_module.h5py, "File", swap)
    with pytest.raises(DamagedError, match="replaced while it was opened"):
        Reader(path, "artifact")


def test_a_disk_that_fails_is_not_called_damage(tmp_path, monkeypatch):
    path = seal_tensors(make_store(tmp_path)).path

    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reader_module.h5py, "File", fail)
    with pytest.raises(StorageError, match=r"cannot read .*: Input/output error; check the disk"):
        Reader(path, "artifact")


def test_tensors_that_unpack_to_more_than_the_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file.create_dataset("tensors/0", data=np.zeros(10**6, np.uint8), compression="gzip")
        told = {"tensors": [["a", "uint8", [10**6]]]}
        file["manifest"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    with pytest.raises(DamagedError, match=r"its tensors have more than .* expected no more than the file"):
        Reader(seal(tmp_path / "x.h5"), "artifact")


@pytest.mark.parametrize("names", [["b", "a"], ["a", "a"]])
def test_names_of_tensors_ascend(tmp_path, names):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        for index in range(2):
            file[f"tensors/{index}"] = np.zeros(1, np.uint8)
        told = {"tensors": [[name, "uint8", [1]] for name in names]}
        file["manifest"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    with pytest.raises(DamagedError, match="names of tensors are out of order"):
        Reader(seal(tmp_path / "x.h5"), "artifact")


def test_more_records_than_the_file_has_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "_FREE_RECORDS", 0)

    def build(file):
        put(file, ENDS, data=np.arange(10**5, dtype=np.int64), compression="gzip", shuffle=True)

    with pytest.raises(DamagedError, match=r"100,000 records, expected .* or less in a file of its size"):
        Reader(forge(tmp_path / "x.h5", build, {"num_records": 10**5}), "artifact")


def test_a_huge_manifest_is_refused(tmp_path):
    def build(file):
        put(file, "manifest", data=np.zeros(2**22 + 1, np.uint8), compression="gzip")

    with pytest.raises(DamagedError, match=r"/manifest has 4,194,305 bytes"):
        Reader(forge(tmp_path / "x.h5", build), "artifact")


def test_sides_of_nothing_are_bounded_too(tmp_path):
    def build(file):
        del file["records/fields/x"]
        field = file["records/fields"].create_group("x")
        field["values"] = np.zeros(0, np.int16)
        field["shapes"] = np.array([[0, 2**40], [0, 1]], np.int64)

    path = forge(tmp_path / "x.h5", build, {"schema": {"x": ["int16", 2]}})
    with pytest.raises(DamagedError, match="a shape of x is out of bounds"):
        Reader(path, "artifact")
