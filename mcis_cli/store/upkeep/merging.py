"""Bringing what another store has, as `mcis merge` does. Nothing gets a name here before all of it has been checked.

Artifacts come whole or not at all; what is here already stays as it is. So merging twice is merging once, and whatever
stops it, doing it again goes on.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from mcis_cli.errors import BusyError, DamagedError, DataError, McisError, MissingError, UsageError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact, file_name
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.segments import KEY_DIGITS, MAX_LOG
from mcis_cli.store.store import Store
from mcis_cli.store.upkeep.adoption import adopt

Tell = Callable[[McisError], None]


def merge(store: Store, other: Store, tell: Tell) -> Iterator[Path]:
    """Bring artifacts with their logs, notes of recipes that are done, names, and parts of unfinished work.

    Args:
        store: where to.
        other: where from; nothing is changed there.
        tell: called for each thing that is left there: it is damaged, or is another than what has its name here.

    Yields:
        What came, as files of `store`.

    Raises:
        UsageError: both are the same store.
        StorageError: something cannot be read, or written.
    """
    if other.root.samefile(store.root):
        raise UsageError(f"{other.root} is the store itself, expected another; mcis merge STORE brings what that has")
    for path in sorted((other.root / "artifacts").glob("*.h5")):
        try:
            yield from _artifact(store, path)
        except (DamagedError, DataError, MissingError) as error:
            tell(error)
    yield from _notes(store, other, tell)
    yield from _names(store, other, tell)
    for folder, recipe in other.unfinished(lambda _, error: tell(error)).items():
        if recipe is not None and folder.name == f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}":
            try:
                yield from _unfinished(store, folder, recipe, tell)
            except BusyError as error:
                tell(error)


def _artifact(store: Store, source: Path) -> Iterator[Path]:
    theirs = Artifact(source)
    target = store.root / "artifacts" / file_name(theirs.stage, theirs.id)
    if not _is_here(target, theirs.id):
        with adopt(store, source) as artifact:
            yield artifact.path
    log = target.with_suffix(".jsonl")
    if not os.path.lexists(log):
        with suppress(MissingError):
            if store.put(log, files.read_regular(theirs.log_path, MAX_LOG)):
                yield log


def _is_here(path: Path, content_id: str) -> bool:
    try:
        return Artifact(path).id == content_id
    except (DamagedError, MissingError):
        return False


def _notes(store: Store, other: Store, tell: Tell) -> Iterator[Path]:
    for theirs in other.all_done(tell):
        stage, key = theirs.recipe.stage, theirs.recipe.key
        ours, path = store.done(stage, key), store.note_path(stage, key)
        if ours is None and _is_here(store.root / "artifacts" / file_name(stage, theirs.id), theirs.id):
            if store.note_foreign(theirs):
                yield path
            else:
                tell(files.damaged(path, "its bytes are not those of a note", "what the recipe came to here"))
        elif ours is not None and ours.id != theirs.id:
            tell(
                UsageError(
                    f"the recipe {key[:12]} of {stage} came to {theirs.id[:12]} in {other.root}, and to {ours.id[:12]} "
                    "here, which stays; machines or threads differ: mcis show tells"
                )
            )


def _names(store: Store, other: Store, tell: Tell) -> Iterator[Path]:
    ours = store.names(lambda error: None)
    for name, content_id in other.names(tell).items():
        if name not in ours:
            try:
                with store.get(content_id) as artifact:
                    came = store.name(name, artifact, move=False)
            except (MissingError, UsageError):
                continue  # it names nothing there either, or what could not be brought, which was reported
            if came:
                yield store.root / "refs" / name
            else:
                tell(UsageError(f"the name {name} is damaged here, and stays; `mcis name {name} ARTIFACT` moves it"))
        elif ours[name] != content_id:
            tell(
                UsageError(
                    f"the name {name} names {content_id[:12]} in {other.root} and {ours[name][:12]} here, which stays; "
                    f"`mcis name {name} {content_id[:12]}` moves it"
                )
            )


def _unfinished(store: Store, folder: Path, recipe: Recipe, tell: Tell) -> Iterator[Path]:
    if store.find(recipe) is not None:
        return
    with store.begin(recipe, lock="fail") as partial:
        came = []
        for source in sorted(folder.iterdir(), reverse=True):  # the newest checkpoint first: the others are not needed
            try:
                came.append(partial.bring(source))
            except (DamagedError, MissingError) as error:
                tell(error)
        yield from (path for path in came if path is not None)
