"""Work in progress: finished segments, checkpoints and the metrics log of one recipe, and their sealing.

The sorted list of images is cut into fixed segments. A finished segment is an immutable file of its own, and its
presence with a good digest is the record that it is done: there is no bitmap that a crash could turn into a lie.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mcis_cli.errors import DamagedError, MissingError, StorageError, UsageError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import FORMAT, ContentHash, Recipe, Record, Schema, canonical_json, hashed
from mcis_cli.store.notes import Done
from mcis_cli.store.workplace import Workplace

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEGMENT_SIZE = 64
KEPT_CHECKPOINTS = 2
LOG = "metrics.jsonl"
Arithmetic = Mapping[str, str | int]
MAX_LOG = 2**30  # bytes of a metrics log
KEY_DIGITS = 16
_PART = re.compile(r"segment-([0-9]{6})\.h5|checkpoint-([0-9]{12})\.ckpt")


def segments_of(ids: Iterable[str]) -> list[Sequence[str]]:
    """Cut ids, sorted, into the segments that a stage works on; nothing else decides which image is in which."""
    ordered = sorted(ids)
    assert len(set(ordered)) == len(ordered), "an id is there twice"
    return [tuple(ordered[start : start + SEGMENT_SIZE]) for start in range(0, len(ordered), SEGMENT_SIZE)]


@dataclass(frozen=True)
class Begun:
    """How far unfinished work is, by the names of its files: segments that are there, newest checkpoint's step."""

    num_segments: int
    step: int | None


def begun_in(folder: Path) -> Begun | None:
    """How far the work in a folder of `partial/` is; None where nothing is kept yet."""
    num_segments = sum(1 for _ in folder.glob("segment-*.h5"))
    steps = [int(path.stem[11:]) for path in folder.glob("checkpoint-*.ckpt") if path.stem[11:].isdecimal()]
    return Begun(num_segments, max(steps, default=None)) if num_segments or steps else None


class Shelf(Protocol):
    """What sealing asks of the store."""

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe."""

    def done(self, stage: str, key: str) -> Done | None:
        """What is noted of a recipe that was done before."""

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

    def __init__(self, shelf: Shelf, recipe: Recipe, workplace: Workplace) -> None:
        self.recipe = recipe
        self.folder = workplace.folder
        self._shelf = shelf
        self._workplace = workplace
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

    def is_written(self, index: int) -> bool:
        """Whether there is a file of segment `index`, intact or not: what other shards wait for."""
        return self._segment_path(index).exists()

    def segment(self, index: int) -> bool:
        """Whether segment `index` is there and intact; reads all of it once."""
        if index not in self._known and self._is_intact(self._segment_path(index), "segment", index):
            self._known.add(index)
        return index in self._known

    def write_segment(
        self, index: int, schema: Schema, records: Iterable[Record], arithmetic: Arithmetic | None = None
    ) -> None:
        """Write a segment and wait until it is on the disk; one that is there already, and intact, stays.

        Args:
            index: Number of the segment in `segments_of`.
            schema: Dtype and rank of each field.
            records: In the order of their ids; streamed, so they may be computed while they are written.
            arithmetic: What the segment is computed with that may change bits: threads, instruction set, device.

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
            _check_readable(path, "segment")
            self._place(path, self._segment_path(index), "segment", index)
        self._known.add(index)

    def check_arithmetic(self, arithmetic: Arithmetic | None = None, num_segments: int | None = None) -> None:
        """Check that all segments that are there were computed with the same arithmetic, and with this, if given.

        Raises:
            UsageError: they were not: no single run leads to such a result.
        """
        found = self._arithmetics(num_segments)
        if arithmetic is not None:
            found.setdefault(canonical_json(arithmetic), (None, arithmetic))
        if len(found) > 1:
            (one, with_one), (other, with_other) = list(found.values())[:2]
            now = "the rest would be" if other is None else f"segment {other}"
            raise UsageError(
                f"segment {one} was computed with {_in_words(with_one)}, and {now} with {_in_words(with_other)}, which "
                "may change bits; compute all with the same (OMP_NUM_THREADS=N), begin anew after `mcis gc --partial "
                "--delete`, or allow the mixture with MCIS_MIXED=1"
            )

    def _arithmetics(self, num_segments: int | None) -> dict[bytes, tuple[int | None, Arithmetic]]:
        """What segments that are there were computed with, each once, with the number of the first; by its JSON."""
        paths = (
            sorted(self.folder.glob("segment-*.h5"))
            if num_segments is None
            else map(self._segment_path, range(num_segments))
        )
        found: dict[bytes, tuple[int | None, Arithmetic]] = {}
        for path in paths:
            with suppress(MissingError, DamagedError, ValueError):
                with open(files.open_regular(path), "rb") as file:
                    manifest = user_block.read_manifest(file.fileno(), path, "segment")
                noted = manifest.get("arithmetic", {})
                found.setdefault(canonical_json(noted), (int(path.stem[8:]), noted))
        return found

    def _segment_path(self, index: int) -> Path:
        return self.folder / f"segment-{index:06d}.h5"

    def _place(self, temporary: Path, target: Path, kind: user_block.Kind, number: int) -> None:
        def place() -> None:
            if not files.link(temporary, target) and not self._is_intact(target, kind, number):
                files.replace(temporary, target)
            files.sync_folder(self.folder)

        self._workplace.do(place)

    def _is_intact(self, path: Path, kind: user_block.Kind, number: int) -> bool:
        try:
            descriptor = files.open_regular(path)
        except (MissingError, DamagedError):
            return False
        try:
            check_part(descriptor, path, kind, self.recipe.key, number)
        except DamagedError:
            return False
        finally:
            os.close(descriptor)
        return True

    # Checkpoints

    def save_checkpoint(self, step: int, payload: bytes) -> None:
        """Write a checkpoint and wait until it is on the disk; then all but the newest two are removed.

        Later ones that are damaged are removed too: the training went on from one before them.

        Raises:
            StorageError: it could not be written; the ones before are still there.
        """
        with self._temporary() as (path, descriptor):
            manifest = canonical_json({"format": FORMAT, "key": self.recipe.key, "step": step})
            place = user_block.place_of(user_block.SIZE + len(payload), manifest)
            with files.reported("write", path):
                files.write(descriptor, payload, user_block.SIZE)
                files.write(descriptor, manifest, place.offset)
            user_block.seal(descriptor, path, "checkpoint", place)
            self._place(path, self.folder / f"checkpoint-{step:012d}.ckpt", "checkpoint", step)
        for later, path in self._checkpoints():
            if later > step and not self._is_intact(path, "checkpoint", later):
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
                block = check_part(descriptor, path, "checkpoint", self.recipe.key, step)
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
        """Drop the lines of steps after `step`, and torn ones, so that a resumed training goes on from there."""
        with suppress(MissingError):
            self._write_log(self.log_path, step)

    def _write_log(self, source: Path, step: int) -> None:
        """Make a log of the lines of another, or of the own, up to those of `step`."""
        lines = files.read_regular(source, MAX_LOG).splitlines(keepends=True)
        kept = [line for line in lines if _is_before(line, step)]
        with self._temporary() as (path, descriptor):
            with files.reported("write", path):
                files.write(descriptor, b"".join(kept), 0)
            files.sync(descriptor, path)
            files.replace(path, self.log_path)

    # Parts from another store

    def bring(self, source: Path) -> Path | None:
        """Take in a segment that is not here, or a checkpoint newer than those here, with the log beside it.

        Args:
            source: a file in the folder of the same recipe in another store.

        Returns:
            The new file; None where the file is something else, or not needed.

        Raises:
            DamagedError: it is not what its name says.
        """
        match = _PART.fullmatch(source.name)
        if match is None:
            return None
        number = int(match[1] or match[2])
        kind: user_block.Kind = "segment" if match[1] else "checkpoint"
        newest = self.load_checkpoint() if kind == "checkpoint" else None
        if self.segment(number) if kind == "segment" else newest is not None and newest[0] >= number:
            return None
        with self._temporary() as (path, descriptor):
            with open(files.open_regular(source), "rb") as file:
                files.copy(file.fileno(), source, descriptor, os.fstat(file.fileno()).st_size)
            files.sync(descriptor, path)
            try:
                check_part(descriptor, path, kind, self.recipe.key, number)
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
            meta: What the stages after it read beside the records; hashed into the content id.
            provenance: When, where, how long, with what; hashed into nothing. `created` is added.
            observe: Called with each record on its way, for what `provenance` is to say of them.
            mixed: Whether segments of different arithmetic may be packed together; `provenance` then lists all.

        Raises:
            UsageError: segments have different arithmetic, and `mixed` is false.
            MissingError: a segment is not there.
            DamagedError: a segment is damaged.
            StorageError: the file could not be written; the segments stay.
        """

        def seal() -> Artifact:
            if not mixed:
                self.check_arithmetic(num_segments=num_segments)
            used = [arithmetic for _, arithmetic in self._arithmetics(num_segments).values()]
            noted = {**provenance, "arithmetic": used} if len(used) > 1 else provenance
            return self._seal_records(schema, num_segments, self._settled(meta), noted, observe)

        return self._first(seal)

    def _seal_records(
        self,
        schema: Schema,
        num_segments: int,
        meta: Mapping[str, Any],
        provenance: Mapping[str, Any],
        observe: Callable[[Record], None] | None,
    ) -> Artifact:
        from mcis_cli.store.format import container

        content = ContentHash(self.recipe.stage, meta, schema)
        records = hashed(content, _observed(self._records(num_segments, schema), observe))

        def manifest(count: int) -> dict[str, Any]:
            base = self._manifest(meta, provenance) | {"schema": _as_json(schema)}
            return {**base, "num_records": count, "id": content.hexdigest()}

        with self._temporary() as (path, descriptor):
            container.write_records(descriptor, path, "artifact", schema, records, manifest)
            _check_readable(path, "artifact")
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
            _check_readable(path, "artifact")
            return self._shelve(path, content.hexdigest())

    def _first(self, seal: Callable[[], Artifact]) -> Artifact:
        """Seal, or finish with what another process has sealed, before or while this one tried."""
        if artifact := self.sealed():
            return self._finish(artifact)
        try:
            return self._finish(seal())
        except (MissingError, DamagedError, StorageError):  # its segments may be gone because they are sealed
            if artifact := self.sealed():
                return self._finish(artifact)
            raise

    def _records(self, num_segments: int, schema: Schema) -> Iterator[Record]:
        from mcis_cli.store.format.reader import Reader

        for index in range(num_segments):
            path = self._segment_path(index)
            if not path.exists():
                raise MissingError(
                    f"segment {index} of {num_segments} of {self.folder.name} is not there; "
                    "run the same command again: it does what is left"
                )
            with Reader(path, "segment") as segment:
                if (segment.manifest.get("key"), segment.manifest.get("index")) != (self.recipe.key, index):
                    raise files.damaged(path, "it is another segment", f"number {index} of {self.recipe.key[:12]}")
                assert segment.schema == dict(schema), f"segment {index} has schema {segment.schema}"
                yield from segment.records()

    def _settled(self, meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """The meta that this recipe had before, where its artifact was lost and is made again: it names what is no
        part of the recipe (the whole data set, a file of weights), and one recipe has one content id."""
        before = self._shelf.done(self.recipe.stage, self.recipe.key)
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
        return self._shelf.shelve(path, self.recipe, content_id, log)

    def _finish(self, artifact: Artifact) -> Artifact:
        self.discard()
        return artifact

    def discard(self) -> None:
        """Remove the folder: what it held is sealed, or not wanted."""
        self._known.clear()
        self._workplace.clear()


def _check_readable(path: Path, kind: user_block.Kind) -> None:
    """Run the checks of a reader on a file before it gets a name: what could not be read is not sealed.

    Raises:
        UsageError: it has more, or longer, entries than a file of this format can have.
    """
    from mcis_cli.store.format.reader import Reader

    try:
        if kind == "artifact":
            Artifact(path).close()
        Reader(path, kind, is_new=True).close()
    except DamagedError as error:
        fault = str(error).removeprefix(f"{path} is damaged: ").removesuffix(f"; {files.REMEDY}")
        raise UsageError(f"what was computed cannot be sealed: {fault}; use fewer or smaller images") from error


def check_part(descriptor: int, path: Path, kind: user_block.Kind, key: str, number: int) -> user_block.Block:
    """Check the digest of a segment or checkpoint, and that it is the one that its name and folder promise.

    Args:
        descriptor: the open file.
        path: its name, for the message.
        kind: what it should be.
        key: of the recipe, or how that begins.
        number: of the segment, or the checkpoint's step.

    Raises:
        DamagedError: it is not.
    """
    block = user_block.verify(descriptor, path, kind)
    manifest = user_block.read_manifest(descriptor, path, kind)
    found, where = str(manifest.get("key")), "index" if kind == "segment" else "step"
    if not found.startswith(key) or manifest.get(where) != number:
        raise files.damaged(path, f"it is {where} {manifest.get(where)} of {found[:12]}", f"{number} of {key[:12]}")
    return block


def _observed(records: Iterator[Record], observe: Callable[[Record], None] | None) -> Iterator[Record]:
    for record in records:
        if observe is not None:
            observe(record)
        yield record


def _in_words(arithmetic: Arithmetic) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(arithmetic.items())) or "something that is not noted"


def _as_json(schema: Schema) -> dict[str, list[str | int]]:
    return {name: [dtype, rank] for name, (dtype, rank) in schema.items()}


def _is_before(line: bytes, step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and not entry.get("step", 0) > step
