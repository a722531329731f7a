"""One target for each parser of our own, with inputs to begin with.

Parsers that read files get them in a folder of their own, in memory where the system has one.
"""

import io
import json
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mcis_cli.cli.session import options
from mcis_cli.config import parse_assignment, read_toml, resolve
from mcis_cli.data import archives, array_files, images, run_lengths
from mcis_cli.data.catalogue import ImageEntry
from mcis_cli.data.layouts import coco, listing, names, table, voc
from mcis_cli.interop.imports import map_files as foreign_maps
from mcis_cli.interop.imports import pickled_arrays
from mcis_cli.store import notes
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import canonical_json
from mcis_cli.store.format.manifests import check_manifest
from mcis_cli.store.format.reader import _parse_schema, _parse_tensors

CLASSES = ("cat", "dining_table", "dog")
HEX = "ab" * 32


class Fuzzed(NamedTuple):
    """A target and its seeds."""

    target: Callable[[bytes], object]
    seeds: Sequence[bytes]


def _folder() -> Path:
    """Made when it is first needed, and removed by the system."""
    if not hasattr(_folder, "made"):
        parent = "/dev/shm" if os.path.isdir("/dev/shm") else None
        _folder.made = Path(tempfile.mkdtemp(prefix="mcis-fuzz-", dir=parent))  # type: ignore[attr-defined]
    return _folder.made  # type: ignore[attr-defined,no-any-return]


def _written(data: bytes, name: str = "input") -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _npy(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def _npz(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, cat=np.ones((2, 3), "f4"), dog=np.arange(6).reshape(2, 3))
    return buffer.getvalue()


# The store


def read_user_block(data: bytes) -> None:
    path = _written(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        user_block.verify(descriptor, path, "artifact")
        user_block.read_manifest(descriptor, path, "artifact")
    finally:
        os.close(descriptor)


def _blocks() -> list[bytes]:
    manifest = b'{"a":1}'
    found = []
    for place in (user_block.place_of(user_block.SIZE, manifest), None):
        path = _written(bytes(user_block.SIZE) + manifest)
        with path.open("r+b") as file:
            user_block.seal(file.fileno(), path, "artifact", place)
        found.append(path.read_bytes())
    return found


def read_manifest(data: bytes) -> None:
    path = Path("x.h5")
    manifest = user_block.parse_manifest(data, path)
    check_manifest(manifest, path)
    canonical_json(manifest)
    if manifest.get("schema") is not None:
        _parse_schema(manifest["schema"], path)
    else:
        _parse_tensors(manifest.get("tensors"), path)


MANIFEST = {
    "format": 1,
    "id": HEX,
    "stage": "cams",
    "key": HEX,
    "recipe": {"version": 1, "config": {"refs": 3, "scales": [1.0]}, "inputs": {"images": HEX}},
    "meta": {"class_names": ["cat"]},
    "provenance": {},
}
MANIFESTS = [
    json.dumps({**MANIFEST, "schema": {"maps": ["float16", 3]}, "num_records": 2}).encode(),
    json.dumps({**MANIFEST, "tensors": [["head.weight", "float32", [2, 3]]]}).encode(),
]


def read_note(data: bytes) -> None:
    parsed = notes.parse(data)
    notes.parse_recipe(parsed)
    notes.parse_reference(data)
    notes.parse_done(data, "cams", HEX)


NOTES = [notes.spell({"id": HEX}), notes.spell({"id": HEX, "recipe": {**MANIFEST["recipe"], "stage": "cams"}})]  # type: ignore[dict-item]


# What other programs wrote


def read_array(data: bytes) -> None:
    array_files.read_npy(data, "x.npy")


def read_archive(data: bytes) -> None:
    array_files.read_npz(data, "x.npz", array_files.list_npz(data, "x.npz"))


def read_pickle(data: bytes) -> None:
    pickled_arrays.read_dictionary(data, "x.npy")


def read_zip(data: bytes) -> None:
    archives.open_archive(io.BytesIO(data), "x.pth")


def read_maps(data: bytes) -> None:
    entry = ImageEntry("a", "a.jpg", "", 8, 12, (0, 2), frozenset())
    name = "a.npz" if data[:2] == b"PK" else "a.npy"
    foreign_maps.stack_maps(entry, CLASSES, [(foreign_maps.MapFile(Path(name), None), data)])


MAPS = np.ones((2, 2, 3), "f4")
DICTIONARY = {0: MAPS[0], "dog": MAPS[1]}
HEAD = _npy({})[: _npy({}).index(b"\n") + 1]
_TENSORS = {"keys": torch.tensor([0, 2]), "cam": torch.ones(2, 2, 3)}
PICKLES = [
    _npy(_TENSORS),
    _npy(DICTIONARY),
    _npy({"keys": np.array([0, 2]), "high_res": MAPS}),
    *(HEAD + pickle.dumps(np.array(DICTIONARY, dtype=object), protocol=protocol) for protocol in (2, 3, 5)),
]
ARRAYS = [_npy(MAPS), _npy(np.asfortranarray(np.arange(6).reshape(2, 3))), _npy(np.array(True))]
ARCHIVES = [_npz(False), _npz(True)]


# Data sets


def read_table(data: bytes) -> None:
    path = _written(data, "tags.csv")
    table.read_table(path, path.parent)


TABLES = [
    b"image,tags,split\na.jpg,cat;dog,train\nb.jpg,,val\n",
    b"\xef\xbb\xbfimage;cat;dog\r\na.jpg;1;0\r\n",
    b'file,labels\n"a, b.jpg","cat|dog"\n',
]


def read_annotation(data: bytes) -> None:
    voc.read_annotation(data, "a.xml")


ANNOTATIONS = [
    b"<annotation><object><name>cat</name></object></annotation>",
    b'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
]


def read_lists(data: bytes) -> None:
    """Lists of ids, tags and classes of the VOC layout."""
    path = _written(data, "list.txt")
    lines = listing.read_lines(path)
    voc.read_tag_file(path, {"a": "a.jpg"})
    names._refuse(lines, "classes.txt")
    for line in lines:
        listing.id_fault(line)


LISTS = [b"a\nb\n", b"a.jpg cat dog\n", b"\xef\xbb\xbfcat\r\ndog\r\n", b"/JPEGImages/a.jpg /SegmentationClass/a.png\n"]


def read_instances(data: bytes) -> None:
    coco.parse_instances(data, "instances_train.json")


_IMAGES = [{"id": 3, "file_name": "a.png", "height": 4, "width": 6}, {"id": 90, "file_name": "b/c.jpg"}]
_OBJECT = {"id": 1, "image_id": 3, "category_id": 17, "segmentation": [[1.5, 0, 2, 3.5, 1, 1]], "iscrowd": 0}
_TABLE = {"images": _IMAGES, "annotations": [_OBJECT], "categories": [{"id": 17, "name": "cat"}]}
INSTANCES = [json.dumps(_TABLE).encode(), json.dumps(_TABLE, indent=1).encode("utf-16")]


def read_runs(data: bytes) -> None:
    mask = run_lengths.decode_rle(data.decode("latin-1"), 9, 13)
    assert mask is None or mask.shape == (9, 13)


RUNS = [run_lengths.encode_rle(np.eye(9, 13, k) > 0)["counts"].encode() for k in (0, 3)]


def read_settings(data: bytes) -> None:
    resolve(read_toml(_written(data, "mcis.toml")))


SETTINGS = [
    b'preset = "quick"\n[data]\nroot = "x"\n[train-cls]\nepochs = 3\nlr_milestones = [1, 2]\n',
    b"[cams]\nscales = [1, 2.5]\nflip = true\n",
    b"[eval]\nthresholds = [0.1, 0.2]\ncrf_settings = {iterations = 3}\n",
]


def read_arguments(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    options.parse_shard(text)


def read_assignment(data: bytes) -> None:
    resolve(parse_assignment(data.decode("utf-8", "surrogateescape")))


ASSIGNMENTS = [b"train-cls.lr=0.01", b"cams.scales=[0.5, 1]", b"eval.crf_settings={iterations=1}", b"preset.x=1"]


def read_photo(data: bytes) -> None:
    """Not our own: what is checked before Pillow decodes, and that whatever it raises is one error."""
    for decode in (images.inspect, images.decode_mask, images.decode_grey, images.decode_image):
        try:
            decode(data, "a.png")
        except images.DataError:
            continue


def _png(mode: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def list_folder(data: bytes) -> None:
    """Names of files of maps: to which image and class each belongs."""
    folder = _folder() / "maps"
    folder.mkdir(exist_ok=True)
    names = [name for name in data.decode("utf-8", "surrogateescape").split("\n")[:8] if listing.id_fault(name) is None]
    made = [folder / f"{name.replace('/', '_')[:60]}.png" for name in names]
    for path in made:
        path.touch()
    try:
        foreign_maps.find_maps(folder, ["a", "a_cat", "2007_1"], CLASSES)
    finally:
        for path in made:
            path.unlink(missing_ok=True)


TARGETS: Mapping[str, Fuzzed] = {
    "user_block": Fuzzed(read_user_block, _blocks()),
    "manifest": Fuzzed(read_manifest, MANIFESTS),
    "notes": Fuzzed(read_note, NOTES),
    "npy": Fuzzed(read_array, ARRAYS),
    "npz": Fuzzed(read_archive, ARCHIVES),
    "dictionary": Fuzzed(read_pickle, PICKLES),
    "zip": Fuzzed(read_zip, ARCHIVES),
    "maps": Fuzzed(read_maps, [*ARRAYS, *PICKLES, *ARCHIVES]),
    "map_names": Fuzzed(list_folder, [b"a_cat\na_0", b"2007_1_dog", b"a_cat_dining_table"]),
    "table": Fuzzed(read_table, TABLES),
    "voc_xml": Fuzzed(read_annotation, ANNOTATIONS),
    "voc_lists": Fuzzed(read_lists, LISTS),
    "coco": Fuzzed(read_instances, INSTANCES),
    "coco_rle": Fuzzed(read_runs, RUNS),
    "settings": Fuzzed(read_settings, SETTINGS),
    "assignment": Fuzzed(read_assignment, ASSIGNMENTS),
    "shard": Fuzzed(read_arguments, [b"1/4", b"12/12"]),
    "images": Fuzzed(read_photo, [_png("L"), _png("RGB"), _png("P"), _png("I;16"), _png("RGBA")]),
}
