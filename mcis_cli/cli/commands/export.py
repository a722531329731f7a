"""`mcis export`: masks, maps and networks as files that other tools read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.commands.formats import Format, FormatFlags
from mcis_cli.cli.commands.onnx import require_onnx, write_onnx
from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.parameters import Flags, SectionFlags, add_command
from mcis_cli.cli.session.upstream import expected_artifact, upstream_reference
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.errors import UsageError, counted

if TYPE_CHECKING:
    from mcis_cli.interop.exports.content import Export, File


def export(
    artifact: opt.Upstream = None,
    *,
    format: Annotated[Format, FormatFlags()],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")] = Path("export"),
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has something in it.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Copy the photographs, too: --voc, --coco, --panoptic, --yolo.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Which images; else all of an artifact, val for a network.", autocompletion=completion.split
        ),
    ] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="--maps: at the photograph's size, in [0, 1]; else as stored.")
    ] = False,
    competition: Annotated[
        str | None,
        typer.Option("--competition", help="--voc-submission: comp6 (default), or comp5 for data of VOC alone."),
    ] = None,
    flags: Annotated[Flags, SectionFlags("eval", "crf", "scales", "flip", "window")],
    data: opt.DataOption = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    place: Place,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write masks, maps, predictions or a network for other tools.

    Prints the folder of the files.

    Example: mcis export 3fa8c1d2 --voc --images -o for-cvat
    """
    onnx = format.flag == "--onnx"
    given = {f"--{name}": value for name, value in flags.tables["eval"].items()}
    for_others = {
        "--images": images and format.photographs is None,
        "--full-size": full_size and format.flag != "--maps",
        "--competition": competition is not None and format.flag != "--voc-submission",
        "--split": onnx and split is not None,
        "--data": onnx and data is not None,
        "--device": onnx and device not in ("auto", "cpu"),
        **{flag: onnx and value is not None for flag, value in given.items()},
    }
    _refuse(format.flag, [flag for flag, is_odd in for_others.items() if is_odd])
    if competition not in (None, "comp5", "comp6"):
        raise UsageError(f"competition {competition!r:.80} is not known: expected comp5 or comp6")
    from mcis_cli.stages import holds, names_of

    previous = names_of(format.kinds[0])[0]
    reference = upstream_reference(artifact, previous)
    workspace = place.open(flags, upstream=reference)
    if onnx:
        require_onnx()
    upstream = expected_artifact(workspace, reference, previous)
    if onnx:
        write_onnx(workspace, upstream, output, force=force, quiet=quiet)
        return
    if not holds(upstream, "network"):
        _refuse(f"an artifact of {upstream.stage}", [flag for flag, value in given.items() if value is not None])
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(device=device, workers=workers, reporter=reporter)
    from mcis_cli.interop.exports.content import Export, open_source
    from mcis_cli.stages.engine.inputs import Inputs

    source = open_source(
        Inputs(upstream=upstream, data=workspace.data_for(upstream, data, reference)),
        workspace.store,
        options,
        kinds=format.kinds,
        split=split,
        needs_images=format.needs_images or images or full_size,
    )
    folder = OutputFolder(output, "--output")
    folder.require(empty=not force)
    evaluation = workspace.settings(upstream).eval
    content = Export(source, evaluation, options, full_size=full_size, competition=competition or "comp6")
    reporter.start("export", len(source.ids), images=1)
    try:
        num_written = _write(folder, format.files(content))
        if images and format.photographs is not None:
            num_written += _write(folder, _photographs(content, format))
    finally:
        reporter.stop()
    reporter.note(f"export: {counted(len(source.ids), 'image')}, {counted(num_written, 'file')} in {output}")
    say_path(output)


def _refuse(what: str, flags: list[str]) -> None:
    if flags:
        raise UsageError(f"{flags[0]} has no meaning with {what}; leave it out, or see mcis export --help")


def _write(folder: OutputFolder, files: "Iterator[File]") -> int:
    count = 0
    for file in files:
        folder.write(file.path, file.content)
        count += 1
    return count


def _photographs(content: "Export", format: Format) -> "Iterator[File]":
    """The photographs, upright as the masks are, named as the format names them."""
    from mcis_cli.interop.exports.content import File, flat_name

    folder = str(format.photographs).format(split=content.split)
    for image_id in content.source.ids:
        name = content.file_name(image_id)
        yield File(
            Path(folder, flat_name(name) if format.is_flat else name), content.source.catalogue().read_upright(image_id)
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "export", export)
