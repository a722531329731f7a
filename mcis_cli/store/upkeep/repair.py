"""Set damaged files aside and rewrite notes that can be derived, for `mcis verify --repair`.

Nothing is computed and nothing is deleted: a damaged file keeps its bytes in `damaged/`. Damaged artifacts are made
again by the commands that made them; the same recipe has the same id.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcis_cli.errors import DamagedError, McisError, MissingError
from mcis_cli.store import files, notes
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.locks import held
from mcis_cli.store.store import Store
from mcis_cli.store.upkeep.verification import DAMAGED, Finding

_MIN_EQUAL = 32  # of the 64 digits of an id: two unrelated ids share 4 on average


@dataclass(frozen=True)
class Outcome:
    """The outcome of a finding.

    Attributes:
        finding: the damaged or missing file.
        is_repaired: whether this file is intact again.
        how: the repair, or how to complete it.
        done: the recipe that makes the artifact again, if it is known and must still run.
    """

    finding: Finding
    is_repaired: bool
    how: str
    done: notes.Done | None = None


def repair(store: Store, findings: Sequence[Finding]) -> Iterator[Outcome]:
    """Set damaged files aside, and write again what can be derived: notes, names, then artifacts after their inputs.

    Raises:
        BusyError: another process repairs the same store.
        StorageError: a file cannot be moved or written.
    """
    with held(store.root / "locks" / "repair", None, "fail"):
        known = {done.id: done for done in known_recipes(store)}
        for finding in findings:
            if finding.kind != "artifact":
                yield _REPAIRS[finding.kind](store, finding, known)
        damaged = {finding.path.name: finding for finding in findings if finding.kind == "artifact"}
        for finding in damaged.values():
            if not finding.is_missing:
                move_aside(store, finding.path)
        for name in _inputs_first(damaged, known):
            yield _repaired_artifact(store, damaged[name], known)


def move_aside(store: Store, path: Path) -> Path:
    """Move a damaged file to an unused name in `damaged/`.

    Raises:
        StorageError: it cannot be moved.
    """
    folder = store.root / DAMAGED
    files.make_folder(folder)
    number = 1
    while os.path.lexists(target := folder / f"{path.name}.{number}"):
        number += 1
    files.replace(path, target)
    files.sync_folder(folder)
    files.sync_folder(path.parent)
    return target


def known_recipes(store: Store) -> list[notes.Done]:
    """All known recipes that are done, from their notes and from the manifests of artifacts."""
    known = list(store.all_done())
    keys = {done.recipe.key for done in known}
    for path in sorted((store.root / "artifacts").glob("*.h5")):
        try:
            with Artifact(path) as artifact:
                recipe = Recipe(stage=artifact.stage, **artifact.manifest["recipe"])
                if recipe.key not in keys and recipe.key == artifact.key:
                    known.append(notes.Done(recipe, artifact.id, artifact.meta, artifact.provenance))
        except (McisError, TypeError, ValueError):
            continue
    return known


def _inputs_first(names: dict[str, Finding], known: dict[str, notes.Done]) -> list[str]:
    """Names of damaged artifacts, each after its inputs."""
    by_name = {done.file_name: done for done in known.values()}
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in names and name not in ordered:
            for digest in by_name[name].recipe.inputs.values() if name in by_name else ():
                if digest in known and known[digest].id != by_name[name].id:
                    visit(known[digest].file_name)
            ordered.append(name)

    for name in sorted(names, key=lambda name: (not name.startswith("dataset-"), name)):
        visit(name)
    return ordered


def _repaired_artifact(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    done = next((one for one in known.values() if one.file_name == finding.path.name), None)
    if done is None:
        how = "set aside: nothing says how it was made; run its stage again, or copy it from elsewhere"
        return Outcome(finding, False, how)
    if _was_misplaced(store, done):
        return Outcome(finding, True, "it was under the name of another, and has its own again")
    return Outcome(finding, False, "missing" if finding.is_missing else "set aside", done)


def _was_misplaced(store: Store, done: notes.Done) -> bool:
    """Give an intact artifact that was set aside with another's name its own name."""
    folder = store.root / DAMAGED
    for path in sorted(folder.glob("*.h5.*")) if folder.is_dir() else ():
        try:
            with Artifact(path) as artifact:
                if artifact.id != done.id or artifact.stage != done.recipe.stage or artifact.content_id() != done.id:
                    continue
        except (DamagedError, MissingError):
            continue
        target = store.root / "artifacts" / done.file_name
        if files.link(path, target):
            files.sync_folder(target.parent)
            files.unlink(path)
            return True
    return False


def _repair_key(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    move_aside(store, finding.path)
    for done in known.values():
        if (done.recipe.stage, done.recipe.key) == (finding.path.parent.name, finding.path.stem):
            store.note(done)
            return Outcome(finding, True, f"written again from {done.file_name}")
    how = "set aside: nothing else records what that recipe came to; its stage writes it again"
    return Outcome(finding, True, how)


def _repair_name(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    """Write a name again where what is left of it is the id of one artifact. Any other stays, since it protects all."""
    name = finding.path.name
    if not finding.is_missing:
        try:
            left = files.read_regular(finding.path, 4096)
        except (DamagedError, MissingError):
            left = b""
        for content_id in known:
            whole = notes.spell({"id": content_id})
            start = whole.index(content_id.encode())
            pairs = zip(whole[start : start + 64], left[start : start + 64], strict=False)
            if sum(a == b for a, b in pairs) >= _MIN_EQUAL:
                move_aside(store, finding.path)
                store.put(finding.path, whole)  # unless it was given again meanwhile
                return Outcome(finding, True, f"written again: what was left of it is the id {content_id[:12]}")
    how = f"it stays; `mcis name {name} ARTIFACT` gives it again, `mcis name --delete {name}` removes it"
    return Outcome(finding, False, how)


def _repair_recipe(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    how = "it stays; the command that works there writes it again, `mcis gc --partial --delete` removes its folder"
    return Outcome(finding, False, how)


def _repair_part(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    move_aside(store, finding.path)
    return Outcome(finding, True, "set aside: its stage does that part again")


def _repair_location(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    move_aside(store, finding.path)
    return Outcome(finding, True, "set aside: the next command that lists the images notes their place again")


def _repair_log(store: Store, finding: Finding, known: dict[str, notes.Done]) -> Outcome:
    move_aside(store, finding.path)
    return Outcome(finding, True, "set aside: a log is no part of a result")


_REPAIRS = {
    "key": _repair_key,
    "name": _repair_name,
    "recipe": _repair_recipe,
    "part": _repair_part,
    "location": _repair_location,
    "log": _repair_log,
}
