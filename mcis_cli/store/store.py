"""The folder `.mcis`: which recipes are done, and where their artifacts are.

Whatever is under a final name is whole. Locks only save two processes from doing the same work; two that do it all the
same arrive at the same bytes of content, and the first to link its file wins.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mcis_cli.errors import DamagedError, MissingError, StorageError, UsageError
from mcis_cli.store import files, user_block
from mcis_cli.store.artifact import ID_DIGITS, Artifact, file_name
from mcis_cli.store.identity import Recipe, canonical_json
from mcis_cli.store.locks import Locking, held
from mcis_cli.store.segments import KEY_DIGITS, Partial

FOLDERS = ("artifacts", "keys", "partial", "refs", "locations", "locks", "tmp")
_FILES = (".gitignore", "format")
_FORMAT = b"mcis store 1\n"
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def open_store(path: Path | str, create: bool = True) -> "Store":
    """Open the store in the folder `path`, by custom `.mcis`, and make it where there is none.

    Raises:
        MissingError: there is none, and `create` is false.
        UsageError: the folder has something else in it, or is a store of a newer mcis.
        StorageError: it cannot be made, or read.
    """
    root = Path(os.path.abspath(path))
    with files.reported("read", root):
        exists = (root / "format").exists()
    if not exists and not create:
        raise MissingError(f"there is no store at {root}; --store FOLDER names another, any stage makes one")
    if not exists:
        _make(root)
    with files.reported("read", root / "format"):
        found = (root / "format").read_bytes()
    if found != _FORMAT:
        raise UsageError(
            f"the store {root} has format {found[:40]!r}, expected {_FORMAT!r}; pip install --upgrade mcis, "
            "or --store FOLDER"
        )
    return Store(root)


def _make(root: Path) -> None:
    """Make the folders, and last the file that says that all of them are there."""
    with files.reported("make the folder", root):
        names = [path.name for path in root.iterdir()] if root.exists() else []
    strange = sorted({name for name in names if not name.startswith("index.sqlite")} - {*FOLDERS, *_FILES})
    if strange:
        raise UsageError(f"{root} is no store: it has {strange[0]!r}; --store FOLDER names an empty or a new folder")
    for parent in reversed(root.parents):
        if not parent.exists():
            files.make_folder(parent)
    files.make_folder(root)
    for name in FOLDERS:
        files.make_folder(root / name)
    store = Store(root)
    store.put(root / ".gitignore", b"*\n")
    store.put(root / "format", _FORMAT)


class Store:
    """A store that exists. Use `open_store`.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def index_path(self) -> Path:
        """Where the stat cache is kept; may be deleted at any time."""
        return self.root / "index.sqlite"

    # Finding

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe that is done.

        Raises:
            DamagedError: it is done, and its file is damaged where a first look can tell.
        """
        entry = _read_json(self._key_path(recipe))
        if entry.get("key") != recipe.key or not _PREFIX.fullmatch(str(entry.get("id"))):
            return None  # absent, or damaged: then doing it again mends it
        with suppress(MissingError):
            return _load(self._path(recipe.stage, entry["id"]))
        return None

    def get(self, ref: str | Path) -> Artifact:
        """An artifact by tag, by 8 or more digits of its id, by the name of its file, or by path.

        Raises:
            MissingError: there is none.
            UsageError: the digits fit several.
            DamagedError: the file is damaged where a first look can tell.
        """
        text = str(ref)
        if _TAG.fullmatch(text) and (content_id := self.tags().get(text)):
            text = content_id
        if _PREFIX.fullmatch(text):
            return self._by_prefix(text)
        folder, path = self.root / "artifacts", Path(text)
        for name in (text, f"{text}.h5") if path.name == text else ():
            if os.path.isfile(folder / name):
                return _load(folder / name)
        if os.path.isfile(path):
            return _load(path) if os.path.abspath(path.parent) == str(folder) else Artifact(path)
        raise MissingError(
            f"there is no artifact {text!r}: no tag, no file, no id that starts so (8 digits or more); "
            "mcis ls shows what there is"
        )

    def _by_prefix(self, prefix: str) -> Artifact:
        paths = sorted((self.root / "artifacts").glob(f"*-{prefix[:ID_DIGITS]}*.h5"))
        found = [artifact for artifact in map(_load, paths) if artifact.id.startswith(prefix)]
        if len(found) > 1:
            names = ", ".join(artifact.path.stem for artifact in found)
            raise UsageError(f"the id {prefix} fits {len(found)} artifacts: {names}; give more digits")
        if not found:
            raise MissingError(f"there is no artifact whose id starts with {prefix}; mcis ls shows what there is")
        return found[0]

    def artifacts(self, on_damaged: Callable[[DamagedError], None] | None = None) -> list[Artifact]:
        """All artifacts, newest last. Reads their manifests only.

        Args:
            on_damaged: Called for each file that is damaged where a first look can tell; without it, the first raises.

        Raises:
            DamagedError: a file is damaged, and `on_damaged` is not given.
        """
        with files.reported("list", self.root / "artifacts"):
            paths = list((self.root / "artifacts").glob("*.h5"))
        found = []
        for path in paths:
            try:
                found.append(_load(path))
            except DamagedError as error:
                if on_damaged is None:
                    raise
                on_damaged(error)
        return sorted(found, key=lambda artifact: (str(artifact.provenance.get("created", "")), artifact.path.name))

    def _path(self, stage: str, content_id: str) -> Path:
        return self.root / "artifacts" / file_name(stage, content_id)

    def _key_path(self, recipe: Recipe) -> Path:
        return self.root / "keys" / recipe.stage / f"{recipe.key}.json"

    # Tags, and where data sets are

    def tag(self, name: str, artifact: Artifact) -> None:
        """Give an artifact a name; a name that another one had moves.

        Raises:
            UsageError: the name cannot be a tag.
        """
        if not _TAG.fullmatch(name) or _PREFIX.fullmatch(name) or name.endswith(".h5"):
            raise UsageError(
                f"{name!r} cannot be a tag: letters, digits, dot, dash and underline, up to 100, and it must not look "
                "like an id or a file; give another name"
            )
        self.put(self.root / "refs" / name, canonical_json({"id": artifact.id}), overwrite=True)

    def tags(self) -> dict[str, str]:
        """Content id of each tag."""
        entries = {path.name: _read_json(path).get("id") for path in sorted((self.root / "refs").iterdir())}
        return {name: content_id for name, content_id in entries.items() if isinstance(content_id, str)}

    def set_location(self, dataset_id: str, location: Mapping[str, Any]) -> None:
        """Note where the folder of a data set is on this machine."""
        self.put(self._location_path(dataset_id), canonical_json(location), overwrite=True)

    def location(self, dataset_id: str) -> dict[str, Any] | None:
        """Where the folder of a data set was last, if that is known."""
        return _read_json(self._location_path(dataset_id)) or None

    def _location_path(self, dataset_id: str) -> Path:
        assert _PREFIX.fullmatch(dataset_id), f"{dataset_id!r} is no id"
        return self.root / "locations" / f"{dataset_id}.json"

    # Work in progress

    @contextmanager
    def begin(
        self,
        recipe: Recipe,
        on_wait: Callable[[int], None] | None = None,
        *,
        lock: Locking = "wait",
    ) -> Iterator[Partial]:
        """The unfinished artifact of a recipe, to go on with.

        Args:
            recipe: What is to be made.
            on_wait: Called once, with the other's process id, before waiting for a process that works on it. After a
                wait, ask `Partial.sealed()` first.
            lock: Whether to wait for another process, to raise, or to work beside it.

        Raises:
            BusyError: another process works on it, and `lock` is "fail".
            StorageError: the folder cannot be made.
        """
        name = f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}"
        with held(self.root / "locks" / name, on_wait, lock):
            if lock != "none":  # whoever left these is gone
                for path in (self.root / "tmp").glob(f"{name}.*"):
                    files.unlink(path)
            folder = self.root / "partial" / name
            files.make_folder(folder)
            partial = Partial(self, recipe, folder)
            try:
                yield partial
            finally:
                with suppress(StorageError):  # where nothing is in it; not worth an error of its own
                    files.remove_folder(folder)

    def temporary(self, owner: str) -> Path:
        """A new name in `tmp/`."""
        return self.root / "tmp" / f"{owner}.{os.getpid()}-{secrets.token_hex(4)}"

    def put(self, path: Path, data: bytes, *, overwrite: bool = False) -> bool:
        """Write a small file in one step. Returns False where there is one already, and it is to stay."""
        temporary = self.temporary("put")
        with files.temporary(temporary) as descriptor:
            with files.reported("write", path):
                files.write(descriptor, data, 0)
            files.sync(descriptor, temporary)
            if overwrite:
                files.replace(temporary, path)
            done = overwrite or files.link(temporary, path)
            files.sync_folder(path.parent)
        return done

    def shelve(self, temporary: Path, recipe: Recipe, content_id: str, log: bytes | None) -> Artifact:
        """Give a sealed temporary file its final name, its log one beside it, and note that the recipe is done."""
        path = self._path(recipe.stage, content_id)
        if log is not None:
            self.put(path.with_suffix(".jsonl"), log)
        if not files.link(temporary, path):
            existing = _artifact_or_none(path)
            if existing is not None and existing.is_intact():
                if existing.id != content_id:
                    raise StorageError(f"{path} is of another content; move it away and run the same command again")
            else:
                files.replace(temporary, path)
        files.sync_folder(path.parent)
        self._note(recipe, content_id)
        return Artifact(path)

    def _note(self, recipe: Recipe, content_id: str) -> None:
        entry = {"id": content_id, "key": recipe.key, "artifact": file_name(recipe.stage, content_id)}
        files.make_folder(self._key_path(recipe).parent)
        if not self.put(self._key_path(recipe), canonical_json(entry)) and _read_json(self._key_path(recipe)) != entry:
            self.put(self._key_path(recipe), canonical_json(entry), overwrite=True)


def _load(path: Path) -> Artifact:
    """An artifact of the store, which must have the name that its content gives it."""
    artifact = Artifact(path)
    if path.name != file_name(artifact.stage, artifact.id):
        raise user_block.damaged(path, f"it is {file_name(artifact.stage, artifact.id)}", "the file of its name")
    return artifact


def _artifact_or_none(path: Path) -> Artifact | None:
    try:
        return Artifact(path)
    except (DamagedError, MissingError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; empty where it is absent or damaged, which is the same to all who ask."""
    try:
        entry = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise files.storage_error("read", path, error) from error
    return entry if isinstance(entry, dict) else {}
