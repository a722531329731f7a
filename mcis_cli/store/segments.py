"""Work in progress: finished segments, checkpoints and the metrics log of one recipe, and their sealing.

The sorted list of images is cut into fixed segments. A finished segment is an immutable file of its own, and its
presence with a good digest is the record that it is done: there is no bitmap that a crash could turn into a lie.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mcis_cli.errors import DamagedError, MissingError
from mcis_cli.store import files, user_block
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.identity import FORMAT, ContentHash, Recipe, Record, Schema, canonical_json, hashed

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEGMENT_SIZE = 64
KEPT_CHECKPOINTS = 2
KEY_DIGITS = 16


def segments_of(ids: Iterable[str]) -> list[Sequence[str]]:
    """Cut ids, sorted, into the segments that a stage works on; nothing else decides which image is in which."""
    ordered = sorted(ids)
    assert len(set(ordered)) == len(ordered), "an id is there twice"
    return [tuple(ordered[start : start + SEGMENT_SIZE]) for start in range(0, len(ordered), SEGMENT_SIZE)]


class Shelf(Protocol):
    """What sealing asks of the store."""

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe."""

    def shelve(self, temporary: Path, recipe: Recipe, content_id: str, log: bytes | None) -> Artifact:
        """Give a sealed temporary file its final name, and note its key."""

    def temporary(self, owner: str) -> Path:
        """A new name in the store's folder of temporary files."""


class Partial:
    """The unfinished artifact of one recipe. Made by `Store.begin`.

    Attributes:
        recipe: What is being made.
        folder: `partial/<stage>-<key>/`.
    """

    def __init__(self, shelf: Shelf, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self._shelf = shelf
        self._known: set[int] = set()

    def sealed(self) -> Artifact | None:
        """The artifact, where another process finished it while this one waited."""
        return self._shelf.find(self.recipe)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, int]]:
        path = self._shelf.temporary(self.folder.name)
        with files.temporary(path) as descriptor:
            yield path, descriptor

    # Segments

    def segment(self, index: int) -> bool:
        """Whether segment `index` is there and intact; reads all of it once."""
        if index not in self._known and self._is_intact(self._segment_path(index), "segment", index):
            self._known.add(index)
        return index in self._known

    def write_segment(self, index: int, schema: Schema, records: Iterable[Record]) -> None:
        """Write a segment and wait until it is on the disk; one that is there already, and intact, stays.

        Args:
            index: Number of the segment in `segments_of`.
            schema: Dtype and rank of each field.
            records: In the order of their ids; streamed, so they may be computed while they are written.

        Raises:
            StorageError: it could not be written; nothing half-written is left under its name.
        """
        from mcis_cli.store import container  # imports h5py, which listing a store does without

        manifest = {"format": FORMAT, "index": index, "key": self.recipe.key, "schema": _spelled(schema)}
        with self._temporary() as (path, descriptor):
            container.write_records(
                descriptor, path, "segment", schema, records, lambda count: {**manifest, "num_records": count}
            )
            self._place(path, self._segment_path(index), "segment", index)
        self._known.add(index)

    def _segment_path(self, index: int) -> Path:
        return self.folder / f"segment-{index:06d}.h5"

    def _place(self, temporary: Path, target: Path, kind: user_block.Kind, number: int) -> None:
        if not self.folder.exists():  # another process has sealed, and removed it
            files.make_folder(self.folder)
        if not files.link(temporary, target) and not self._is_intact(target, kind, number):
            files.replace(temporary, target)
        files.sync_folder(self.folder)

    def _is_intact(self, path: Path, kind: user_block.Kind, number: int) -> bool:
        try:
            descriptor = user_block.open_regular(path)
        except (MissingError, DamagedError):
            return False
        try:
            user_block.verify(descriptor, path, kind)
            if kind == "segment":
                manifest = user_block.read_manifest(descriptor, path, kind)
                return (manifest.get("key"), manifest.get("index")) == (self.recipe.key, number)
        except DamagedError:
            return False
        finally:
            os.close(descriptor)
        return True

    # Checkpoints

    def save_checkpoint(self, step: int, payload: bytes) -> None:
        """Write a checkpoint and wait until it is on the disk; then all but the newest two are removed.

        Raises:
            StorageError: it could not be written; the ones before are still there.
        """
        with self._temporary() as (path, descriptor):
            with files.reported("write", path):
                files.write(descriptor, payload, user_block.SIZE)
            user_block.seal(descriptor, path, "checkpoint", None)
            self._place(path, self.folder / f"checkpoint-{step:012d}.ckpt", "checkpoint", step)
        for _, old in self._checkpoints()[KEPT_CHECKPOINTS:]:
            files.unlink(old)

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """Step and payload of the newest checkpoint that is intact."""
        for step, path in self._checkpoints():
            try:
                descriptor = user_block.open_regular(path)
            except (MissingError, DamagedError):
                continue
            try:
                block = user_block.verify(descriptor, path, "checkpoint")
                return step, user_block.read_payload(descriptor, path, block)
            except DamagedError:
                continue
            finally:
                os.close(descriptor)
        return None

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """Newest first."""
        return sorted(
            ((int(path.stem.split("-")[1]), path) for path in self.folder.glob("checkpoint-*.ckpt")), reverse=True
        )

    # The metrics log

    @property
    def log_path(self) -> Path:
        """The log: one JSON object a line. The last lines may be lost or torn by a crash."""
        return self.folder / "metrics.jsonl"

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        files.append(self.log_path, canonical_json(line) + b"\n")

    def truncate_log(self, step: int) -> None:
        """Drop the lines of steps after `step`, and torn ones, so that a resumed training goes on from there."""
        if self.log_path.exists():
            kept = [line for line in self.log_path.read_bytes().splitlines(keepends=True) if _is_before(line, step)]
            with self._temporary() as (path, descriptor):
                with files.reported("write", path):
                    files.write(descriptor, b"".join(kept), 0)
                files.sync(descriptor, path)
                files.replace(path, self.log_path)

    # Sealing

    def seal(
        self, schema: Schema, num_segments: int, meta: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> Artifact:
        """Pack all segments into one artifact, in bounded memory, and remove them. The first to seal wins.

        Args:
            schema: Dtype and rank of each field; that of every segment.
            num_segments: How many there must be.
            meta: What the stages after it read beside the records; hashed into the content id.
            provenance: When, where, how long, with what; hashed into nothing. `created` is added.

        Raises:
            MissingError: a segment is not there.
            DamagedError: a segment is damaged.
            StorageError: the file could not be written; the segments stay.
        """
        from mcis_cli.store import container

        if artifact := self.sealed():
            return self._finish(artifact)
        content = ContentHash(self.recipe.stage, meta, schema)
        records = hashed(content, self._records(num_segments, schema))
        base = self._manifest(meta, provenance) | {"schema": _spelled(schema)}
        with self._temporary() as (path, descriptor):
            container.write_records(
                descriptor,
                path,
                "artifact",
                schema,
                records,
                lambda count: {**base, "num_records": count, "id": content.hexdigest()},
            )
            return self._shelve(path, content.hexdigest())

    def seal_tensors(
        self, tensors: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> Artifact:
        """Seal named tensors of any dtype and rank; otherwise as `seal`.

        Raises:
            StorageError: the file could not be written; the checkpoints stay.
        """
        from mcis_cli.store import container

        if artifact := self.sealed():
            return self._finish(artifact)
        content = ContentHash(self.recipe.stage, meta, None)
        for name in sorted(tensors):
            content.add_tensor(name, tensors[name])
        listed = [[name, tensors[name].dtype.name, list(tensors[name].shape)] for name in sorted(tensors)]
        manifest = self._manifest(meta, provenance) | {"tensors": listed, "id": content.hexdigest()}
        with self._temporary() as (path, descriptor):
            container.write_tensors(descriptor, path, tensors, manifest)
            return self._shelve(path, content.hexdigest())

    def _records(self, num_segments: int, schema: Schema) -> Iterator[Record]:
        from mcis_cli.store.reader import Reader

        for index in range(num_segments):
            path = self._segment_path(index)
            if not path.exists():
                raise MissingError(
                    f"segment {index} of {num_segments} of {self.folder.name} is not there; "
                    "run the same command again: it does what is left"
                )
            with Reader(path, "segment") as segment:
                if (segment.manifest.get("key"), segment.manifest.get("index")) != (self.recipe.key, index):
                    raise user_block.damaged(path, "it is another segment", f"number {index} of {self.recipe.key[:12]}")
                assert segment.schema == dict(schema), f"segment {index} has schema {segment.schema}"
                yield from segment.records()

    def _manifest(self, meta: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
        recipe = self.recipe.as_dict()
        return {
            "format": FORMAT,
            "stage": recipe.pop("stage"),
            "key": self.recipe.key,
            "recipe": recipe,
            "meta": meta,
            "provenance": {"created": datetime.now(UTC).isoformat(), **provenance},
        }

    def _shelve(self, path: Path, content_id: str) -> Artifact:
        log = self.log_path.read_bytes() if self.log_path.exists() else None
        return self._finish(self._shelf.shelve(path, self.recipe, content_id, log))

    def _finish(self, artifact: Artifact) -> Artifact:
        self.discard()
        return artifact

    def discard(self) -> None:
        """Remove the folder: what it held is sealed, or not wanted."""
        self._known.clear()
        if self.folder.exists():
            for path in sorted(self.folder.iterdir()):
                files.unlink(path)
            files.remove_folder(self.folder)


def _spelled(schema: Schema) -> dict[str, list[str | int]]:
    return {name: [dtype, rank] for name, (dtype, rank) in schema.items()}


def _is_before(line: bytes, step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and not entry.get("step", 0) > step
