"""Read the HDF5 part of a file whose digest has been checked, and refuse any structure but our own.

A digest proves that a file is as it was written, not who wrote it: a file from elsewhere may have links into other
files, virtual or external storage, references, cycles, or sizes that no memory holds. The structure that a file may
have follows from its manifest, so every object is looked up by its name, and nothing is traversed.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mcis_cli.errors import McisError, first_few
from mcis_cli.store import files
from mcis_cli.store.format import user_block
from mcis_cli.store.format.container import FIELD_NAME, MAX_RANK
from mcis_cli.store.format.identity import DTYPES, Record, Schema

_MAX_CHUNK_BYTES = 2**24
_MAX_RATIO = 1100  # deflate makes nothing smaller than 1/1032
_MAX_INDEX_BYTES = 2**28  # ids and shapes are read whole
_MAX_RECORD_BYTES = 2**28
_FREE_RECORDS = 2**16  # each further record takes at least a byte of the file: ids become objects
_READ_BYTES = 2**22  # of one field at a time, when all records are read in order
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}


class Reader:
    """An open file of kind `artifact` or `segment`. Safe to use from several threads."""

    def __init__(self, path: Path, kind: user_block.Kind, *, is_new: bool = False) -> None:
        """Check the digest, then open the file, then check its structure.

        Args:
            path: The file.
            kind: The required kind of file.
            is_new: Whether this process has just computed its digest, which then needs no check.

        Raises:
            MissingError: there is no such file.
            DamagedError: the digest or the structure is wrong.
            StorageError: it cannot be read.
        """
        self.path = path
        self._file, self._size = _open(path, kind, is_new)
        try:
            with _understood(path):
                self._check()
        except McisError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    def _check(self) -> None:
        data = self._whole(self._file, "manifest", "uint8", 1, user_block.MAX_MANIFEST).tobytes()
        self.manifest = user_block.parse_manifest(data, self.path)
        schema, tensors = self.manifest.get("schema"), self.manifest.get("tensors")
        self.schema = _parse_schema(schema, self.path) if schema is not None else {}
        self._members(self._file, {"manifest", "records" if schema is not None else "tensors"})
        self.ids: tuple[str, ...] = ()
        self._index: dict[str, int] = {}
        self._tensors: dict[str, tuple[h5py.Dataset, str]] = {}
        if schema is not None:
            self._check_records()
        else:
            self._check_tensors(_parse_tensors(tensors, self.path))

    def _check_records(self) -> None:
        records = self._group(self._file, "records", {"ids", "fields"})
        ids = self._group(records, "ids", {"bytes", "ends"})
        self.ids = self._read_ids(ids)
        self._index = {image_id: index for index, image_id in enumerate(self.ids)}
        self._values: dict[str, h5py.Dataset] = {}
        self._shapes: dict[str, NDArray[np.int64]] = {}
        self._ends: dict[str, NDArray[np.int64]] = {}
        fields = self._group(records, "fields", set(self.schema))
        for name, (dtype, rank) in self.schema.items():
            group = self._group(fields, name, {"values", "shapes"} if rank else {"values"})
            self._values[name] = self._dataset(group, "values", _stored(dtype), 1)
            self._shapes[name] = self._read_shapes(group, name, rank)
            self._ends[name] = np.concatenate([[0], np.cumsum(self._shapes[name].prod(axis=1))])

    def _check_tensors(self, tensors: list[tuple[str, str, tuple[int, ...]]]) -> None:
        names = [name for name, _, _ in tensors]
        self._expect(names == sorted(set(names)), "names of tensors are out of order", "each once, sorted")
        group = self._group(self._file, "tensors", {str(index) for index in range(len(tensors))})
        left = self._size  # they are read together
        for index, (name, dtype, shape) in enumerate(tensors):
            dataset = self._dataset(group, str(index), _stored(dtype), len(shape))
            self._expect(dataset.shape == shape, f"tensor {name!r:.80} is {dataset.shape}", f"{shape}")
            left -= dataset.nbytes
            self._expect(left >= 0, f"its tensors have more than {self._size:,} bytes", "no more than the file")
            self._tensors[name] = dataset, dtype

    def _read_ids(self, group: h5py.Group) -> tuple[str, ...]:
        raw = self._whole(group, "bytes", "uint8", 1).tobytes()
        most = _FREE_RECORDS + self._size
        count = len(self._dataset(group, "ends", "int64", 1))
        self._expect(count <= most, f"{count:,} records", f"{most:,} or less in a file of its size")
        ends = self._whole(group, "ends", "int64", 1)
        self._expect(len(ends) == self.manifest.get("num_records"), f"{len(ends)} ids", "num_records of the manifest")
        bounds = np.concatenate([[0], ends])
        self._expect(bool((np.diff(bounds) > 0).all()) and bounds[-1] == len(raw), "ids overlap", "one after another")
        encoded = [raw[start:end] for start, end in pairwise(bounds.tolist())]
        self._expect(all(a < b for a, b in pairwise(encoded)), "ids out of order", "sorted ids")
        return tuple(item.decode() for item in encoded)  # UnicodeDecodeError is a ValueError

    def _read_shapes(self, group: h5py.Group, name: str, rank: int) -> NDArray[np.int64]:
        values = self._dataset(group, "values", _stored(self.schema[name][0]), 1)
        num_values, num_records, most = len(values), len(self.ids), _MAX_RECORD_BYTES // values.dtype.itemsize
        shapes = self._whole(group, "shapes", "int64", 2) if rank else np.ones((num_records, 1), np.int64)
        self._expect(shapes.shape == (num_records, max(rank, 1)), f"{len(shapes)} shapes of {name}", f"{num_records}")
        sizes = shapes.astype(np.float64).prod(axis=1)  # integers might wrap around
        claimed = np.where(shapes == 0, 1, shapes).astype(np.float64).prod(axis=1)  # also if one side is 0
        valid = bool((shapes >= 0).all() and (claimed <= most).all())
        self._expect(valid, f"a shape of {name} is out of bounds", f"0 to {most:,} values")
        self._expect(sizes.sum() == num_values, f"{num_values} values of {name}", f"{sizes.sum():.0f}")
        return shapes

    def read(self, image_id: str) -> dict[str, NDArray[Any]]:
        """The fields of one record, as new arrays. Raises KeyError if there is no such record."""
        index = self._index[image_id]
        return {name: self._slice(name, index, index + 1)[0] for name in self.schema}

    def records(self) -> Iterator[Record]:
        """All records in order, a few MiB at a time."""
        start = 0
        while start < len(self.ids):
            stop = self._batch_end(start)
            batch = {name: self._slice(name, start, stop) for name in self.schema}
            for offset, image_id in enumerate(self.ids[start:stop]):
                yield image_id, {name: arrays[offset] for name, arrays in batch.items()}
            start = stop

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All tensors by name."""
        with _understood(self.path):
            return {
                name: np.asarray(dataset[()]).astype(dtype, copy=False)
                for name, (dataset, dtype) in self._tensors.items()
            }

    def _batch_end(self, start: int) -> int:
        """The last record, plus one, that fits into a read that starts with `start`."""
        limits = [
            int(np.searchsorted(ends, ends[start] + _READ_BYTES // self._values[name].dtype.itemsize, "right")) - 1
            for name, ends in self._ends.items()
        ]
        return max(start + 1, min([start + 4096, len(self.ids), *limits]))

    def _slice(self, name: str, start: int, stop: int) -> list[NDArray[Any]]:
        dtype, rank = self.schema[name]
        ends, shapes = self._ends[name], self._shapes[name]
        with _understood(self.path):
            values = self._values[name][ends[start] : ends[stop]]
        values = values.astype(dtype, copy=False)
        pieces = [values[ends[index] - ends[start] : ends[index + 1] - ends[start]] for index in range(start, stop)]
        return [
            piece.reshape(tuple(shape) if rank else ()).copy()
            for piece, shape in zip(pieces, shapes[start:stop].tolist(), strict=True)
        ]

    def _expect(self, holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise files.damaged(self.path, found, expected)

    def _members(self, group: h5py.Group, names: set[str]) -> None:
        """Check that a group has exactly these members, all in this file, without listing a million others."""
        where = group.name
        some = first_few(sorted(names))
        self._expect(len(group) == len(names), f"{where} has {len(group)} members", f"{len(names)} ({some})")
        self._expect(len(group.attrs) == 0, f"{where} has attributes", "none")
        for name in names:
            self._hard(group, name)

    def _group(self, parent: h5py.Group, name: str, members: set[str]) -> h5py.Group:
        group = parent[name]
        self._expect(isinstance(group, h5py.Group), f"{name} is no group", "a group")
        self._members(group, members)
        return group

    def _hard(self, parent: h5py.Group, name: str) -> None:
        link = parent.get(name, getlink=True)
        self._expect(isinstance(link, h5py.HardLink), f"{parent.name} has no hard link {name!r}", "one")

    def _whole(
        self, parent: h5py.Group, name: str, dtype: str, rank: int, most: int = _MAX_INDEX_BYTES
    ) -> NDArray[Any]:
        dataset = self._dataset(parent, name, dtype, rank)
        self._expect(dataset.nbytes <= most, f"{dataset.name} has {dataset.nbytes:,} bytes", f"{most:,} or less")
        whole: NDArray[Any] = dataset[:]
        return whole

    def _dataset(self, parent: h5py.Group, name: str, dtype: str, rank: int) -> h5py.Dataset:
        """A dataset by name, checked: plain storage, plain dtype, known filters, and a size that its file can hold."""
        self._hard(parent, name)
        dataset = parent[name]
        self._expect(isinstance(dataset, h5py.Dataset), f"{name} is no dataset", "a dataset")
        where = dataset.name
        plan = dataset.id.get_create_plist()
        self._expect(plan.get_external_count() == 0 and not dataset.is_virtual, f"{where} is stored elsewhere", "here")
        self._expect(len(dataset.attrs) == 0, f"{where} has attributes", "none")
        wanted = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))  # an enumeration has the same dtype
        self._expect(dataset.id.get_type() == wanted, f"{where} is {dataset.dtype}", dtype)
        self._expect(dataset.shape is not None and dataset.ndim == rank, f"{where} is {dataset.shape}", f"rank {rank}")
        filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
        self._expect(filters <= _FILTERS, f"{where} has filters {sorted(filters)}", "gzip and shuffle")
        chunk = int(np.prod(dataset.chunks or (), dtype=float)) * dataset.dtype.itemsize
        self._expect(chunk <= _MAX_CHUNK_BYTES, f"{where} has chunks of {chunk:,} bytes", f"{_MAX_CHUNK_BYTES:,}")
        allowed = _MAX_RATIO * self._size
        self._expect(dataset.nbytes <= allowed, f"{where} unpacks to {dataset.nbytes:,} bytes", f"{allowed:,} or less")
        return dataset


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Distinguish errors of the disk from errors of HDF5 about the bytes that it reads."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise files.storage_error("read", path, error) from error
        said = " ".join(str(error).split()) or type(error).__name__
        raise files.damaged(path, f"HDF5 says {said!r}", "a file that it can read") from error


def _open(path: Path, kind: user_block.Kind, is_new: bool) -> tuple[h5py.File, int]:
    """The file and its size. A segment that is not large is read once: HDF5 gets the bytes whose digest was checked."""
    descriptor = files.open_regular(path)
    try:
        if kind == "segment" and not is_new and (data := user_block.read_verified(descriptor, path, kind)):
            with _understood(path):
                return h5py.File(h5py.h5f.open_file_image(bytes(data))), len(data)
        (user_block.read_block if is_new else user_block.verify)(descriptor, path, kind)
        checked = os.fstat(descriptor)
        # files are sealed and replaced only as a whole, so HDF5's own locks add nothing
        with _understood(path):
            file = h5py.File(path, "r", locking=False)
            if not os.path.samestat(checked, path.stat()):
                file.close()
                raise files.damaged(path, "it was replaced while it was opened", "a file at rest")
    finally:
        os.close(descriptor)
    return file, checked.st_size


def _stored(dtype: str) -> str:
    return "uint8" if dtype == "bool" else dtype


def _parse_schema(schema: Any, path: Path) -> Schema:
    """The manifest's schema, checked."""
    if not isinstance(schema, Mapping):
        raise files.damaged(path, "its schema is no JSON object", "one")
    parsed: dict[str, tuple[str, int]] = {}
    for name, field in schema.items():
        match field:
            case [str() as dtype, int() as rank] if dtype in DTYPES and 0 <= rank <= MAX_RANK:
                parsed[name] = dtype, rank
        if name not in parsed or not FIELD_NAME.fullmatch(name):
            raise files.damaged(path, f"the schema of {name[:64]!r} is {str(field)[:64]!r}", "[dtype, rank]")
    return parsed


def _parse_tensors(tensors: Any, path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """The manifest's list of tensors, checked."""
    for entry in tensors if isinstance(tensors, list) else [None]:
        match entry:
            case [str(), str() as dtype, list() as shape] if dtype in DTYPES and len(shape) <= MAX_RANK:
                if all(type(size) is int and size >= 0 for size in shape):
                    continue
        raise files.damaged(path, f"a tensor is listed as {str(entry)[:64]!r}", "[name, dtype, shape]")
    return [(name, dtype, tuple(shape)) for name, dtype, shape in tensors]
