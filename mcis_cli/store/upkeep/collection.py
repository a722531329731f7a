"""What nobody needs any more, and its removal. `mcis gc` is the command.

Kept is what has a name or the caller names, what anybody holds, what unfinished work is made from, and all that these
were made from. A name or note that cannot be read may need anything: while there is one, nothing is removed. The roots
may change while this runs: what is about to go is claimed first, so that nobody can come to need it, and then the roots
are looked at once more.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcis_cli.errors import BusyError, DamagedError, MissingError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.locks import held
from mcis_cli.store.notes import Done
from mcis_cli.store.segments import KEY_DIGITS
from mcis_cli.store.store import Store
from mcis_cli.store.workplace import clear

Scope = Literal["artifacts", "partial", "tmp"]
DAY = 86_400.0
_FEATURES = re.compile(r"features-[0-9a-f]+")  # folders of `stages.engine.scratch`
_FRESH = 3_600.0  # a log gets its name just before its artifact does


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that is, or would be, removed.

    Attributes:
        path: the file or folder; an artifact's log goes with it.
        num_bytes: its size.
    """

    path: Path
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The selection of things to remove.

    Attributes:
        scopes: artifacts, unfinished work, left-overs.
        stage: only this stage.
        older_than: seconds since it was last written.
        keep: content ids that are needed, with all that they were made from.
    """

    scopes: frozenset[Scope]
    stage: str | None = None
    older_than: float = 0.0
    keep: frozenset[str] = frozenset()

    def is_old(self, path: Path, minimum: float = 0.0) -> bool:
        """Whether a file, or everything in a folder, was last written long enough ago; False if it is gone."""
        try:
            times = [path.lstat().st_mtime, *(entry.stat().st_mtime for entry in _entries(path))]
        except FileNotFoundError:
            return False
        age = max(self.older_than, minimum)
        return not age or time.time() - max(times) >= age

    def is_of_stage(self, stage: str) -> bool:
        """Whether `stage` is selected."""
        return self.stage in (None, stage)


def collect(store: Store, choice: Choice, *, delete: bool) -> Iterator[Unneeded]:
    """List what nothing needs any more, and remove it if `delete` is set.

    Raises:
        DamagedError: a name, or a note of what was made from what, is damaged: what it needs is not known.
        StorageError: something cannot be removed, or the file system cannot show whether it is in use.
    """
    going: set[Path] = set()
    if "partial" in choice.scopes:
        for unneeded in _partial(store, choice, delete):
            going |= set() if delete else {unneeded.path}
            yield unneeded
    if "artifacts" in choice.scopes:
        yield from _artifacts(store, choice, going, delete)
    if "tmp" in choice.scopes:
        yield from _left_over(store, choice, delete)


class _Needs:
    """Which content was made from which, as far as the store knows, and what is needed at present."""

    def __init__(self, store: Store, keep: Iterable[str], going: set[Path]) -> None:
        self.notes: dict[str, list[Done]] = defaultdict(list)
        self.artifacts: dict[Path, Artifact] = {}
        self._store, self._keep, self._going = store, frozenset(keep), going
        self._inputs: dict[str, set[str]] = defaultdict(set)
        self._lists: dict[str, str] = {}  # from the identity of a data set to the artifact that lists it
        for done in store.all_done(_refuse):
            self.notes[done.id].append(done)
            self._inputs[done.id] |= {*done.recipe.inputs.values(), str(done.meta.get("dataset"))}
        self.look()

    def look(self) -> list[Artifact]:
        """Add artifacts that were sealed since the last call; damaged ones are left to `mcis verify`."""
        found = []
        for path in sorted((self._store.root / "artifacts").glob("*.h5")):
            if path in self.artifacts:
                continue
            try:
                artifact = self.artifacts[path] = Artifact(path)
            except (DamagedError, MissingError):
                continue
            found.append(artifact)
            self._inputs[artifact.id] |= {*artifact.inputs.values(), str(artifact.meta.get("dataset"))}
            if artifact.stage == "dataset":
                self._lists |= dict.fromkeys(artifact.inputs.values(), artifact.id)
        return found

    def to_mend(self) -> set[str]:
        """Artifacts that are damaged, or were set aside as damaged, which `mcis verify --repair` helps to make
        again."""
        folder = self._store.root
        names = {path.name for path in (folder / "artifacts").glob("*.h5") if path not in self.artifacts}
        names |= {path.stem for path in (folder / "damaged").glob("*.h5.*")}
        return {done.id for of_one in self.notes.values() for done in of_one if done.file_name in names}

    def roots(self) -> set[str]:
        """The content ids that are needed themselves."""
        unfinished = self._store.unfinished(lambda folder, error: None if folder in self._going else _refuse(error))
        working = [
            recipe.inputs.values() for folder, recipe in unfinished.items() if recipe and folder not in self._going
        ]
        return {*self._keep, *self._store.names().values(), *(name for names in working for name in names)}

    def all_of(self, roots: Iterable[str]) -> set[str]:
        """Content ids with those of everything that they were made from."""
        found: set[str] = set()
        left = list(roots)
        while left:
            name = left.pop()
            name = self._lists.get(name, name)
            if name not in found:
                found.add(name)
                left.extend(self._inputs.get(name, ()))
        return found

    def last_first(self, artifacts: Iterable[Artifact]) -> list[Artifact]:
        """Artifacts in an order in which each comes before its inputs."""
        by_id = {artifact.id: artifact for artifact in artifacts}
        ordered: list[str] = []
        entered: set[str] = set()
        left = [(name, False) for name in by_id]
        while left:
            name, is_done = left.pop()
            if is_done:
                ordered.append(name)
            elif name not in entered:
                entered.add(name)
                left.append((name, True))
                left.extend((self._lists.get(made_from, made_from), False) for made_from in self._inputs.get(name, ()))
        return [by_id[name] for name in reversed(ordered) if name in by_id]


def _artifacts(store: Store, choice: Choice, going: set[Path], delete: bool) -> Iterator[Unneeded]:
    needs = _Needs(store, choice.keep, going)
    listed = list(needs.artifacts.values())
    meant = [one for one in listed if choice.is_of_stage(one.stage) and choice.is_old(one.path)]
    others = {artifact.id for artifact in listed} - {artifact.id for artifact in meant}
    kept = needs.all_of(needs.roots() | needs.to_mend() | others)
    for artifact in needs.last_first(meant):
        if artifact.id in kept:
            continue
        unneeded = Unneeded(artifact.path, _size(artifact.path) + _size(artifact.log_path))
        with files.claimed(artifact.path) as mine:
            fresh = {one.id for one in needs.look()}
            kept |= needs.all_of(needs.roots() | fresh)
            if not mine or artifact.id in kept:
                kept |= needs.all_of([artifact.id])
                continue
            if delete:
                # Remove the notes first: an artifact without a note is found again by the stage that makes it.
                for done in needs.notes[artifact.id]:
                    files.unlink(store.note_path(done.recipe.stage, done.recipe.key))
                files.unlink(artifact.log_path)
                files.unlink(artifact.path)
        yield unneeded


def _partial(store: Store, choice: Choice, delete: bool) -> Iterator[Unneeded]:
    for folder in store.unfinished():
        if not choice.is_of_stage(folder.name.rpartition("-")[0]) or not choice.is_old(folder):
            continue
        unneeded = Unneeded(folder, sum(_size(Path(entry)) for entry in _entries(folder)))
        with files.claimed(folder) as mine:
            if mine and delete:
                clear(folder)
        if mine:
            yield unneeded


def _left_over(store: Store, choice: Choice, delete: bool) -> Iterator[Unneeded]:
    """Temporary files that no process writes, logs without artifact, notes of recipes whose artifact is gone."""
    for path in sorted((store.root / "tmp").iterdir()):
        if choice.is_of_stage(path.name.partition(".")[0].rpartition("-")[0]) and choice.is_old(path):
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and not _FEATURES.fullmatch(path.name):
                continue  # not one that mcis makes
            entries = [Path(entry) for entry in _entries(path)]  # a folder of features is removed as a whole
            unneeded = Unneeded(path, sum(map(_size, entries)) if is_folder else _size(path))
            with files.claimed(path) as mine:
                if mine and delete:
                    (clear if is_folder else files.unlink)(path)
            if mine:
                yield unneeded
    for path in sorted(store.root.glob("index.sqlite*")):  # of a cache that earlier versions kept
        yield Unneeded(path, _size(path))
        if delete:
            files.unlink(path)
    for path in sorted((store.root / "artifacts").glob("*.jsonl")):
        is_meant = choice.is_of_stage(path.stem.rpartition("-")[0]) and choice.is_old(path, _FRESH)
        if is_meant and not path.with_suffix(".h5").exists():
            yield Unneeded(path, _size(path))
            if delete:
                files.unlink(path)
    yield from _notes(store, choice, delete)


def _notes(store: Store, choice: Choice, delete: bool) -> Iterator[Unneeded]:
    """Notes of artifacts that do not exist, are not needed, and were not set aside to be made again."""
    needs = _Needs(store, choice.keep, set())
    kept = needs.all_of(needs.roots() | needs.to_mend() | {artifact.id for artifact in needs.artifacts.values()})
    for done in [done for of_one in needs.notes.values() for done in of_one]:
        stage, key = done.recipe.stage, done.recipe.key
        path, artifact = store.note_path(stage, key), store.root / "artifacts" / done.file_name
        if done.id in kept or artifact.exists():
            continue
        if not choice.is_of_stage(stage) or not choice.is_old(path):
            continue
        unneeded = Unneeded(path, _size(path))
        try:
            # A process that makes it again has this lock when it finds an existing note.
            with held(store.root / "locks" / f"{stage}-{key[:KEY_DIGITS]}", None, "fail" if delete else "none"):
                if artifact.exists():
                    continue
                if delete:
                    files.unlink(path)
        except BusyError:
            continue
        yield unneeded


def _refuse(error: DamagedError) -> None:
    raise DamagedError(f"nothing can be removed, because it is unknown what a damaged file needs: {error}") from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder; none for a file, a link, or a folder that another process has removed."""
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
