"""`mcis coco-masks`: ground truth from the outlines in annotations of COCO, as files that scores are made with."""

from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session.groups import Place, require_images
from mcis_cli.cli.session.parameters import Flags, SectionFlags, add_command
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.errors import UsageError, counted


def coco_masks(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Folder in the layout of COCO.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the masks; else masks in DATA, where they count.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", help="Which list of the data set; all is every image.", autocompletion=completion.split
        ),
    ] = "val",
    *,
    described: Annotated[Flags, SectionFlags("data", "tags")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has something in it.")] = False,
    place: Place,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write masks from the outlines in annotations of COCO, to score with; prints their folder.

    Example: mcis coco-masks coco/ --split val
    """
    workspace = place.open(described, may_create=False)
    images = require_images(workspace, data, "coco-masks coco/")
    from mcis_cli.data.palette import write_mask_png
    from mcis_cli.data.reading import layout_of, read_catalogue
    from mcis_cli.interop.coco_masks import outline_masks

    catalogue, root = read_catalogue(images), Path(images.root)
    outlines = layout_of(images, root).outlines
    if outlines is None:
        raise UsageError(
            f"{images.root} has the layout {catalogue.layout}: expected one with outlines, as COCO has them"
        )
    wanted = catalogue.split(split)
    target = output or catalogue.root / "masks"
    folder = OutputFolder(target, "--output")
    folder.require(empty=not force)
    reporter = TerminalReporter(quiet=quiet)
    reporter.start("coco-masks", len(wanted), images=1)
    try:
        for image_id, mask in outline_masks(outlines(images, root), wanted):
            folder.write(Path(f"{image_id}.png"), write_mask_png(mask))
            reporter.advance()
    finally:
        reporter.stop()
    reporter.note(f"coco-masks: {counted(len(wanted), 'mask')} in {target}")
    say_path(target)


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "coco-masks", coco_masks)
