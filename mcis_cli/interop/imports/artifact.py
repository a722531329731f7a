"""`import FILE.h5`: an artifact from elsewhere gets a name in this store, after everything in it has been checked."""

from collections.abc import Sequence
from pathlib import Path

from mcis_cli.data.formats import id_fault
from mcis_cli.errors import DataError
from mcis_cli.stages import check, read_records, stages
from mcis_cli.store import Artifact, Store
from mcis_cli.store.files import damaged
from mcis_cli.store.upkeep.adoption import adopt


def run(paths: Sequence[Path], store: Store) -> list[Artifact]:
    """Import artifacts, one after another. Existing ones stay.

    Raises:
        DataError: there is no such file, or it is not an artifact, or one of an unknown stage.
        DamagedError: it is not what its stage writes, or damaged.
    """
    for path in paths:
        _require_file(path)
    return [adopt(store, path, _check) for path in paths]


def _require_file(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise DataError(
            f"{path} cannot be imported: found {found}, expected an artifact of mcis; for maps, saliency and weights "
            "of other tools give --cams, --saliency or --weights"
        )


def _check(artifact: Artifact) -> None:
    if artifact.stage not in stages():
        raise DataError(
            f"{artifact.path} was made by {artifact.stage}: expected one of {', '.join(stages())}; it is of a newer "
            "mcis: pip install --upgrade mcis"
        )
    check(artifact)
    for image_id in artifact.ids:
        if fault := id_fault(image_id):
            raise damaged(artifact.path, f"it has {fault:.120}", "ids of images")
    for _ in read_records(artifact):
        pass
