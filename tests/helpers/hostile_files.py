"""Artifacts with a right digest and a right manifest, and a structure that is out for harm."""

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sizes import size

from mcis_cli.store.format import user_block

NUM_MEMBERS = size(10_000, 1_000_000)
NUM_ATTRIBUTES = size(2_000, 100_000)
OTHER = "other.h5"  # an intact HDF5 file with the expected objects
PIPE = "pipe.h5"  # whoever opens it waits for ever


def forge(intact: Path, target: Path, change: Callable[[h5py.File, str, str], Any]) -> Path:
    """Copy an artifact, change its structure, and seal it anew.

    Args:
        intact: the artifact.
        target: its forgery; `OTHER` and `PIPE` come to lie beside it.
        change: called with the file, the path of a dataset, and that of a group on the way to it.
    """
    manifest = manifest_of(intact)
    shutil.copyfile(intact, target)
    if not (target.parent / PIPE).exists():
        os.mkfifo(target.parent / PIPE)
    with h5py.File(target, "r+", libver=("v110", "v110")) as file:
        leaf, middle = places(file)
        with h5py.File(target.parent / OTHER, "w") as other:
            other["leaf"] = file[leaf][()]
            file.copy(file[middle], other, "middle")
        change(file, leaf, middle)
    return seal(target, manifest)


def manifest_of(path: Path) -> bytes:
    """The bytes of the manifest of a sealed file."""
    with h5py.File(path, "r") as file:
        data: bytes = file["manifest"][:].tobytes()
    return data


def seal(path: Path, manifest: bytes) -> Path:
    """Append a manifest to a file, and write a user block that fits."""
    with path.open("r+b") as file:
        offset = file.seek(0, os.SEEK_END)
        file.write(manifest)
        file.flush()
        user_block.seal(file.fileno(), path, "artifact", user_block.place_of(offset, manifest))
    return path


def places(file: h5py.File) -> tuple[str, str]:
    """A dataset that is read, and a group that it is in."""
    if "tensors" in file:
        return "tensors/0", "tensors"
    name = sorted(file["records/fields"])[0]
    return f"records/fields/{name}/values", "records/fields"


def put(file: h5py.File, name: str, **options: Any) -> h5py.Dataset:
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, **options)


def relink(link: Any, *, in_the_middle: bool = False) -> Callable[[h5py.File, str, str], None]:
    """Put a link in the place of an object."""

    def change(file: h5py.File, leaf: str, middle: str) -> None:
        name = middle if in_the_middle else leaf
        del file[name]
        file[name] = link

    return change


def like(file: h5py.File, leaf: str) -> dict[str, Any]:
    """Shape and dtype of a dataset."""
    return {"shape": file[leaf].shape, "dtype": file[leaf].dtype}


def virtual(source: str) -> Callable[[h5py.File, str, str], None]:
    def change(file: h5py.File, leaf: str, middle: str) -> None:
        shape, dtype = file[leaf].shape, file[leaf].dtype
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(source, "leaf", shape, dtype)
        del file[leaf]
        file.create_virtual_dataset(leaf, layout)

    return change


def external_storage(source: str) -> Callable[[h5py.File, str, str], None]:
    def change(file: h5py.File, leaf: str, middle: str) -> None:
        put(file, leaf, **like(file, leaf), external=[(source, 0, h5py.h5f.UNLIMITED)])

    return change


def cycle(file: h5py.File, leaf: str, middle: str) -> None:
    del file[middle]
    file[middle] = file["/"]


def cycle_below(file: h5py.File, leaf: str, middle: str) -> None:
    file[middle]["again"] = file[middle]


def many_members(file: h5py.File, leaf: str, middle: str) -> None:
    group, one = file[middle], file["manifest"]
    for number in range(NUM_MEMBERS):
        h5py.h5o.link(one.id, group.id, b"%d" % (10**7 + number))


def shape_bomb(file: h5py.File, leaf: str, middle: str) -> None:
    rank = file[leaf].ndim
    put(file, leaf, shape=(2**40,) * max(1, rank), dtype=file[leaf].dtype, chunks=(1024,) * max(1, rank))


def plain_shape_bomb(file: h5py.File, leaf: str, middle: str) -> None:
    put(file, leaf, shape=(2**50,), dtype=file[leaf].dtype)


def gzip_bomb(file: h5py.File, leaf: str, middle: str) -> None:
    dtype = file[leaf].dtype
    count = 2**29 // dtype.itemsize
    dataset = put(file, leaf, shape=(count,), dtype=dtype, chunks=(2**20 // dtype.itemsize,), compression="gzip")
    packed = zlib.compress(bytes(2**20), 9)
    for chunk in range(0, count, 2**20 // dtype.itemsize):
        dataset.id.write_direct_chunk((chunk,), packed)


def one_chunk_bomb(file: h5py.File, leaf: str, middle: str) -> None:
    dtype = file[leaf].dtype
    put(file, leaf, shape=(4,), maxshape=(None,), dtype=dtype, chunks=(2**31 // dtype.itemsize,), compression="gzip")


def attributes(of: str) -> Callable[[h5py.File, str, str], None]:
    def change(file: h5py.File, leaf: str, middle: str) -> None:
        target = file[{"root": "/", "leaf": leaf, "middle": middle}[of]]
        for number in range(NUM_ATTRIBUTES):
            target.attrs[f"a{number}"] = number

    return change


def huge_attribute(file: h5py.File, leaf: str, middle: str) -> None:
    file[leaf].attrs["a"] = np.zeros(2**22)


def text_attribute(file: h5py.File, leaf: str, middle: str) -> None:
    file[middle].attrs["a"] = ["text of any length"] * 1000


def unknown_filter(file: h5py.File, leaf: str, middle: str) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((16,))
    plan.set_filter(60_000, h5py.h5z.FLAG_OPTIONAL)
    space, kind = h5py.h5s.create_simple((16,), (16,)), h5py.h5t.py_create(file[leaf].dtype)
    del file[leaf]
    h5py.h5d.create(file.id, leaf.encode(), kind, space, plan)


def named_type(file: h5py.File, leaf: str, middle: str) -> None:
    del file[leaf]
    file[leaf] = np.dtype("f4")


def of_dtype(dtype: Any) -> Callable[[h5py.File, str, str], None]:
    return lambda file, leaf, middle: put(file, leaf, shape=file[leaf].shape, dtype=dtype)


def with_options(**options: Any) -> Callable[[h5py.File, str, str], None]:
    return lambda file, leaf, middle: put(file, leaf, shape=(64,), dtype=file[leaf].dtype, chunks=(16,), **options)


HOSTILE: Mapping[str, Callable[[h5py.File, str, str], Any]] = {
    "external link": relink(h5py.ExternalLink(OTHER, "/leaf")),
    "external link to a pipe": relink(h5py.ExternalLink(PIPE, "/leaf")),
    "external link in the middle": relink(h5py.ExternalLink(OTHER, "/middle"), in_the_middle=True),
    "external link to a pipe in the middle": relink(h5py.ExternalLink(PIPE, "/middle"), in_the_middle=True),
    "one more external link": lambda file, leaf, middle: file.__setitem__("more", h5py.ExternalLink(PIPE, "/")),
    "soft link": relink(h5py.SoftLink("/manifest")),
    "soft link to nothing": relink(h5py.SoftLink("/nothing")),
    "soft link in the middle": relink(h5py.SoftLink("/"), in_the_middle=True),
    "external storage": external_storage(OTHER),
    "external storage in a pipe": external_storage(PIPE),
    "virtual": virtual(OTHER),
    "virtual over a pipe": virtual(PIPE),
    "virtual over itself": virtual("."),
    "object references": of_dtype(h5py.ref_dtype),
    "region references": of_dtype(h5py.regionref_dtype),
    "cycle to the root": cycle,
    "cycle below": cycle_below,
    "many members": many_members,
    "shape bomb": shape_bomb,
    "plain shape bomb": plain_shape_bomb,
    "gzip bomb": gzip_bomb,
    "bomb of one chunk": one_chunk_bomb,
    "attributes of the root": attributes("root"),
    "attributes of a group": attributes("middle"),
    "attributes of a dataset": attributes("leaf"),
    "huge attribute": huge_attribute,
    "attribute of texts": text_attribute,
    "unknown filter": unknown_filter,
    "checksums": with_options(fletcher32=True),
    "lzf": with_options(compression="lzf"),
    "compound": of_dtype([("a", "f4"), ("b", "i8")]),
    "lists": of_dtype(h5py.vlen_dtype(np.dtype("f8"))),
    "texts": of_dtype(h5py.string_dtype()),
    "enumeration": of_dtype(h5py.enum_dtype({"a": 1}, basetype="i4")),
    "opaque": of_dtype("V16"),
    "arrays": of_dtype("(3,)f4"),
    "big-endian": of_dtype(">f8"),
    "a type for a dataset": named_type,
    "a group for a dataset": lambda file, leaf, middle: (file.__delitem__(leaf), file.create_group(leaf)),
    "no space": lambda file, leaf, middle: put(file, leaf, data=h5py.Empty("f4")),
}


def mutate(content: bytes, draw: np.random.Generator) -> bytes:
    """A few bytes changed as a fuzzer would: flipped, set to an edge, copied from elsewhere, cut off, put in."""
    data = bytearray(content)
    for _ in range(int(draw.choice([1, 1, 2, 4, 8]))):
        at = int(draw.integers(user_block.SIZE, len(data)))
        match int(draw.choice([0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 6])):
            case 0:
                data[at] ^= 1 << int(draw.integers(8))
            case 1:
                data[at] = int(draw.choice([0, 1, 127, 128, 254, 255]))
            case 2:
                width = int(draw.choice([2, 4, 8]))
                data[at : at + width] = EDGES[int(draw.integers(len(EDGES)))][:width]
            case 3:
                other, length = int(draw.integers(user_block.SIZE, len(data))), int(draw.integers(1, 65))
                data[at : at + length] = data[other : other + length]
            case 4:
                data[at : at + int(draw.integers(1, 257))] = b""
            case 5:
                data[at:at] = bytes(int(draw.integers(1, 257)))
            case _:
                del data[at:]
        if len(data) <= user_block.SIZE:
            data += bytes(64)
    return bytes(data)


EDGES = [value.to_bytes(8, "little") for value in (0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)]
