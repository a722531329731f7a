"""A sealed result: its manifest at once, its records or tensors after its digest has been checked."""

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcis_cli.errors import DamagedError, McisError, MissingError
from mcis_cli.store import files
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import ContentHash, Record
from mcis_cli.store.format.manifests import check_manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mcis_cli.store.format.reader import Reader

ID_DIGITS = 12
_STAGE = re.compile(r"[a-z][a-z-]{0,40}")


def file_name(stage: str, content_id: str) -> str:
    """Name of an artifact's file in the store."""
    return f"{stage}-{content_id[:ID_DIGITS]}.h5"


class Artifact:
    """One sealed file. The manifest is read at once; the data's digest is checked at the first access, once.

    A file that is held is not removed by `mcis gc` until the artifact is closed, or nobody has it any more.

    Attributes:
        path: The file.
        manifest: All facts about the artifact; see docs/reference/artifact-format.md.
    """

    def __init__(self, path: Path, *, held: bool = False) -> None:
        """Read the manifest of the file at `path`, and hold the file if `held` is set.

        Raises:
            MissingError: there is no such file.
            DamagedError: it is not an artifact, or its block or manifest is damaged.
        """
        self.path = path
        descriptor = files.open_regular(path)
        self._let_go = weakref.finalize(self, os.close, descriptor)
        try:
            if held:
                files.hold(descriptor)
                if not os.fstat(descriptor).st_nlink:
                    raise MissingError(f"{path} was removed just now; mcis ls lists the artifacts of the store")
            self.manifest = user_block.read_manifest(descriptor, path, "artifact")
            check_manifest(self.manifest, path)
        except McisError:
            held = False
            raise
        finally:
            if not held:
                self._let_go()
        self._lock = threading.Lock()
        self._open: Reader | None = None

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r})"

    def __reduce__(self) -> "tuple[Callable[[Path], Artifact], tuple[Path]]":
        """By its path, for a process that sees the same files; it is held there, too."""
        return _held, (self.path.absolute(),)

    @property
    def id(self) -> str:
        """Content id, 64 hexadecimal digits."""
        return str(self.manifest["id"])

    @property
    def stage(self) -> str:
        """Name of the stage that made it."""
        return str(self.manifest["stage"])

    @property
    def key(self) -> str:
        """Key of the recipe that made it first."""
        return str(self.manifest["key"])

    @property
    def meta(self) -> dict[str, Any]:
        """Facts that later stages read beside the records; part of the content id."""
        meta: dict[str, Any] = self.manifest["meta"]
        return meta

    @property
    def inputs(self) -> dict[str, str]:
        """Content ids of its inputs, by role."""
        return dict(self.manifest["recipe"].get("inputs", {}))

    @property
    def provenance(self) -> dict[str, Any]:
        """When, where, and with what it was made; not part of the content id."""
        return dict(self.manifest.get("provenance", {}))

    @property
    def log_path(self) -> Path:
        """Where the metrics log is, if the stage kept one: JSON, one object a line."""
        return self.path.with_suffix(".jsonl")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the records, sorted; none if the artifact has tensors."""
        return self._reader().ids

    def __len__(self) -> int:
        """Number of records."""
        return int(self.manifest.get("num_records") or 0)

    def __bool__(self) -> bool:
        """Always true, also without records, so that `if store.find(recipe)` means that there is one."""
        return True

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._reader()

    def read(self, image_id: str) -> "dict[str, NDArray[Any]]":
        """The fields of one record, as new arrays.

        Raises:
            MissingError: there is no record of that id.
            DamagedError: the file is not what was sealed.
        """
        if image_id not in self:
            raise MissingError(f"{self.path} has no record of {image_id!r}, it has {len(self)} others; see mcis show")
        return self._reader().read(image_id)

    def records(self) -> "Iterator[Record]":
        """All records in the order of their ids, streamed."""
        return self._reader().records()

    def tensors(self) -> "dict[str, NDArray[Any]]":
        """All tensors by name; none if the artifact has records."""
        return self._reader().tensors()

    def content_id(self) -> str:
        """The content id recomputed from the data; if it differs from `id`, a faulty program made the file."""
        reader = self._reader()
        schema = reader.schema if self.manifest.get("schema") is not None else None
        content = ContentHash(self.stage, self.meta, schema)
        for image_id, fields in reader.records():
            content.add(image_id, fields)
        for name, tensor in reader.tensors().items():
            content.add_tensor(name, tensor)
        return content.hexdigest()

    def _reader(self) -> "Reader":
        # h5py is imported only here, so that listing a store is quick
        from mcis_cli.store.format.reader import Reader

        with self._lock:
            if self._open is None:
                reader = Reader(self.path, "artifact")
                if reader.manifest != self.manifest:
                    reader.close()
                    raise files.damaged(self.path, "it has two manifests", "the one that its user block names")
                self._open = reader
            return self._open

    def check(self) -> None:
        """Check the digest and the structure of the file, as the first access to its data does.

        Raises:
            DamagedError: the file is not what was sealed, or has a structure that no artifact has.
        """
        self._reader()

    def is_intact(self) -> bool:
        """Whether the file still has the digest that it was sealed with; reads all of it."""
        try:
            descriptor = files.open_regular(self.path)
            try:
                user_block.verify(descriptor, self.path, "artifact")
            finally:
                os.close(descriptor)
        except (DamagedError, MissingError):
            return False
        return True

    def close(self) -> None:
        """Close and release the file; a later access opens and checks it again."""
        self._let_go()
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def __enter__(self) -> "Artifact":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _held(path: Path) -> Artifact:
    return Artifact(path, held=True)


def load(path: Path, *, hold: bool = True) -> Artifact:
    """Load an artifact of a store, whose file must have the name that its content gives it.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is not an artifact, is damaged in its first bytes or manifest, or has the name of another.
    """
    artifact = Artifact(path, held=hold)
    if path.name != file_name(artifact.stage, artifact.id):
        raise files.damaged(path, f"it is {file_name(artifact.stage, artifact.id)}", "the file of its name")
    return artifact


def newest_of(folder: Path, stage: str) -> Path | None:
    """The file of the newest artifact of a stage in a folder of artifacts; None if there is none."""
    newest: tuple[int, Path] | None = None
    for path in folder.glob(f"{stage}-{'[0-9a-f]' * ID_DIGITS}.h5") if _STAGE.fullmatch(stage) else ():
        with suppress(FileNotFoundError):  # removed meanwhile
            found = path.lstat().st_mtime_ns, path
            newest = found if newest is None else max(newest, found)
    return None if newest is None else newest[1]


def placed(temporary: Path, path: Path) -> Artifact:
    """Give a sealed file its final name, and hold it; an existing intact file of that name stays."""
    while not files.link(temporary, path):
        try:
            existing = Artifact(path, held=True)
        except MissingError:  # removed meanwhile
            continue
        except DamagedError:
            existing = None
        if existing is not None and existing.is_intact():
            return existing
        files.replace(temporary, path)
        break
    return Artifact(path, held=True)
