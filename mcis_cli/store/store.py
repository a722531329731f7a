"""The folder `.mcis`: which recipes are done, and where their artifacts are.

Whatever is under a final name is whole. Locks only save two processes from doing the same work; two that do it all the
same arrive at the same bytes of content, and the first to link its file wins.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mcis_cli.errors import DamagedError, MissingError, StorageError, UsageError
from mcis_cli.store import files, notes
from mcis_cli.store.artifact import ID_DIGITS, Artifact, file_name
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.locks import Locking, held
from mcis_cli.store.segments import KEY_DIGITS, Begun, Partial, begun_in
from mcis_cli.store.workplace import RECIPE, Workplace

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
    for name in (*FOLDERS, "index.sqlite", "index.sqlite-journal", "index.sqlite-wal"):
        files.refuse_link(root / name)
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
    if root.is_symlink():
        files.sync_folder(root.parent)
    else:
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

    @property
    def scratch_folder(self) -> Path:
        """Where files without a name may be made, for as long as a process lives."""
        return self.root / "tmp"

    # Finding

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe that is done; held, as are those that `get` and `shelve` return.

        Raises:
            DamagedError: it is done, and its file is damaged where a first look can tell.
        """
        done = self.done(recipe.stage, recipe.key)
        if done is None:
            return None  # absent, or damaged: then doing it again mends it
        with suppress(MissingError):
            return _load(self._path(recipe.stage, done.id))
        return None

    def done(self, stage: str, key: str) -> notes.Done | None:
        """What is noted of a recipe that is done, also where its artifact is gone."""
        return notes.parse_done(_read(self.note_path(stage, key)), stage, key)

    def all_done(self) -> Iterator[notes.Done]:
        """What is noted of all recipes that are done, by stage and key; damaged notes are left out."""
        with files.reported("list", self.root / "keys"):
            paths = sorted((self.root / "keys").glob("*/*.json"))
        for path in paths:
            if done := self.done(path.parent.name, path.stem):
                yield done

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
            return _load(path) if os.path.abspath(path.parent) == str(folder) else Artifact(path, held=True)
        if not text:
            raise MissingError(
                "the name of an artifact is empty: the command that should have printed it failed; mcis ls shows what "
                "there is"
            )
        raise MissingError(
            f"there is no artifact {text!r}: no tag, no file, no id that starts so (8 digits or more); "
            "mcis ls shows what there is"
        )

    def _by_prefix(self, prefix: str) -> Artifact:
        paths = sorted((self.root / "artifacts").glob(f"*-{prefix[:ID_DIGITS]}*.h5"))
        found = []
        for path in paths:
            with suppress(MissingError):  # removed meanwhile
                found.append(_load(path))
        found = [artifact for artifact in found if artifact.id.startswith(prefix)]
        if len(found) > 1:
            names = ", ".join(artifact.path.stem for artifact in found)
            raise UsageError(f"the id {prefix} fits {len(found)} artifacts: {names}; give more digits")
        if not found:
            raise MissingError(f"there is no artifact whose id starts with {prefix}; mcis ls shows what there is")
        return found[0]

    def artifacts(self, on_damaged: Callable[[DamagedError], None] | None = None) -> list[Artifact]:
        """All artifacts, newest last. Reads their manifests only, and holds none of them.

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
                with suppress(MissingError):  # removed meanwhile
                    found.append(_load(path, hold=False))
            except DamagedError as error:
                if on_damaged is None:
                    raise
                on_damaged(error)
        return sorted(found, key=lambda artifact: (str(artifact.provenance.get("created", "")), artifact.path.name))

    def _path(self, stage: str, content_id: str) -> Path:
        return self.root / "artifacts" / file_name(stage, content_id)

    def note_path(self, stage: str, key: str) -> Path:
        """Where it is noted that a recipe is done."""
        return self.root / "keys" / stage / f"{key}.json"

    # Tags, and where data sets are

    def tag(self, name: str, artifact: Artifact) -> None:
        """Give an artifact a name; a name that another one had moves.

        Raises:
            UsageError: the name cannot be a tag, or the artifact is in another store.
        """
        if not _TAG.fullmatch(name) or _PREFIX.fullmatch(name) or name.endswith(".h5"):
            raise UsageError(
                f"{name!r} cannot be a tag: letters, digits, dot, dash and underline, up to 100, and it must not look "
                "like an id or a file; give another name"
            )
        if not self._path(artifact.stage, artifact.id).exists():
            raise UsageError(
                f"{artifact.path} cannot be tagged here: it is not in the store {self.root}; mcis merge brings it"
            )
        self.put(self.root / "refs" / name, notes.spell({"id": artifact.id}), overwrite=True)

    def untag(self, name: str) -> None:
        """Take a tag away; the artifact stays.

        Raises:
            MissingError: there is no such tag.
        """
        if not _TAG.fullmatch(name) or not os.path.lexists(self.root / "refs" / name):
            raise MissingError(f"there is no tag {name!r}, it cannot be taken away; mcis tag lists those there are")
        files.unlink(self.root / "refs" / name)
        files.sync_folder(self.root / "refs")

    def tags(self) -> dict[str, str]:
        """Content id of each tag."""
        found = {path.name: notes.parse_reference(_read(path)) for path in sorted((self.root / "refs").iterdir())}
        return {name: content_id for name, content_id in found.items() if content_id is not None}

    def set_location(self, dataset_id: str, location: Mapping[str, Any]) -> None:
        """Note where the folder of a data set is on this machine; what is noted already needs no writing."""
        path, data = self._location_path(dataset_id), notes.spell(location)
        if _read(path) != data:
            self.put(path, data, overwrite=True)
            return
        with suppress(StorageError):  # whoever wrote it may have been killed before that
            files.sync_folder(path.parent)

    def location(self, dataset_id: str) -> dict[str, Any] | None:
        """Where the folder of a data set was last, if that is known."""
        return notes.parse(_read(self._location_path(dataset_id)))

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
        shard: tuple[int, int] | None = None,
    ) -> Iterator[Partial]:
        """The unfinished artifact of a recipe, to go on with.

        Args:
            recipe: What is to be made.
            on_wait: Called once, with the other's process id, before waiting for a process that works on it. After a
                wait, ask `Partial.sealed()` first.
            lock: Whether to wait for another process, to raise, or to work beside it.
            shard: Number, from 1, and count of the shards that work on it side by side; each has a lock of its own.

        Raises:
            BusyError: another process works on it, and `lock` is "fail".
            StorageError: the folder cannot be made.
        """
        name = f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}"
        lock_name = name if shard is None else f"{name}.{shard[0]}-of-{shard[1]}"
        description = notes.spell(recipe.as_dict())

        def describe(path: Path) -> None:
            if _read(path) != description:
                self.put(path, description, overwrite=True)

        with held(self.root / "locks" / lock_name, on_wait, lock):
            self._sweep(name)
            with Workplace(self.root / "partial" / name, describe) as workplace:
                yield Partial(self, recipe, workplace)

    def begun(self, recipe: Recipe) -> Begun | None:
        """How far a recipe is that is not done; None where nothing of it is kept."""
        return begun_in(self.root / "partial" / f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}")

    def unfinished(self) -> dict[Path, Recipe | None]:
        """The folders of work in progress, and what is made in each; None where that is not known."""
        with files.reported("list", self.root / "partial"):
            folders = sorted((self.root / "partial").iterdir())
        return {folder: notes.parse_recipe(notes.parse(_read(folder / RECIPE))) for folder in folders}

    def _sweep(self, owner: str) -> None:
        """Remove the temporary files of an owner that is gone; those of one that is not are held."""
        for path in (self.root / "tmp").glob(f"{owner}.*"):
            with suppress(StorageError), files.claimed(path) as mine:
                if mine:
                    files.unlink(path)

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
        manifest = _manifest(temporary)
        if log is not None:
            self.put(path.with_suffix(".jsonl"), log)
        artifact = _placed(temporary, path)
        if artifact.id != content_id:
            raise StorageError(f"{path} is of another content; move it away and run the same command again")
        files.sync_folder(path.parent)
        self.note(notes.Done(recipe, content_id, manifest["meta"], manifest["provenance"]))
        return artifact

    def note(self, done: notes.Done) -> None:
        """Note that a recipe is done. A note that says the same, perhaps of another machine, stays."""
        stage, key = done.recipe.stage, done.recipe.key
        path = self.note_path(stage, key)
        files.make_folder(path.parent)
        if not self.put(path, done.spell()):
            known = self.done(stage, key)
            if known is None or known.id != done.id:
                self.put(path, done.spell(), overwrite=True)


def _load(path: Path, *, hold: bool = True) -> Artifact:
    """An artifact of the store, which must have the name that its content gives it."""
    artifact = Artifact(path, held=hold)
    if path.name != file_name(artifact.stage, artifact.id):
        raise user_block.damaged(path, f"it is {file_name(artifact.stage, artifact.id)}", "the file of its name")
    return artifact


def _placed(temporary: Path, path: Path) -> Artifact:
    """Give a sealed file its final name, and hold it; what has the name already, and is intact, stays."""
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


def _manifest(path: Path) -> dict[str, Any]:
    descriptor = user_block.open_regular(path)
    try:
        return user_block.read_manifest(descriptor, path, "artifact")
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    """The bytes of a note; none where there is no file, or a thing that is none, which are no note either."""
    try:
        descriptor = user_block.open_regular(path)
    except (MissingError, DamagedError):
        return b""
    try:
        with files.reported("read", path), open(descriptor, "rb", closefd=False) as file:
            return file.read(notes.MAX_BYTES)
    finally:
        os.close(descriptor)
