"""Import an artifact from elsewhere: copy it, check everything on the copy, and only then give it a name."""

import os
from collections.abc import Callable
from pathlib import Path

from mcis_cli.errors import DamagedError, DataError, UsageError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import Recipe
from mcis_cli.store.notes import Done
from mcis_cli.store.store import Store


def adopt(store: Store, path: Path, check: Callable[[Artifact], object] = lambda _: None) -> Artifact:
    """Bring an artifact into a store. An existing one stays.

    This checks its block, its digest, its manifest, its structure, that its key is the hash of its recipe, and that its
    content id is that of its content. Nothing can check that its recipe leads to this content: that is a matter of
    trust in whoever made it.

    Args:
        store: where the artifact goes.
        path: the file; nothing beside it is read.
        check: raises if the artifact is not what its stage writes.

    Raises:
        DataError: the file is not an artifact.
        DamagedError: something in the artifact is wrong.
        MissingError: there is no such file.
    """
    path = Path(os.path.realpath(path))
    descriptor = files.open_regular(path)
    try:
        _refuse_others(descriptor, path)
        block = user_block.verify(descriptor, path, "artifact")
        temporary = store.temporary("import")
        with files.temporary(temporary) as copy:
            files.copy(descriptor, path, copy, block.size)
            files.sync(copy, temporary)
            try:
                with Artifact(temporary) as artifact:
                    _check(artifact)
                    check(artifact)
                    manifest = artifact.manifest
            except (DamagedError, DataError) as error:  # which name the copy
                raise type(error)(str(error).replace(str(temporary), str(path))) from None
            recipe = Recipe(stage=manifest["stage"], **manifest["recipe"])
            adopted = store.place(temporary, recipe.stage, manifest["id"])
            store.note_foreign(Done(recipe, adopted.id, manifest["meta"], manifest["provenance"]))
            return adopted
    finally:
        os.close(descriptor)


def _refuse_others(descriptor: int, path: Path) -> None:
    with files.reported("read", path):
        beginning = os.pread(descriptor, 5, 0)
    if beginning != b"mcis ":
        raise DataError(
            f"{path} is no artifact of mcis: found other first bytes, expected 'mcis artifact'; for maps, saliency and "
            "weights of other tools give --cams, --saliency or --weights"
        )


def _check(artifact: Artifact) -> None:
    try:
        key = Recipe(stage=artifact.stage, **artifact.manifest["recipe"]).key
        found = artifact.content_id()
    except (UsageError, TypeError, ValueError) as error:
        raise files.damaged(artifact.path, f"its manifest cannot be encoded ({error!s:.80})", "JSON") from None
    if key != artifact.key:
        raise files.damaged(artifact.path, f"its recipe has the key {key[:12]}", artifact.key[:12])
    if found != artifact.id:
        raise files.damaged(artifact.path, f"its content has the id {found[:12]}", artifact.id[:12])
