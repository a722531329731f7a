"""Write the HDF5 part of a file: records in columns, or tensors, and the manifest.

A record is an image id with a few arrays. The file has few HDF5 objects for any number of records: the ids as one run
of bytes, and for each field the values as one run and the shapes as a table. Everything streams.
"""

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mcis_cli.store import files
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import DTYPES, Record, Schema, canonical_json
from mcis_cli.store.format.undisturbed import undisturbed

CHUNK_BYTES = 2**18  # reading one record reads all chunks that it touches
_INDEX_CHUNK_BYTES = 2**15  # of ids and shapes, which are small
MAX_RANK = 8
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_GZIP = 1


class _Sink(io.RawIOBase):
    """The file that HDF5 writes to.

    It never raises towards HDF5, which would crash the interpreter at its exit: it
    remembers the first failure and drops later writes, and `hdf5_on` raises after HDF5 has closed.
    """

    def __init__(self, descriptor: int) -> None:
        self.error: OSError | None = None
        self._descriptor = descriptor
        self._position = 0
        self._length = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = 0
        try:
            count = os.preadv(self._descriptor, [view], self._position)
        except OSError as error:
            self.error = self.error or error
        view[count:] = bytes(len(view) - count)  # dropped bytes read as zeros
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._try(lambda: files.write(self._descriptor, view, self._position))
        self._position += len(view)
        self._length = max(self._length, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        length = self._position if size is None else size
        self._try(lambda: files.truncate(self._descriptor, length))
        self._length = length
        return length

    def _try(self, call: Callable[[], None]) -> None:
        if self.error is None:
            try:
                call()
            except OSError as error:
                self.error = error


@contextmanager
def _hdf5_on(descriptor: int, path: Path) -> Iterator[tuple[h5py.File, _Sink]]:
    """An HDF5 file that is written, after a user block, to an open descriptor; every call of HDF5 is `undisturbed`."""
    sink = _Sink(descriptor)
    try:
        with undisturbed():
            file = h5py.File(sink, "w", libver=("v110", "v110"), userblock_size=user_block.SIZE)
        try:
            yield file, sink
        finally:
            with undisturbed():
                file.close()
    except Exception as error:
        if sink.error is None:
            raise
        raise files.storage_error("write", path, sink.error) from error  # HDF5's own error only follows from it
    if sink.error is not None:
        raise files.storage_error("write", path, sink.error) from sink.error


class _Run:
    """A growing one- or two-dimensional dataset, filled by whole chunks."""

    def __init__(
        self, parent: h5py.Group, name: str, dtype: str, columns: int | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        stored = np.dtype("uint8" if dtype == "bool" else dtype).newbyteorder("<")
        tail = () if columns is None else (columns,)
        self._rows = max(1, chunk_bytes // (stored.itemsize * (columns or 1)))
        self._waiting: list[NDArray[Any]] = []
        self._num_waiting = 0
        self._dataset = parent.create_dataset(
            name,
            shape=(0, *tail),
            maxshape=(None, *tail),
            chunks=(self._rows, *tail),
            dtype=stored,
            compression="gzip",
            compression_opts=_GZIP,
            shuffle=True,
            track_times=False,
        )

    def add(self, rows: NDArray[Any]) -> None:
        """Take in rows; the array may be kept until its chunk is full."""
        self._waiting.append(rows)
        self._num_waiting += len(rows)
        if self._num_waiting >= self._rows:
            self._write(self._num_waiting - self._num_waiting % self._rows)

    def close(self) -> None:
        """Write what is left."""
        self._write(self._num_waiting)

    def _write(self, count: int) -> None:
        if not count:
            return
        rows = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        start = len(self._dataset)
        self._dataset.resize(start + count, axis=0)
        self._dataset[start:] = rows[:count]
        rest = rows[count:].copy()
        self._waiting, self._num_waiting = ([rest] if len(rest) else []), len(rest)


class _Columns:
    """The group `/records`: ids, and the columns of each field."""

    def __init__(self, file: h5py.File, schema: Schema) -> None:
        records = file.create_group("records")
        ids = records.create_group("ids")
        fields = records.create_group("fields")
        self._schema = schema
        self._end = 0
        self._last = b""
        self._bytes = _Run(ids, "bytes", "uint8", chunk_bytes=_INDEX_CHUNK_BYTES)
        self._ends = _Run(ids, "ends", "int64", chunk_bytes=_INDEX_CHUNK_BYTES)
        self._values: dict[str, _Run] = {}
        self._shapes: dict[str, _Run] = {}
        for name, (dtype, rank) in sorted(schema.items()):
            group = fields.create_group(name)
            self._values[name] = _Run(group, "values", dtype)
            if rank:
                self._shapes[name] = _Run(group, "shapes", "int64", rank, _INDEX_CHUNK_BYTES)

    def add(self, image_id: str, fields: Mapping[str, NDArray[Any]]) -> None:
        encoded = image_id.encode()
        assert self._last < encoded, f"{image_id!r} after {self._last!r}: ids are not empty, and ascend strictly"
        assert fields.keys() == self._schema.keys(), f"{image_id} has fields {sorted(fields)}, not the schema's"
        self._last = encoded
        self._end += len(encoded)
        self._bytes.add(np.frombuffer(encoded, np.uint8))
        self._ends.add(np.array([self._end], np.int64))
        for name, array in fields.items():
            dtype, rank = self._schema[name]
            assert (array.dtype.name, array.ndim) == (dtype, rank), (
                f"{name} of {image_id} is {array.dtype} of rank {array.ndim}; the schema says {dtype} of rank {rank}"
            )
            # a copy, since the caller may change its array later
            self._values[name].add(array.reshape(-1).astype("uint8" if dtype == "bool" else dtype))
            if rank:
                self._shapes[name].add(np.array([array.shape], np.int64))

    def close(self) -> None:
        for run in (self._bytes, self._ends, *self._values.values(), *self._shapes.values()):
            run.close()


def check_schema(schema: Schema) -> None:
    """Assert that a schema is one that files of this format can have."""
    for name, (dtype, rank) in schema.items():
        assert FIELD_NAME.fullmatch(name), f"a field is called {name!r}; expected {FIELD_NAME.pattern}"
        assert dtype in DTYPES, f"{name} has dtype {dtype}; known are {sorted(DTYPES)}"
        assert 0 <= rank <= MAX_RANK, f"{name} has rank {rank}"


def write_records(
    descriptor: int,
    path: Path,
    kind: user_block.Kind,
    schema: Schema,
    records: Iterable[Record],
    manifest: Callable[[int], Mapping[str, Any]],
) -> None:
    """Write records to an open, empty file, then its manifest, and seal it with its user block.

    Args:
        descriptor: Open for reading and writing; stays open.
        path: The file's name, for messages.
        kind: What the user block calls the file.
        schema: Dtype and rank of each field.
        records: Streamed; a few chunks of each field are held at a time.
        manifest: Called with the number of records once all are written.

    Raises:
        StorageError: a write failed.
    """
    check_schema(schema)
    num_records = 0
    with _hdf5_on(descriptor, path) as (file, sink):
        with undisturbed():
            columns = _Columns(file, schema)
        for image_id, fields in records:
            with undisturbed():
                columns.add(image_id, fields)
            num_records += 1
            if sink.error:
                break
        with undisturbed():
            columns.close()
            place = _write_manifest(file, manifest(num_records))
    user_block.seal(descriptor, path, kind, place)


def write_tensors(
    descriptor: int, path: Path, tensors: Mapping[str, NDArray[Any]], manifest: Mapping[str, Any]
) -> None:
    """Write tensors to an open, empty file in the order of their names, then its manifest; seal it as an artifact.

    Raises:
        StorageError: a write failed.
    """
    with _hdf5_on(descriptor, path) as (file, sink):
        with undisturbed():
            group = file.create_group("tensors")
        for index, name in enumerate(sorted(tensors)):
            tensor = tensors[name]
            assert tensor.dtype.name in DTYPES, f"{name} has dtype {tensor.dtype}; known are {sorted(DTYPES)}"
            stored = np.dtype("uint8" if tensor.dtype == bool else tensor.dtype).newbyteorder("<")
            with undisturbed():
                group.create_dataset(str(index), data=tensor.astype(stored), dtype=stored, track_times=False)
            if sink.error:
                break
        with undisturbed():
            place = _write_manifest(file, manifest)
    user_block.seal(descriptor, path, "artifact", place)


def _write_manifest(file: h5py.File, manifest: Mapping[str, Any]) -> user_block.ManifestPlace:
    """Store the manifest in one piece, and say where it lies."""
    data = canonical_json(manifest)
    dataset = file.create_dataset("manifest", data=np.frombuffer(data, np.uint8), track_times=False)
    file.flush()
    return user_block.place_of(dataset.id.get_offset(), data)
