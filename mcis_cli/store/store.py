"""The folder `.mcis`: which recipes are done, and where their artifacts are.

Every file under a final name is whole. Locks only save two processes from doing the same work; two that do so anyway
get the same content, and the first to link its file wins.
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
from mcis_cli.store.artifact import ID_DIGITS, Artifact, file_name, load, newest_of, placed
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.locks import Locking, held
from mcis_cli.store.segments import KEY_DIGITS, Partial
from mcis_cli.store.workplace import RECIPE, Begun, Workplace, begun_in, clear_unheld

FOLDERS = ("artifacts", "keys", "partial", "refs", "locations", "locks", "tmp")
_FILES = (".gitignore", "format", "facts")
_FORMAT = b"mcis store 1\n"
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_SHORT = re.compile(r"(?P<stage>[a-z][a-z-]{0,40})-(?P<digits>[0-9a-f]{8,64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def open_store(path: Path | str, create: bool = True, *, warn: Callable[[str], None] = lambda text: None) -> "Store":
    """Open the store in the folder `path`, by custom `.mcis`, and make it if there is none.

    Args:
        path: the folder.
        create: whether to make a store if there is none.
        warn: called once, before the first work, if the file system of the store has no locks.

    Raises:
        MissingError: there is none, and `create` is false.
        UsageError: the folder contains something else, or is a store of a newer mcis.
        StorageError: it cannot be made, or read.
    """
    root = Path(os.path.abspath(path))
    with files.reported("read", root):
        exists = (root / "format").exists()
    if not exists and not create:
        raise MissingError(f"no store at {root}; give another with --store FOLDER, or run a stage, which creates one")
    if not exists:
        _make(root)
    for name in FOLDERS:
        files.check_folder(root / name)
    found = files.read_regular(root / "format", 4096)
    if found != _FORMAT:
        raise UsageError(
            f"the store {root} has format {found[:40]!r}, expected {_FORMAT!r}; pip install --upgrade mcis, "
            "or --store FOLDER"
        )
    return Store(root, warn)


def _make(root: Path) -> None:
    """Make the folders, and last the file that marks the store as complete."""
    with files.reported("make the folder", root):
        names = [path.name for path in root.iterdir()] if root.exists() else []
    strange = sorted(set(names) - {*FOLDERS, *_FILES})
    if strange:
        raise UsageError(f"{root} is not a store: it contains {strange[0]!r}; give --store an empty or a new folder")
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

    def __init__(self, root: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self.root = root
        self._warn, self._is_tested = warn, False
        self._kept: dict[str, Artifact] = {}

    def __reduce__(self) -> "tuple[type[Store], tuple[Path]]":
        """By its folder, for a process that sees the same files."""
        return Store, (self.root,)

    def keep(self, artifact: Artifact) -> None:
        """Hold an artifact as long as this object lives, so that `mcis gc` does not remove it."""
        self._kept[artifact.id] = artifact

    @property
    def index_path(self) -> Path:
        """The file of the stat cache; may be deleted at any time."""
        return self.root / "facts"

    @property
    def scratch_folder(self) -> Path:
        """The folder for temporary files, which last as long as a process."""
        return self.root / "tmp"

    # Finding

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe that is done; held, as are those that `get` and `shelve` return.

        Raises:
            DamagedError: it is done, and its file is damaged in its first bytes or manifest.
        """
        done = self.done(recipe.stage, recipe.key)
        if done is None:
            return None
        with suppress(MissingError):
            return load(self._path(recipe.stage, done.id))
        return None

    def done(self, stage: str, key: str) -> notes.Done | None:
        """The note of a recipe that is done, also if its artifact is gone.

        None if there is no note, or a damaged one, which running the recipe again replaces.
        """
        with suppress(DamagedError):
            return notes.read_done(self.note_path(stage, key))
        return None

    def all_done(self, on_damaged: Callable[[DamagedError], None] = lambda _: None) -> Iterator[notes.Done]:
        """The notes of all recipes that are done, by stage and key; `on_damaged` is called for damaged notes."""
        for folder in self.folders("keys"):
            for path in sorted(folder.glob("*.json")):
                try:
                    if done := notes.read_done(path):
                        yield done
                except DamagedError as error:
                    on_damaged(error)

    def folders(self, name: str) -> list[Path]:
        """The folders in a folder of the store, without links to folders."""
        with files.reported("list", self.root / name), os.scandir(self.root / name) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))

    def get(self, ref: str | Path) -> Artifact:
        """An artifact by name, by 8 or more digits of its id, by stage and digits, by path, or the newest of a stage.

        Raises:
            MissingError: there is none.
            UsageError: the digits fit several.
            DamagedError: the file is damaged in its first bytes or manifest.
        """
        text = str(ref)
        if _NAME.fullmatch(text) and (content_id := self._named(text)):
            text = content_id
        if _PREFIX.fullmatch(text):
            return self._by_prefix(text)
        folder, path = self.root / "artifacts", Path(text)
        for name in (text, f"{text}.h5") if path.name == text else ():
            if os.path.isfile(folder / name):
                return load(folder / name)
        if os.path.isfile(path):
            is_ours = os.path.abspath(path.parent) == str(folder)
            return load(path) if is_ours else Artifact(Path(os.path.realpath(path)), held=True)
        if not text:
            raise MissingError(
                "the name of the artifact is empty: the command that should have printed it failed; see its message; "
                "mcis ls lists all artifacts"
            )
        if (short := _SHORT.fullmatch(text)) is not None:
            return self._by_prefix(short["digits"], short["stage"])
        if (newest := newest_of(self.root / "artifacts", text)) is not None:
            return load(newest)
        raise MissingError(
            f"no artifact {text!r}: expected a name, a file, a stage, or the first 8 or more digits of an id; mcis ls "
            "lists all"
        )

    def _by_prefix(self, prefix: str, stage: str = "*") -> Artifact:
        paths = sorted((self.root / "artifacts").glob(f"{stage}-{prefix[:ID_DIGITS]}*.h5"))
        found = []
        for path in paths:
            with suppress(MissingError):  # removed meanwhile
                found.append(load(path))
        found = [artifact for artifact in found if artifact.id.startswith(prefix)]
        if len(found) > 1:
            names = ", ".join(artifact.path.stem for artifact in found)
            raise UsageError(f"{len(found)} artifacts have an id that starts with {prefix}: {names}; give more digits")
        if not found:
            raise MissingError(f"no artifact has an id that starts with {prefix}; mcis ls lists all")
        return found[0]

    def artifacts(self, on_damaged: Callable[[DamagedError], None] | None = None) -> list[Artifact]:
        """All artifacts, newest last. Reads their manifests only, and holds none of them.

        Args:
            on_damaged: Called for each file with damaged first bytes or manifest; without it, the first raises.

        Raises:
            DamagedError: a file is damaged, and `on_damaged` is not given.
        """
        with files.reported("list", self.root / "artifacts"):
            paths = list((self.root / "artifacts").glob("*.h5"))
        found = []
        for path in paths:
            try:
                with suppress(MissingError):  # removed meanwhile
                    found.append(load(path, hold=False))
            except DamagedError as error:
                if on_damaged is None:
                    raise
                on_damaged(error)
        return sorted(found, key=lambda artifact: (str(artifact.provenance.get("created", "")), artifact.path.name))

    def _path(self, stage: str, content_id: str) -> Path:
        return self.root / "artifacts" / file_name(stage, content_id)

    def note_path(self, stage: str, key: str) -> Path:
        """The file of the note that a recipe is done."""
        return self.root / "keys" / stage / f"{key}.json"

    # Names, and where data sets are

    def name(self, name: str, artifact: Artifact, *, move: bool = True) -> bool:
        """Give an artifact a name. Returns False if the name is taken and `move` is false.

        Raises:
            UsageError: it cannot be a name, or the artifact is in another store.
        """
        if not _NAME.fullmatch(name) or _PREFIX.fullmatch(name) or name.endswith(".h5"):
            raise UsageError(
                f"{name!r} cannot be a name: letters, digits, dot, dash and underline, up to 100, and it must not look "
                "like an id or a file; give another name"
            )
        if not self._path(artifact.stage, artifact.id).exists():
            raise UsageError(
                f"{artifact.path} cannot be named here: it is not in the store {self.root}; mcis merge brings it"
            )
        return self.put(self.root / "refs" / name, notes.spell({"id": artifact.id}), overwrite=move)

    def unname(self, name: str) -> None:
        """Take a name away; the artifact stays.

        Raises:
            MissingError: there is no such name.
        """
        if not _NAME.fullmatch(name) or not os.path.lexists(self.root / "refs" / name):
            raise MissingError(f"there is no name {name!r}; `mcis name` lists the names")
        files.unlink(self.root / "refs" / name)
        files.sync_folder(self.root / "refs")

    def names(self, on_damaged: Callable[[DamagedError], None] | None = None) -> dict[str, str]:
        """Content id of each name.

        Args:
            on_damaged: Called for each name that is damaged; without it, the first raises.

        Raises:
            DamagedError: a name is damaged, and `on_damaged` is not given.
        """
        found: dict[str, str] = {}
        for path in sorted((self.root / "refs").iterdir()):
            try:
                if content_id := self._named(path.name):
                    found[path.name] = content_id
            except DamagedError as error:
                if on_damaged is None:
                    raise
                on_damaged(error)
        return found

    def _named(self, name: str) -> str | None:
        """The content id that a name stands for; None if there is no such name."""
        path = self.root / "refs" / name
        try:
            return notes.read(path, notes.parse_reference)
        except DamagedError as error:
            raise DamagedError(
                f"the name {path} is damaged, and its artifact is not known; `mcis verify --repair` reads what is left "
                f"of it, `mcis name {name} ARTIFACT` gives it again, `mcis name --delete {name}` removes it"
            ) from error

    def set_location(self, dataset_id: str, location: Mapping[str, Any]) -> None:
        """Note where the folder of a data set is on this machine; an equal note is not written again."""
        path = self._location_path(dataset_id)
        if self.location(dataset_id) != location:
            self.put(path, notes.spell(location), overwrite=True)
            return
        with suppress(StorageError):  # whoever wrote it may have been killed before syncing it
            files.sync_folder(path.parent)

    def location(self, dataset_id: str) -> dict[str, Any] | None:
        """The last known folder of a data set, if any."""
        with suppress(DamagedError):
            return notes.read(self._location_path(dataset_id), notes.parse)
        return None

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
        """The unfinished artifact of a recipe, to begin or resume.

        Args:
            recipe: The recipe to work on.
            on_wait: Called once, with the other's process id, before waiting for a process that works on it. After a
                wait, ask `Partial.sealed()` first.
            lock: Whether to wait for another process, to raise, or to work beside it.
            shard: Number, from 1, and count of the shards that work on it side by side; each has a lock of its own.

        Raises:
            BusyError: another process works on it, and `lock` is "fail".
            StorageError: the folder cannot be made, or files can get no names; see `_test_file_system`.
        """
        name = f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}"
        lock_name = name if shard is None else f"{name}.{shard[0]}-of-{shard[1]}"

        def describe(path: Path) -> None:
            with suppress(DamagedError):
                if notes.read_recipe(path.parent) == recipe:
                    return
            self.put(path, notes.spell(recipe.as_dict()), overwrite=True)

        with held(self.root / "locks" / lock_name, on_wait, lock):
            files.sweep(self.root / "tmp", name)
            self._test_file_system(name)
            with Workplace(self.root / "partial" / name, describe) as workplace:
                yield Partial(self, recipe, workplace)

    def _test_file_system(self, owner: str) -> None:
        """Give a temporary file a name, and lock it, before hours of work end with a file that cannot be kept; once.

        Raises:
            StorageError: the file system has neither hard links nor `renameat2`.
        """
        if self._is_tested:
            return
        path, name = self.temporary(owner), self.root / "locks" / "probe"  # of all processes
        with files.temporary(path) as descriptor:
            try:
                files.link(path, name)
            finally:
                files.unlink(name)
            missing = files.missing_locks(descriptor)
        if missing:
            self._warn(
                f"the file system of {self.root} has no locks ({' and '.join(missing)}): commands that run at the same "
                "time may do the same work twice, though results stay the same; mount it with locks, or give --store "
                "FOLDER on another"
            )
        self._is_tested = True

    def drop(self, recipe: Recipe) -> None:
        """Remove unfinished work that nobody needs any more, unless a process holds it."""
        clear_unheld(self.root / "partial" / f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}")

    def begun(self, recipe: Recipe) -> Begun | None:
        """The progress of a recipe that is not done; None if nothing of it is kept."""
        return begun_in(self.root / "partial" / f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}")

    def unfinished(
        self, on_damaged: Callable[[Path, DamagedError], None] = lambda folder, error: None
    ) -> dict[Path, Recipe | None]:
        """The folders of work in progress, each with its recipe, None if that is unknown.

        `on_damaged` is called for each folder with files whose recipe is missing or damaged.
        """
        found: dict[Path, Recipe | None] = {}
        for folder in self.folders("partial"):
            found[folder] = None
            try:
                recipe = notes.read_recipe(folder)
                if recipe is None and any(folder.iterdir()):  # written first; it may have been written just now
                    recipe = notes.read_recipe(folder)
                    if recipe is None:
                        raise files.damaged(folder / RECIPE, "it is not there", "what the parts beside it are of")
                found[folder] = recipe
            except FileNotFoundError:
                continue
            except DamagedError as error:
                on_damaged(folder, error)
        return found

    def temporary(self, owner: str) -> Path:
        """A new name in `tmp/`."""
        return self.root / "tmp" / f"{owner}.{os.getpid()}-{secrets.token_hex(4)}"

    def put(self, path: Path, data: bytes, *, overwrite: bool = False) -> bool:
        """Write a small file in one step. Returns False if one exists that must stay."""
        return files.put(self.temporary("put"), path, data, overwrite=overwrite)

    def shelve(self, temporary: Path, recipe: Recipe, content_id: str, log: bytes | None) -> Artifact:
        """Give a sealed temporary file its final name, its log one beside it, and note that the recipe is done."""
        manifest = Artifact(temporary).manifest
        artifact = self.place(temporary, recipe.stage, content_id, log)
        self.note(notes.Done(recipe, content_id, manifest["meta"], manifest["provenance"]))
        return artifact

    def place(self, temporary: Path, stage: str, content_id: str, log: bytes | None = None) -> Artifact:
        """Give a sealed temporary file its final name, and its log one beside it."""
        path = self._path(stage, content_id)
        if log is not None:
            self.put(path.with_suffix(".jsonl"), log)
        artifact = placed(temporary, path)
        if artifact.id != content_id:
            raise StorageError(f"{path} is of another content; move it away and run the same command again")
        files.sync_folder(path.parent)
        return artifact

    def note(self, done: notes.Done) -> None:
        """Note that a recipe was done here. An equal note, perhaps from another machine, stays."""
        stage, key = done.recipe.stage, done.recipe.key
        if not self.note_foreign(done):
            known = self.done(stage, key)
            if known is None or known.id != done.id:
                self.put(self.note_path(stage, key), done.spell(), overwrite=True)

    def note_foreign(self, done: notes.Done) -> bool:
        """Note that a recipe was done elsewhere. Returns False if it has a note, damaged or not, which stays."""
        path = self.note_path(done.recipe.stage, done.recipe.key)
        files.make_folder(path.parent)
        return self.put(path, done.spell())
