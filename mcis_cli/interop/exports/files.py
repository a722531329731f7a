"""What every format of an export is written with: files as their paths in the folder and their bytes."""

from pathlib import Path
from typing import NamedTuple

from mcis_cli.data.layouts.listing import id_fault
from mcis_cli.errors import DataError


class File(NamedTuple):
    """A file of an export."""

    path: Path
    content: bytes


def require_file_name(name: str, what: str) -> str:
    """A name as part of the name of a file.

    Raises:
        DataError: it would leave the folder, or is no text.
    """
    if "/" in name or id_fault(name):
        raise DataError(f"{what} {name!r:.80} cannot be part of a file's name: expected plain text; rename it")
    return name


def flat_name(image_id: str) -> str:
    """An id without folders."""
    return image_id.replace("/", "_")
