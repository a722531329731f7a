"""`mcis export`: masks, maps and networks as files that other tools read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.commands.onnx import require_onnx, write_onnx
from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.parameters import Flags, SectionFlags, add_command
from mcis_cli.cli.session.upstream import expected_artifact, upstream_reference
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.config import EvalConfig, RunOptions
from mcis_cli.errors import UsageError, counted

if TYPE_CHECKING:
    from mcis_cli.interop.exports.files import File, Mask
    from mcis_cli.interop.exports.masks import Maps, Source
    from mcis_cli.stages.stage import Kind

MASKS: tuple["Kind", ...] = ("pseudo masks", "network")
MAPS: tuple["Kind", ...] = ("maps", "walked maps")
OF_NETWORKS = ("--crf", "--scales", "--flip", "--window")


@dataclass(frozen=True)
class Format:
    """A format of an export.

    Attributes:
        kinds: of artifacts that it can be made of; the first is used where none is named.
        needs_images: whether it asks anything of the image set.
        photographs: the folder that `--images` copies photographs to; None where there is no place for them.
    """

    kinds: tuple["Kind", ...]
    needs_images: bool = False
    photographs: str | None = None


FORMATS = {
    "--voc": Format(MASKS, photographs="JPEGImages"),
    "--coco": Format(MASKS, needs_images=True, photographs="images"),
    "--panoptic": Format(MASKS, needs_images=True, photographs="images"),
    "--yolo": Format(MASKS, photographs="images/{split}"),
    "--overlays": Format(MASKS, needs_images=True),
    "--maps": Format(MAPS),
    "--heatmaps": Format(MAPS, needs_images=True),
    "--voc-submission": Format(("network",), needs_images=True),
    "--onnx": Format(("network", "classifier")),
}


def export(
    artifact: opt.Upstream = None,
    voc: Annotated[
        bool, typer.Option("--voc", help="Masks as PASCAL VOC has them, for CVAT and Datumaro, too.")
    ] = False,
    coco: Annotated[bool, typer.Option("--coco", help="Masks as JSON of COCO, run lengths for each class.")] = False,
    panoptic: Annotated[bool, typer.Option("--panoptic", help="Masks as panoptic pictures and JSON of COCO.")] = False,
    yolo: Annotated[bool, typer.Option("--yolo", help="Masks as polygons for YOLO's segmentation.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Pictures of photographs under their masks.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="Maps as ID.npy, each a dictionary of classes.")] = False,
    heatmaps: Annotated[bool, typer.Option("--heatmaps", help="Pictures of photographs under their maps.")] = False,
    voc_submission: Annotated[
        bool, typer.Option("--voc-submission", help="Predictions for the evaluation server of PASCAL VOC 2012.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="The network itself, or the classifier, for onnxruntime; with a model card.")
    ] = False,
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
    *,
    flags: Annotated[Flags, SectionFlags("eval", "crf", "scales", "flip", "window")],
    data: opt.DataOption = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    place: Place,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write masks, maps, what a network predicts, or the network, as files of other tools; prints their folder.

    Example: mcis export 3fa8c1d2 --voc --images -o for-cvat
    """
    kinds = (voc, coco, panoptic, yolo, overlays, maps, heatmaps, voc_submission, onnx)
    chosen = _one_format([name for name, given in zip(FORMATS, kinds, strict=True) if given])
    wanted = FORMATS[chosen]
    given = {f"--{name}": value for name, value in flags.tables["eval"].items()}
    for_others = {
        "--images": images and wanted.photographs is None,
        "--full-size": full_size and chosen != "--maps",
        "--competition": competition is not None and chosen != "--voc-submission",
        "--split": onnx and split is not None,
        "--data": onnx and data is not None,
        "--device": onnx and device not in ("auto", "cpu"),
        **{flag: onnx and value is not None for flag, value in given.items()},
    }
    _refuse(chosen, [flag for flag, is_odd in for_others.items() if is_odd])
    if competition not in (None, "comp5", "comp6"):
        raise UsageError(f"competition {competition!r:.80} is not known: expected comp5 or comp6")
    from mcis_cli.stages import holds, names_of

    previous = names_of(wanted.kinds[0])[0]
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
    from mcis_cli.interop.exports.masks import open_source
    from mcis_cli.stages.engine.inputs import Inputs

    source = open_source(
        Inputs(upstream=upstream, data=workspace.data_for(upstream, data, reference)),
        workspace.store,
        options,
        kinds=wanted.kinds,
        split=split,
        needs_images=wanted.needs_images or images or full_size,
    )
    folder = OutputFolder(output, "--output")
    folder.require(empty=not force)
    evaluation = workspace.settings(upstream).eval
    files = _files(chosen, source, evaluation, options, full_size=full_size, competition=competition or "comp6")
    reporter.start("export", len(source.ids), images=1)
    try:
        num_written = _write(folder, files)
        if images and wanted.photographs is not None:
            num_written += _write(folder, _photographs(source, wanted.photographs.format(split=source.split), chosen))
    finally:
        reporter.stop()
    reporter.note(f"export: {counted(len(source.ids), 'image')}, {counted(num_written, 'file')} in {output}")
    say_path(output)


def _one_format(given: list[str]) -> str:
    if len(given) != 1:
        raise UsageError(
            f"what is exported is not clear: found {' and '.join(given) or 'none'}, expected one of "
            f"{', '.join(FORMATS)}; see mcis export --help"
        )
    return given[0]


def _refuse(what: str, flags: list[str]) -> None:
    if flags:
        raise UsageError(f"{flags[0]} has no meaning with {what}; leave it out, or see mcis export --help")


def _write(folder: OutputFolder, files: "Iterator[File]") -> int:
    count = 0
    for file in files:
        folder.write(file.path, file.content)
        count += 1
    return count


def _photographs(source: "Source", folder: str, chosen: str) -> "Iterator[File]":
    from mcis_cli.interop.exports.files import photographs
    from mcis_cli.interop.exports.yolo import flat_name

    return photographs(source.catalogue(), source.ids, folder, flat_name if chosen == "--yolo" else str)


def _files(
    chosen: str, source: "Source", config: EvalConfig, options: RunOptions, *, full_size: bool, competition: str
) -> "Iterator[File]":
    """The files of a format, made as they are asked for."""
    from mcis_cli.interop.exports import masks as stage
    from mcis_cli.interop.exports.coco import coco_files, panoptic_files
    from mcis_cli.interop.exports.files import photograph_name
    from mcis_cli.interop.exports.maps import map_files
    from mcis_cli.interop.exports.voc import VOC_CLASSES, submission_files, voc_files
    from mcis_cli.interop.exports.yolo import yolo_files
    from mcis_cli.report import exported

    def masks() -> "Iterator[tuple[str, Mask]]":
        for image_id, mask in stage.masks(source, config, options):
            options.reporter.advance()
            yield image_id, mask

    def maps() -> "Iterator[tuple[str, Maps]]":
        is_full = full_size or chosen == "--heatmaps"
        for image_id, by_class in stage.full_maps(source, config) if is_full else stage.maps(source):
            options.reporter.advance()
            yield image_id, by_class

    def file_name(image_id: str) -> str:
        return photograph_name(source.catalogue(), image_id)

    def submission() -> "Iterator[File]":
        if source.class_names != VOC_CLASSES:
            options.reporter.warn("the classes are not the 20 of PASCAL VOC in their order: the server will not score")
        return submission_files(masks(), competition)

    names, split = source.class_names, source.split
    made: dict[str, Callable[[], Iterator[File]]] = {
        "--voc": lambda: voc_files(masks(), names, split),
        "--coco": lambda: coco_files(masks(), names, split, file_name),
        "--panoptic": lambda: panoptic_files(masks(), names, split, file_name),
        "--yolo": lambda: yolo_files(masks(), names, split),
        "--overlays": lambda: exported.overlay_files(masks(), source.catalogue().read_image),
        "--maps": lambda: map_files(maps()),
        "--heatmaps": lambda: exported.heat_files(maps(), source.catalogue().read_image, names),
        "--voc-submission": submission,
    }
    return made[chosen]()


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "export", export)
