"""What can be mended in a store without computing anything: damaged files set aside, notes and tags written again.

Nothing is deleted: a damaged file keeps its bytes under another name, for whoever wants to look at them.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mcis_cli.errors import DamagedError, MissingError
from mcis_cli.store import files, notes
from mcis_cli.store.artifact import Artifact, file_name
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.store import Store
from mcis_cli.store.upkeep.verification import DAMAGED, Finding

_ALIKE = 32  # of the 64 digits of an id: two of chance share 4


def move_aside(store: Store, path: Path) -> Path:
    """Move a damaged file out of the way, to a name in `damaged/` that nothing has.

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


def all_done(store: Store) -> list[notes.Done]:
    """All that is known of recipes that are done: by their notes, and by the manifests of the artifacts themselves."""
    known = list(store.all_done())
    keys = {done.recipe.key for done in known}
    for path in sorted((store.root / "artifacts").glob("*.h5")):
        try:
            with Artifact(path) as artifact:
                recipe = Recipe(stage=artifact.stage, **artifact.manifest["recipe"])
        except (DamagedError, MissingError, TypeError, ValueError):
            continue
        if recipe.key not in keys and recipe.key == artifact.key:
            known.append(notes.Done(recipe, artifact.id, artifact.meta, artifact.provenance))
    return known


def mend_done(store: Store, finding: Finding, known: Iterable[notes.Done]) -> str:
    """Write a damaged note of a recipe again, where its artifact tells what it said. Returns what was done."""
    move_aside(store, finding.path)
    for done in known:
        if (done.recipe.stage, done.recipe.key) == (finding.path.parent.name, finding.path.stem):
            store.note(done)
            return f"written again from {file_name(done.recipe.stage, done.id)}"
    return "set aside: nothing else tells what came out of that recipe, its stage will find out"


def mend_tag(store: Store, finding: Finding, known: Iterable[notes.Done]) -> str | None:
    """Write a damaged tag again, where what is left of it is the id of one artifact. None where it is not."""
    try:
        descriptor = user_block.open_regular(finding.path)
    except (MissingError, DamagedError):
        left = b""
    else:
        with open(descriptor, "rb") as file:
            left = file.read(2 * len(notes.spell({"id": "0" * 64})))
    move_aside(store, finding.path)
    for content_id in {done.id for done in known}:
        whole = notes.spell({"id": content_id})
        start = whole.index(content_id.encode())
        alike = sum(a == b for a, b in zip(whole[start : start + 64], left[start : start + 64], strict=False))
        if alike >= _ALIKE:
            store.put(finding.path, whole, overwrite=True)
            return f"written again: what was left of it is the id {content_id[:12]}"
    return None


def recovered(store: Store, done: notes.Done) -> bool:
    """Give an artifact that was set aside under another's name its own: it may be intact, and only misplaced."""
    for path in _aside(store):
        try:
            with Artifact(path) as artifact:
                if artifact.id != done.id or artifact.stage != done.recipe.stage or artifact.content_id() != done.id:
                    continue
        except (DamagedError, MissingError):
            continue
        target = store.root / "artifacts" / file_name(done.recipe.stage, done.id)
        if files.link(path, target):
            files.sync_folder(target.parent)
            files.unlink(path)
            return True
    return False


def _aside(store: Store) -> Iterator[Path]:
    folder = store.root / DAMAGED
    yield from sorted(folder.glob("*.h5.*")) if folder.is_dir() else ()
