"""Copy from another store, for `mcis merge`. Nothing gets a name here before all of it has been checked.

Artifacts come whole or not at all, and existing ones stay. So merging twice equals merging once, and after an
interruption, merging again completes it.
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

Report = Callable[[McisError], None]


def merge(store: Store, other: Store, report: Report) -> Iterator[Path]:
    """Bring artifacts with their logs, notes of recipes that are done, names, and parts of unfinished work.

    Args:
        store: where to.
        other: where from; nothing is changed there.
        report: called for each thing that is not brought: it is damaged, or another thing has its name here.

    Yields:
        The new files of `store`.

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
            report(error)
    yield from _notes(store, other, report)
    yield from _names(store, other, report)
    for folder, recipe in other.unfinished(lambda _, error: report(error)).items():
        if recipe is not None and folder.name == f"{recipe.stage}-{recipe.key[:KEY_DIGITS]}":
            try:
                yield from _unfinished(store, folder, recipe, report)
            except BusyError as error:
                report(error)


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


def _notes(store: Store, other: Store, report: Report) -> Iterator[Path]:
    for theirs in other.all_done(report):
        stage, key = theirs.recipe.stage, theirs.recipe.key
        ours, path = store.done(stage, key), store.note_path(stage, key)
        if ours is None and _is_here(store.root / "artifacts" / file_name(stage, theirs.id), theirs.id):
            if store.note_foreign(theirs):
                yield path
            else:
                report(files.damaged(path, "its bytes are not those of a note", "one with the artifact that is here"))
        elif ours is not None and ours.id != theirs.id:
            report(
                UsageError(
                    f"two artifacts of the same recipe {key[:12]} of {stage} differ: {theirs.id[:12]} in {other.root} "
                    f"and {ours.id[:12]} here; the one here stays. Their machines or numbers of threads probably "
                    "differ: compare them with mcis show"
                )
            )


def _names(store: Store, other: Store, report: Report) -> Iterator[Path]:
    ours = store.names(lambda error: None)
    for name, content_id in other.names(report).items():
        if name not in ours:
            try:
                with store.get(content_id) as artifact:
                    came = store.name(name, artifact, move=False)
            except (MissingError, UsageError):
                continue  # its artifact is missing there too, or could not be copied, which was reported
            if came:
                yield store.root / "refs" / name
            else:
                report(UsageError(f"the name {name} is damaged here, and stays; `mcis name {name} ARTIFACT` moves it"))
        elif ours[name] != content_id:
            report(
                UsageError(
                    f"the name {name} names {content_id[:12]} in {other.root} and {ours[name][:12]} here, which stays; "
                    f"`mcis name {name} {content_id[:12]}` moves it"
                )
            )


def _unfinished(store: Store, folder: Path, recipe: Recipe, report: Report) -> Iterator[Path]:
    if store.find(recipe) is not None:
        return
    with store.begin(recipe, lock="fail") as partial:
        came = []
        for source in sorted(folder.iterdir(), reverse=True):  # the newest checkpoint first: the others are not needed
            try:
                came.append(partial.bring(source))
            except (DamagedError, MissingError) as error:
                report(error)
        yield from (path for path in came if path is not None)
