"""The file of a page that a command writes: a report, which may be overwritten, or a new file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.errors import DataError, UsageError

MARK = b'<meta name="generator" content="mcis '
Output = Annotated[Path, typer.Option("--output", "-o", help="The page to write.")]


@dataclass(frozen=True, kw_only=True)
class PageFile:
    """Options for the file of a page."""

    output: Output = Path("report.html")
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file that is not a report.")] = False

    def checked(self) -> tuple[OutputFolder, Path]:
        """The folder and the name of the page, checked before any work is done.

        Raises:
            UsageError: another file than a report has that name.
            StorageError: the folder cannot be written.
        """
        output = self.output
        if output.is_dir() or not output.name:
            raise UsageError(
                f"{output} is a folder: expected the name of a file, as in --output {output / 'report.html'}"
            )
        if os.path.lexists(output) and not self.force and not _is_report(output):
            raise UsageError(f"{output} already exists and is not a report: give --force to overwrite it")
        folder = OutputFolder(output.parent, "--output")
        folder.require()
        return folder, Path(output.name)


@dataclass(frozen=True, kw_only=True)
class ReviewFile(PageFile):
    """The same with another name by default."""

    output: Output = Path("review.html")


def _is_report(path: Path) -> bool:
    """Whether a file is a report, which may be overwritten."""
    from mcis_cli.data.regular_files import open_regular

    try:
        file, _ = open_regular(path, 2**40)
        with file:
            return MARK in file.read(4096)
    except (DataError, OSError):
        return False
