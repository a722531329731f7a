"""`mcis export`: masks, maps and networks as files that other tools read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.cli.commands.formats import Format, FormatFlags
from mcis_cli.cli.commands.onnx import require_onnx, write_onnx
from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import next_steps
from mcis_cli.cli.session.groups import PredictionPlace
from mcis_cli.cli.session.ids import read_ids
from mcis_cli.cli.session.prediction import prediction_settings
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.upstream import expected_artifact, reads_pipe, upstream_reference
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.config import EvalConfig
from mcis_cli.errors import UsageError, counted
from mcis_cli.store import Store

if TYPE_CHECKING:
    from mcis_cli.interop.exports.content import Export, File
    from mcis_cli.stages.engine.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is exported, and how."""

    format: Annotated[Format, FormatFlags()]
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")] = Path("export")
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="Copy the photographs, too: --voc, --coco, --panoptic, --yolo, --cvat, --label-studio."
        ),
    ] = False
    ids: opt.Ids = None
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Which images; else all of an artifact, val for a network.", autocompletion=completion.split
        ),
    ] = None
    full_size: Annotated[
        bool, typer.Option("--full-size", help="--maps: at the photograph's size, in [0, 1]; else as stored.")
    ] = False
    competition: Annotated[
        str | None,
        typer.Option("--competition", help="--voc-submission: comp6 (default), or comp5 for data of VOC alone."),
    ] = None
    flags: Annotated[Flags, SectionFlags("eval", "crf", "scales", "flip", "window")]
    data: opt.DataOption = None
    device: opt.Device = "auto"
    workers: opt.Workers = None

    @property
    def is_onnx(self) -> bool:
        """Whether the network itself is exported."""
        return self.format.flag == "--onnx"

    @property
    def evaluation(self) -> dict[str, Any]:
        """Settings of what a network predicts, by flag."""
        return {f"--{name}": value for name, value in self.flags.tables["eval"].items()}

    def refuse_other_flags(self) -> None:
        """Check that the flags are for the format.

        Raises:
            UsageError: one is not, or the competition is not known.
        """
        flag, onnx = self.format.flag, self.is_onnx
        for_others = {
            "--images": self.images and self.format.photographs is None,
            "--full-size": self.full_size and flag != "--maps",
            "--competition": self.competition is not None and flag != "--voc-submission",
            "--ids": onnx and self.ids is not None,
            "--split": onnx and self.split is not None,
            "--data": onnx and self.data is not None,
            "--device": onnx and self.device not in ("auto", "cpu"),
            **{name: onnx and value is not None for name, value in self.evaluation.items()},
        }
        _refuse(flag, [name for name, is_odd in for_others.items() if is_odd])
        if self.competition not in (None, "comp5", "comp6"):
            raise UsageError(f"competition {self.competition!r:.80} is not known: expected comp5 or comp6")


def export(
    artifact: opt.Upstream = None,
    *,
    asked: Asked,
    place: PredictionPlace,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write masks, maps, predictions or a network for other tools.

    Prints the folder of the files.

    Predictions depend on the network and the flags alone. A mcis.toml is used only if --config names it.

    Example: mcis export 3fa8c1d2 --voc --images -o for-cvat
    """
    asked.refuse_other_flags()
    if asked.ids == Path("-") and reads_pipe(artifact):
        raise UsageError("--ids - reads the list from stdin: give the artifact as the argument")
    from mcis_cli.stages import holds, names_of
    from mcis_cli.stages.engine.inputs import Inputs

    previous = names_of(asked.format.kinds[0])[0]
    reference = upstream_reference(artifact, previous)
    workspace = place.open(asked.flags, upstream=reference)
    if asked.is_onnx:
        require_onnx()
    upstream = expected_artifact(workspace, reference, previous)
    if asked.is_onnx:
        write_onnx(workspace, upstream, asked.output, force=asked.force, quiet=quiet)
        return
    if not holds(upstream, "network"):
        given = [flag for flag, value in asked.evaluation.items() if value is not None]
        _refuse(f"an artifact of {upstream.stage}", given)
    inputs = Inputs(upstream=upstream, data=workspace.data_for(upstream, asked.data, reference))
    reporter = TerminalReporter(quiet=quiet)
    _write_files(asked, inputs, workspace.store, prediction_settings("export", workspace, upstream, reporter), reporter)
    say_path(asked.output)
    reporter.suggest(*(step for step in next_steps(upstream, reference) if not step.startswith("`mcis export")))


def _write_files(
    asked: Asked, inputs: "Inputs", store: Store, evaluation: EvalConfig, reporter: TerminalReporter
) -> None:
    from mcis_cli.interop.exports.content import Export, open_source

    format = asked.format
    options = opt.run_options(device=asked.device, workers=asked.workers, reporter=reporter)
    source = open_source(
        inputs,
        store,
        options,
        kinds=format.kinds,
        split=asked.split,
        needs_images=format.needs_images or asked.images or asked.full_size,
    )
    if asked.ids is not None:
        source = source.only(read_ids(asked.ids, "--ids"))
    folder = OutputFolder(asked.output, "--output")
    folder.require(empty=not asked.force)
    competition = asked.competition or "comp6"
    content = Export(source, evaluation, options, full_size=asked.full_size, competition=competition)
    reporter.start("export", len(source.ids), images=1)
    try:
        num_written = _write(folder, format.files(content))
        if asked.images and format.photographs is not None:
            num_written += _write(folder, _photographs(content, format))
    finally:
        reporter.stop()
    reporter.note(f"export: {counted(len(source.ids), 'image')}, {counted(num_written, 'file')} in {asked.output}")


def _refuse(what: str, flags: list[str]) -> None:
    if flags:
        raise UsageError(f"{flags[0]} cannot be used with {what}; leave it out, or see mcis export --help")


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
