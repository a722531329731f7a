"""Check that everything in a store is as it was written: digests, then content ids and structure, then references.

No byte of a file reaches an HDF5 library before its digest has been checked. This only reports damage; repair.py sets
it aside.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mcis_cli.errors import DamagedError, MissingError, UsageError
from mcis_cli.store import files, notes
from mcis_cli.store.artifact import ID_DIGITS, Artifact, file_name, newest_of
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.parts import check_part, part_named
from mcis_cli.store.segments import LOG
from mcis_cli.store.store import Store
from mcis_cli.store.workplace import RECIPE

Kind = Literal["artifact", "key", "name", "location", "part", "recipe", "log"]
DAMAGED = "damaged"  # folder in the store for files that were set aside
_ARTIFACT = re.compile(rf"([a-z][a-z0-9-]{{0,39}})-([0-9a-f]{{{ID_DIGITS}}})\.h5")
_FOLDER = re.compile(r"[a-z][a-z0-9-]{0,39}-([0-9a-f]{16})")


@dataclass(frozen=True)
class Finding:
    """A file that is not as it was written, or that is missing although something refers to it.

    Attributes:
        path: the file.
        kind: an artifact; a note of a recipe that is done, of a name, of the place of a data set, or of what unfinished
            work is for; a part of unfinished work; a metrics log.
        fault: what was found and expected.
        is_missing: whether it does not exist.
    """

    path: Path
    kind: Kind
    fault: str
    is_missing: bool = False


@dataclass
class Verified:
    """The files that were checked, and the findings.

    Attributes:
        num_files: files whose digests were checked.
        num_bytes: their bytes.
        findings: the damage.
        absent: inputs of other artifacts that no longer exist. That is not damage: they are made again when needed.
    """

    num_files: int = 0
    num_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


Progress = Callable[[int, int], None]


def verify(store: Store, only: Sequence[Path] | None = None, progress: Progress = lambda done, total: None) -> Verified:
    """Check all files of a store, or some artifacts.

    Args:
        store: the store.
        only: files of artifacts, in the store or elsewhere; without it, everything.
        progress: called with how many of how many steps are done.

    Raises:
        StorageError: a file cannot be read.
    """
    checks = list(_checks_of(only) if only is not None else _checks(store))
    verified = Verified()
    intact: list[tuple[Path, Kind]] = []
    total = 2 * len(checks)
    for number, (path, kind, check) in enumerate(checks):
        progress(number, total)
        with suppress(FileNotFoundError):
            verified.num_bytes += path.lstat().st_size if kind != "log" else 0
        if (finding := _tried(path, kind, check, is_wanted=only is not None)) is not None:
            verified.findings.append(finding)
        elif path.exists():
            intact.append((path, kind))
    verified.num_files = sum(kind != "log" for _, kind, _ in checks)
    for number, (path, kind) in enumerate(intact):
        progress(len(checks) + number, total)
        if (finding := _tried(path, kind, _contents(path, kind), is_wanted=only is not None)) is not None:
            verified.findings.append(finding)
    if only is None:
        _check_references(store, verified)
    progress(total, total)
    return verified


def locate(store: Store, ref: str) -> Path:
    """The file of an artifact named as in `Store.get`, without reading it, since it may be damaged or gone.

    Raises:
        MissingError: it is unknown.
        UsageError: the digits fit several.
    """
    text = store.names(lambda error: None).get(ref, ref)
    folder, path = store.root / "artifacts", Path(text)
    if path.name == text:
        for name in (text, f"{text}.h5"):
            if os.path.lexists(folder / name) or _known(store, name):
                return folder / name
    if (short := re.fullmatch(r"(?:([a-z][a-z-]*)-)?([0-9a-f]{8,64})", text)) is not None:
        stage, digits = short[1], short[2]
        names = {one.name for one in folder.glob(f"{stage or '*'}-{digits[:ID_DIGITS]}*.h5")}
        known = [done for done in store.all_done() if done.id.startswith(digits)]
        names |= {done.file_name for done in known if stage in (None, done.recipe.stage)}
        if len(names) > 1:
            raise UsageError(
                f"{len(names)} artifacts have an id that starts with {text}: {', '.join(sorted(names))}; give more "
                "digits"
            )
        if names:
            return folder / names.pop()
    if os.path.lexists(path):
        return Path(os.path.realpath(path))
    if (newest := newest_of(store.root / "artifacts", text)) is not None:
        return newest
    raise MissingError(
        f"no artifact {text!r}: expected a name, a file, a stage, or the first 8 or more digits of an id; mcis ls "
        "lists all"
    )


def _known(store: Store, name: str) -> bool:
    return _ARTIFACT.fullmatch(name) is not None and any(name == done.file_name for done in store.all_done())


# First: digests, of all files


Check = tuple[Path, Kind, Callable[[], object]]


def _checks_of(paths: Sequence[Path]) -> Iterator[Check]:
    for path in paths:
        yield path, "artifact", partial(_check_artifact, path, named=path.parent.name == "artifacts")


def _checks(store: Store) -> Iterator[Check]:
    """Every file that has a digest, with how to check it."""
    root = store.root
    with files.reported("list", root):
        for path in sorted((root / "artifacts").glob("*.h5")):
            yield path, "artifact", partial(_check_artifact, path, named=True)
        for path in sorted((root / "artifacts").glob("*.jsonl")):
            yield path, "log", partial(_check_log, path)
        for path in sorted((root / "refs").iterdir()):
            yield path, "name", partial(notes.read, path, notes.parse_reference)
        for path in sorted((root / "locations").iterdir()):
            yield path, "location", partial(notes.read, path, notes.parse)
        for path in _inner(store, "keys"):
            yield path, "key", partial(_check_done, path)
        for path in _inner(store, "partial"):
            if path.name == RECIPE:
                yield path, "recipe", partial(_check_recipe, path)
            elif path.name == LOG:
                yield path, "log", partial(_check_log, path)
            else:
                yield path, "part", partial(_check_part, path)


def _inner(store: Store, name: str) -> Iterator[Path]:
    """The contents of the folders of `keys` or `partial`, and entries that should be such a folder and are not."""
    folders = store.folders(name)
    yield from sorted(set((store.root / name).iterdir()) - set(folders))
    for folder in folders:
        inner = set(folder.iterdir())
        yield from sorted(inner | {folder / RECIPE} if name == "partial" and inner else inner)


def _tried(path: Path, kind: Kind, check: Callable[[], object], *, is_wanted: bool) -> Finding | None:
    try:
        check()
    except DamagedError as error:
        return Finding(path, kind, _fault(error, path), is_missing=not os.path.lexists(path))
    except MissingError:
        # Sealed, moved or removed by another process, which is not damage, unless the user named it.
        if is_wanted:
            return Finding(path, kind, "it is missing, expected the artifact that was made", is_missing=True)
    return None


def _fault(error: DamagedError, path: Path) -> str:
    """What was found and expected: the message without the name at its start and the remedy at its end."""
    text = str(error).removeprefix(str(path)).lstrip().removeprefix("is damaged: ")
    return text.removesuffix(f"; {files.REMEDY}")


def _check_artifact(path: Path, *, named: bool) -> None:
    descriptor = files.open_regular(path)
    try:
        user_block.verify(descriptor, path, "artifact")
    finally:
        os.close(descriptor)
    with Artifact(path) as artifact:
        name = file_name(artifact.stage, artifact.id)
        if named and path.name != name:
            raise files.damaged(path, f"it is {name}", "the file of its name")


def _check_done(path: Path) -> None:
    if path.suffix != ".json":
        raise files.damaged(path, "its name is that of no note", "the key of a recipe")
    notes.read_done(path)


def _check_log(path: Path) -> None:
    os.close(files.open_regular(path))


def _check_part(path: Path) -> None:
    part, folder = part_named(path), _FOLDER.fullmatch(path.parent.name)
    if part is None or folder is None:
        raise files.damaged(path, "its name is that of no part", "segment-NNNNNN.h5 or checkpoint-STEP.ckpt")
    kind, number = part
    descriptor = files.open_regular(path)
    try:
        check_part(descriptor, path, kind, folder[1], number)
    finally:
        os.close(descriptor)


def _check_recipe(path: Path) -> None:
    recipe = notes.read_recipe(path.parent)
    with suppress(FileNotFoundError):
        names = [] if recipe else os.listdir(path.parent)  # at one moment: the recipe is written first and removed last
        if names and RECIPE not in names:
            raise files.damaged(path, "it is not there", "the recipe of the parts beside it")
    folder = _FOLDER.fullmatch(path.parent.name)
    if recipe is not None and (folder is None or not recipe.key.startswith(folder[1])):
        raise files.damaged(path, "it is that of another folder", "the recipe that its folder is named for")


# Second: content ids and structure of files with a correct digest


def _contents(path: Path, kind: Kind) -> Callable[[], object]:
    if kind == "artifact":
        return lambda: _check_content(path)
    if kind == "part" and path.suffix == ".h5":
        return lambda: _check_segment(path)
    return lambda: None


def _check_content(path: Path) -> None:
    with Artifact(path) as artifact:
        try:
            key = Recipe(stage=artifact.stage, **artifact.manifest["recipe"]).key
        except (TypeError, ValueError, AttributeError):
            raise files.damaged(path, "its recipe is not understood", "version, config and inputs") from None
        if key != artifact.key:
            raise files.damaged(path, f"its recipe has the key {key[:12]}", artifact.key[:12])
        content_id = artifact.content_id()
        if content_id != artifact.id:
            raise files.damaged(path, f"its content has the id {content_id[:12]}", artifact.id[:12])


def _check_segment(path: Path) -> None:
    from mcis_cli.store.format.reader import Reader  # imports h5py

    with Reader(path, "segment") as segment:
        for _ in segment.records():
            pass


# Third: references


def _check_references(store: Store, verified: Verified) -> None:
    """Names stand for artifacts that are there; what was set aside is there again; notes agree with their artifacts."""
    noted: dict[str, notes.Done] = {}
    for done in store.all_done():
        noted[done.id] = done
    there = {path.name for path in (store.root / "artifacts").glob("*.h5")}
    faulty = {finding.path.name for finding in verified.findings}

    def is_there(content_id: str) -> bool:
        return any(name.endswith(f"-{content_id[:ID_DIGITS]}.h5") for name in there)

    wanted: dict[str, str] = {}
    for given, content_id in store.names(lambda error: None).items():
        if is_there(content_id):
            continue
        if content_id in noted:
            wanted[content_id] = f"it is missing, expected the artifact that the name {given} stands for"
        else:
            fault = f"it names the artifact {content_id[:ID_DIGITS]}, which is missing, expected an existing one"
            verified.findings.append(Finding(store.root / "refs" / given, "name", fault, is_missing=True))
    for name in set_aside(store):
        for content_id, done in noted.items():
            if name == done.file_name and name not in there:
                wanted.setdefault(content_id, "it was set aside, expected it to be made again")
    for content_id, fault in sorted(wanted.items()):
        path = store.root / "artifacts" / noted[content_id].file_name
        verified.findings.append(Finding(path, "artifact", fault, is_missing=True))
    for done in noted.values():
        for digest in done.recipe.inputs.values():
            if digest in noted and not is_there(digest) and digest not in wanted and is_there(done.id):
                verified.absent.append(noted[digest].file_name)
    verified.absent = sorted(set(verified.absent) - faulty)


def set_aside(store: Store) -> set[str]:
    """Names of the artifacts whose damaged files are kept aside."""
    folder = store.root / DAMAGED
    names = {path.name.rpartition(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if _ARTIFACT.fullmatch(name)}
