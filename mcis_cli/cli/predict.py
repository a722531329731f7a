"""`mcis predict`: masks for new photographs, as palette PNGs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli import options as opt
from mcis_cli.cli.folder_output import OutputFolder
from mcis_cli.cli.output import TerminalReporter, say_path
from mcis_cli.cli.workspace import open_workspace
from mcis_cli.errors import DataError, UsageError, counted


def predict(
    model: Annotated[str, typer.Argument(help="Segmentation network: path, id or tag.")],
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.")] = Path("masks"),
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write a picture of photograph and mask beside each.")
    ] = False,
    crf: opt.Crf = None,
    scales: opt.Scales = None,
    flip: opt.Flip = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Longest side of one pass; larger photographs go in windows.")
    ] = None,
    device: opt.Device = "auto",
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write the mask of each photograph: a palette PNG of its size, 0 background, 1 the first class.

    Example: mcis predict 3fa8c1d2 holiday/ -o masks --overlay
    """
    flags = {"eval": {"crf": crf, "scales": opt.numbers(scales), "flip": flip, "window": window}}
    workspace = open_workspace(
        store=store, config=config, assignments=assignments or (), flags=flags, upstream=model, may_create=False
    )
    network = workspace.store.get(model)
    if network.stage != "train-seg":
        raise UsageError(
            f"{network.path.name} was made by {network.stage}: expected a network of train-seg; "
            f"`mcis ls --stage train-seg` shows what there is"
        )
    named = dict(targets(images, output))
    folder = OutputFolder(output, "--output")
    folder.require()
    from mcis_cli.data.palette import voc_palette, write_mask_png
    from mcis_cli.report.figures import overlay as overlaid
    from mcis_cli.report.figures import png_bytes
    from mcis_cli.stages import predict as stage

    reporter = TerminalReporter(quiet=quiet)
    reporter.start("predict", len(named))
    faults: list[str] = []
    try:
        for prediction in stage.run(workspace.settings(network).eval, network, named, opt.run_options(device=device)):
            reporter.advance()
            if prediction.image is None or prediction.mask is None:
                faults.append(prediction.fault or "unknown")
                if len(named) > 1:  # else the last line tells it
                    reporter.warn(faults[-1])
                continue
            inside = named[prediction.path]
            target = folder.write(inside, write_mask_png(prediction.mask))
            if overlay:
                picture = overlaid(prediction.image, prediction.mask, voc_palette())
                folder.write(inside.with_name(f"{inside.stem}-overlay.png"), png_bytes(picture))
            say_path(target)
    finally:
        reporter.stop()
    if faults:
        written = f"the other {len(named) - len(faults)} written" if len(faults) < len(named) else "none written"
        raise DataError(f"no mask for {len(faults)} of {counted(len(named), 'photograph')}, {written}: {faults[0]}")


def targets(images: list[Path], output: Path) -> Iterator[tuple[Path, Path]]:
    """Each photograph with the file of its mask below `output`; folders are searched, and keep their structure.

    What is in `output` already, if that is a folder within, is no photograph.

    Raises:
        UsageError: a path does not exist, there is no photograph, two of them would have the same mask file, or a
            mask would be written over a photograph.
        DataError: the name of a photograph is no text, so that its mask could not be named in a line.
    """
    from mcis_cli.data.images import PHOTO_SUFFIXES
    from mcis_cli.data.listing import id_fault, suffix_list

    taken: dict[Path, Path] = {}
    for given in images:
        if not given.exists():
            raise UsageError(f"{given} does not exist: expected a photograph or a folder of them")
        found = list(_photographs(given, output)) if given.is_dir() else [given]
        if not found:
            raise UsageError(f"no photograph in {given}: expected files named {suffix_list(PHOTO_SUFFIXES)}")
        for path in found:
            inside = (path.relative_to(given) if given.is_dir() else Path(path.name)).with_suffix(".png")
            if fault := id_fault(inside.as_posix()):
                raise DataError(f"{path}: {fault}; rename the photograph")
            if inside in taken and taken[inside] != path:
                both = f"{taken[inside]} and {path}"
                raise UsageError(f"{both} would both be written to {output / inside}; predict them apart")
            taken[inside] = path
            yield path, inside
    sources = {path.resolve() for path in taken.values()}
    if over := next((inside for inside in taken if (output / inside).resolve() in sources), None):
        raise UsageError(
            f"{output / over} is a photograph, and would be written over; choose another folder with --output"
        )


def _photographs(folder: Path, output: Path) -> Iterator[Path]:
    from mcis_cli.data.images import PHOTO_SUFFIXES

    masks = output.resolve()
    is_inside = folder.resolve() in masks.parents
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PHOTO_SUFFIXES and not (is_inside and masks in path.resolve().parents):
            yield path


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)
