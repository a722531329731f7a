"""Work in progress: finished segments, checkpoints and the metrics log of one recipe, and their sealing.

The sorted list of images is cut into fixed segments. A finished segment is an immutable file of its own. Its presence
with a correct digest is the record that it is done, so there is no bitmap that a crash could falsify.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcis_cli.errors import DamagedError, MissingError, StorageError
from mcis_cli.store import files, parts
from mcis_cli.store.arithmetic import Arithmetic, Noted, note, noted_in, require_one
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import FORMAT, ContentHash, Recipe, Record, Schema, canonical_json, hashed
from mcis_cli.store.workplace import Workplace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mcis_cli.store.store import Store

SEGMENT_SIZE = 64
KEPT_CHECKPOINTS = 2
LOG = "metrics.jsonl"
MAX_LOG = 2**30  # bytes of a metrics log
KEY_DIGITS = 16


def segments_of(ids: Iterable[str]) -> list[Sequence[str]]:
    """Divide sorted ids into the segments of a stage; nothing else decides which image is in which segment."""
    ordered = sorted(ids)
    assert len(set(ordered)) == len(ordered), "an id is there twice"
    return [tuple(ordered[start : start + SEGMENT_SIZE]) for start in range(0, len(ordered), SEGMENT_SIZE)]


class Partial:
    """The unfinished artifact of one recipe. Made by `Store.begin`.

    Attributes:
        recipe: What is being made.
        folder: `partial/<stage>-<key>/`.
    """

    def __init__(self, store: "Store", recipe: Recipe, workplace: Workplace) -> None:
        self.recipe = recipe
        self.folder = workplace.folder
        self._store = store
        self._workplace = workplace
        self._known: set[int] = set()  # segments that this process has read or written
        self._noted: dict[bytes, Noted] = {}  # their arithmetic

    def sealed(self) -> Artifact | None:
        """The artifact, if another process finished it while this one waited."""
        return self._store.find(self.recipe)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, int]]:
        path = self._store.temporary(self.folder.name)
        with files.temporary(path) as descriptor:
            yield path, descriptor

    # Segments

    def written(self) -> set[int]:
        """The segments of which a file exists, intact or not, from one listing of the folder."""
        with files.reported("list", self.folder), suppress(FileNotFoundError):
            named = (parts.part_named(Path(name)) for name in os.listdir(self.folder))
            return {part[1] for part in named if part is not None and part[0] == "segment"}
        return set()

    def is_written(self, index: int) -> bool:
        """Whether a file of segment `index` exists, intact or not; other shards wait for it."""
        return self._segment_path(index).exists()

    def segment(self, index: int) -> bool:
        """Whether segment `index` exists and is intact; reads all of it once."""
        if index not in self._known:
            manifest = parts.intact_manifest(self._segment_path(index), "segment", self.recipe.key, index)
            if manifest is not None:
                self._know(index, manifest)
        return index in self._known

    def _know(self, index: int, manifest: Mapping[str, Any]) -> None:
        self._known.add(index)
        note(self._noted, index, manifest)

    def write_segment(
        self, index: int, schema: Schema, records: Iterable[Record], arithmetic: Arithmetic | None = None
    ) -> None:
        """Write a segment and wait until it is on the disk; an existing one that is intact stays.

        Args:
            index: Number of the segment in `segments_of`.
            schema: Dtype and rank of each field.
            records: In the order of their ids; streamed, so they may be computed while they are written.
            arithmetic: Facts of the computation that may change bits: threads, instruction set, device.

        Raises:
            StorageError: it could not be written; nothing half-written is left under its name.
        """
        from mcis_cli.store.format import container  # imports h5py, which listing a store does without

        manifest = {"format": FORMAT, "index": index, "key": self.recipe.key, "schema": _as_json(schema)}
        if arithmetic:
            manifest["arithmetic"] = dict(arithmetic)
        with self._temporary() as (path, descriptor):
            container.write_records(
                descriptor, path, "segment", schema, records, lambda count: {**manifest, "num_records": count}
            )
            parts.check_readable(path, "segment")
            self._place(path, self._segment_path(index), "segment", index)
        self._know(index, manifest)

    def claim(self, index: int, *, wait: bool) -> AbstractContextManager[bool]:
        """Claim segment `index` for the block, so that no two processes compute it; see `Workplace.claim`."""
        return self._workplace.claim(index, wait=wait)

    def check_arithmetic(self, arithmetic: Arithmetic) -> None:
        """Check that segments may be computed with this arithmetic beside those that this process has read, and one of
        the others: sealing checks all.

        Raises:
            UsageError: they differ, so no single run leads to such a result.
        """
        found = dict(self._noted)
        for index in sorted(self.written() - self._known):
            if one := noted_in([self._segment_path(index)]):
                found = one | found
                break
        require_one(found, arithmetic)

    def _segment_path(self, index: int) -> Path:
        return self.folder / parts.segment_name(index)

    def _place(self, temporary: Path, target: Path, kind: user_block.Kind, number: int) -> None:
        def place() -> None:
            if not files.link(temporary, target) and not parts.is_intact(target, kind, self.recipe.key, number):
                files.replace(temporary, target)
            files.sync_folder(self.folder)

        self._workplace.do(place)

    # Checkpoints

    def save_checkpoint(self, step: int, payload: bytes) -> None:
        """Write a checkpoint and wait until it is on the disk; then all but the newest two are removed.

        Damaged later ones are removed too, since the training resumed from one before them.

        Raises:
            StorageError: it could not be written; the earlier ones remain.
        """
        with self._temporary() as (path, descriptor):
            manifest = canonical_json({"format": FORMAT, "key": self.recipe.key, "step": step})
            place = user_block.place_of(user_block.SIZE + len(payload), manifest)
            with files.reported("write", path):
                files.write(descriptor, payload, user_block.SIZE)
                files.write(descriptor, manifest, place.offset)
            user_block.seal(descriptor, path, "checkpoint", place)
            self._place(path, self.folder / parts.checkpoint_name(step), "checkpoint", step)
        for later, path in self._checkpoints():
            if later > step and not parts.is_intact(path, "checkpoint", self.recipe.key, later):
                files.unlink(path)
        for _, old in self._checkpoints()[KEPT_CHECKPOINTS:]:
            files.unlink(old)

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """Step and payload of the newest checkpoint that is intact."""
        for step, path in self._checkpoints():
            try:
                descriptor = files.open_regular(path)
            except (MissingError, DamagedError):
                continue
            try:
                parts.check_part(descriptor, path, "checkpoint", self.recipe.key, step)
                block = user_block.read_block(descriptor, path, "checkpoint")
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
        return self.folder / LOG

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        self._workplace.do(lambda: files.append(self.log_path, canonical_json(line) + b"\n"))

    def truncate_log(self, step: int) -> None:
        """Drop the lines of steps after `step`, and torn ones, so that a resumed training appends after them."""
        with suppress(MissingError):
            self._write_log(self.log_path, step)

    def _write_log(self, source: Path, step: int) -> None:
        """Write the log from the lines of another, or of itself, up to those of `step`."""
        kept = parts.lines_until(files.read_regular(source, MAX_LOG), step)
        with self._temporary() as (path, descriptor):
            with files.reported("write", path):
                files.write(descriptor, kept, 0)
            files.sync(descriptor, path)
            files.replace(path, self.log_path)

    # Parts from another store

    def bring(self, source: Path) -> Path | None:
        """Copy a segment that this store lacks, or a checkpoint newer than its own, with the log beside it.

        Args:
            source: a file in the folder of the same recipe in another store.

        Returns:
            The new file; None if the file is something else, or not needed.

        Raises:
            DamagedError: it is not what its name states.
        """
        named = parts.part_named(source)
        if named is None:
            return None
        kind, number = named
        newest = self.load_checkpoint() if kind == "checkpoint" else None
        if self.segment(number) if kind == "segment" else newest is not None and newest[0] >= number:
            return None
        with self._temporary() as (path, descriptor):
            with open(files.open_regular(source), "rb") as file:
                files.copy(file.fileno(), source, descriptor, os.fstat(file.fileno()).st_size)
            files.sync(descriptor, path)
            try:
                parts.check_part(descriptor, path, kind, self.recipe.key, number)
                if kind == "segment":
                    from mcis_cli.store.format.reader import Reader

                    Reader(path, kind).close()
            except DamagedError as error:
                raise DamagedError(str(error).replace(str(path), str(source))) from None
            self._place(path, self.folder / source.name, kind, number)
        log = source.with_name(self.log_path.name)
        if kind == "checkpoint":
            with suppress(MissingError):
                self._write_log(log, number)
        return self.folder / source.name

    # Sealing

    def seal(
        self,
        schema: Schema,
        num_segments: int,
        meta: Mapping[str, Any],
        provenance: Mapping[str, Any],
        observe: Callable[[Record], None] | None = None,
        *,
        mixed: bool = False,
    ) -> Artifact:
        """Pack all segments into one artifact, in bounded memory, and remove them. The first to seal wins.

        Args:
            schema: Dtype and rank of each field; that of every segment.
            num_segments: How many there must be.
            meta: Facts that later stages read beside the records; part of the content id.
            provenance: When, where, how long, with what; part of no hash but the digest. `created` is added.
            observe: Called with each record, to collect facts for `provenance`.
            mixed: Whether segments of different arithmetic may be packed together; `provenance` then lists all.

        Raises:
            UsageError: segments have different arithmetic, and `mixed` is false.
            MissingError: a segment is missing.
            DamagedError: a segment is damaged.
            StorageError: the file could not be written; the segments stay.
        """

        def seal() -> Artifact:
            noted: dict[bytes, Noted] = {}
            records = self.records(num_segments, schema, noted, mixed=mixed)
            return self._seal_records(schema, _observed(records, observe), self._settled(meta), provenance, noted)

        return self._first(seal)

    def _seal_records(
        self,
        schema: Schema,
        records: Iterator[Record],
        meta: Mapping[str, Any],
        provenance: Mapping[str, Any],
        noted: Mapping[bytes, Noted],
    ) -> Artifact:
        from mcis_cli.store.format import container

        content = ContentHash(self.recipe.stage, meta, schema)
        records = hashed(content, records)

        def manifest(count: int) -> dict[str, Any]:
            used = {"arithmetic": [one for _, one in noted.values()]} if len(noted) > 1 else {}
            base = self._manifest(meta, {**provenance, **used}) | {"schema": _as_json(schema)}
            return {**base, "num_records": count, "id": content.hexdigest()}

        with self._temporary() as (path, descriptor):
            container.write_records(descriptor, path, "artifact", schema, records, manifest)
            parts.check_readable(path, "artifact")
            return self._shelve(path, content.hexdigest())

    def seal_tensors(
        self, tensors: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> Artifact:
        """Seal named tensors of any dtype and rank; otherwise as `seal`.

        Raises:
            StorageError: the file could not be written; the checkpoints stay.
        """
        return self._first(lambda: self._seal_tensors(tensors, self._settled(meta), provenance))

    def _seal_tensors(
        self, tensors: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> Artifact:
        from mcis_cli.store.format import container

        content = ContentHash(self.recipe.stage, meta, None)
        for name in sorted(tensors):
            content.add_tensor(name, tensors[name])
        listed = [[name, tensors[name].dtype.name, list(tensors[name].shape)] for name in sorted(tensors)]
        manifest = self._manifest(meta, provenance) | {"tensors": listed, "id": content.hexdigest()}
        with self._temporary() as (path, descriptor):
            container.write_tensors(descriptor, path, tensors, manifest)
            parts.check_readable(path, "artifact")
            return self._shelve(path, content.hexdigest())

    def _first(self, seal: Callable[[], Artifact]) -> Artifact:
        """Seal, or use the artifact that another process has sealed meanwhile."""
        if artifact := self.sealed():
            return self._finish(artifact)
        try:
            return self._finish(seal())
        except (MissingError, DamagedError, StorageError):  # its segments may be gone because they are sealed
            if artifact := self.sealed():
                return self._finish(artifact)
            raise

    def records(
        self, num_segments: int, schema: Schema, noted: dict[bytes, Noted] | None = None, *, mixed: bool = True
    ) -> Iterator[Record]:
        """The records of all segments, streamed; each segment is read once.

        Args:
            num_segments: How many there must be.
            schema: Dtype and rank of each field; that of every segment.
            noted: Filled with their arithmetic.
            mixed: Whether it may differ.

        Raises:
            UsageError: it differs, and `mixed` is false.
            MissingError: a segment is missing.
            DamagedError: a segment is damaged.
        """
        from mcis_cli.store.format.reader import Reader

        noted = {} if noted is None else noted
        for index in range(num_segments):
            path = self._segment_path(index)
            try:
                reader = Reader(path, "segment")
            except MissingError:
                raise MissingError(
                    f"segment {index} of {num_segments} of {self.folder.name} is not there; "
                    "run the same command again: it does what is left"
                ) from None
            with reader as segment:
                if (segment.manifest.get("key"), segment.manifest.get("index")) != (self.recipe.key, index):
                    raise files.damaged(path, "it is another segment", f"number {index} of {self.recipe.key[:12]}")
                assert segment.schema == dict(schema), f"segment {index} has schema {segment.schema}"
                note(noted, index, segment.manifest)
                if not mixed:
                    require_one(noted)
                yield from segment.records()

    def _settled(self, meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """The meta that this recipe had before, if its lost artifact is made again. The meta names things outside the
        recipe (the whole data set, a file of weights), and a recipe must keep its content id."""
        before = self._store.done(self.recipe.stage, self.recipe.key)
        return meta if before is None else before.meta

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
        log = None
        with suppress(MissingError):
            log = files.read_regular(self.log_path, MAX_LOG)
        return self._store.shelve(path, self.recipe, content_id, log)

    def _finish(self, artifact: Artifact) -> Artifact:
        self.discard()
        return artifact

    def discard(self) -> None:
        """Remove the folder, whose work is sealed or not needed."""
        self._known.clear()
        self._noted.clear()
        self._workplace.clear()


def _observed(records: Iterator[Record], observe: Callable[[Record], None] | None) -> Iterator[Record]:
    for record in records:
        if observe is not None:
            observe(record)
        yield record


def _as_json(schema: Schema) -> dict[str, list[str | int]]:
    return {name: [dtype, rank] for name, (dtype, rank) in schema.items()}
