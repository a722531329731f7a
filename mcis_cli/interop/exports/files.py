"""What every format of an export is written with: files as their paths in the folder and their bytes."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.layouts.listing import id_fault
from mcis_cli.errors import DataError

Mask = UInt8[ndarray, "height width"]
Masks = Iterable[tuple[str, Mask]]


class File(NamedTuple):
    """A file of an export."""

    path: Path
    content: bytes


def photographs(
    images: Catalogue, ids: Iterable[str], folder: str, rename: Callable[[str], str] = str
) -> Iterator[File]:
    """The photographs as they are, below a folder, named by id, or by what is made of the id."""
    for image_id in ids:
        name = rename(photograph_name(images, image_id))
        yield File(Path(folder, name), images.read_file(image_id))


def photograph_name(images: Catalogue, image_id: str) -> str:
    """The id with the extension of its photograph."""
    return image_id + PurePosixPath(images[image_id].image).suffix


def require_file_name(name: str, what: str) -> str:
    """A name as part of the name of a file.

    Raises:
        DataError: it would leave the folder, or is no text.
    """
    if "/" in name or id_fault(name):
        raise DataError(f"{what} {name!r:.80} cannot be part of a file's name: expected plain text; rename it")
    return name
