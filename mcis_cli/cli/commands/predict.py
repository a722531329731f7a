"""`mcis predict`: masks for new photographs, as palette PNGs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import PredictionPlace
from mcis_cli.cli.session.photographs import find
from mcis_cli.cli.session.prediction import prediction_settings
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say, say_path
from mcis_cli.errors import DataError, UsageError, counted
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.predict.run import Prediction


Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="Artifact of a segmentation network: path, id or name, or train-seg for the newest.",
        autocompletion=completion.artifact_of("network"),
    ),
]
Photographs = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGES",
        help="Photographs, folders of them, patterns as 'shots/**/*.jpg', or - for a list on stdin.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Outputs for each photograph, and how it is predicted."""

    overlay: Annotated[bool, typer.Option("--overlay", help="Write an image of photograph and mask beside each.")] = (
        False
    )
    flags: Annotated[Flags, SectionFlags("eval", "crf", "scales", "flip", "window")]
    device: opt.Device = "auto"


def predict(
    network: Network,
    images: Photographs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.")] = Path("masks"),
    *,
    writing: Writing,
    place: PredictionPlace,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each: labels, areas, confidences; or the error.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write a mask for each of some photographs, with a network.

    A mask is a palette PNG of the size of its photograph: 0 is background, 1 the first class.

    The masks depend on the network and the flags alone. A mcis.toml is used only if --config names it.

    Example: mcis predict 3fa8c1d2 holiday/ -o masks --overlay
    """
    workspace = place.open(writing.flags, upstream=network, may_create=False)
    artifact = _network(workspace, network)
    named, folder, reporter = find(images, output), OutputFolder(output, "--output"), TerminalReporter(quiet=quiet)
    folder.require()
    from mcis_cli.stages.predict import run as stage

    if left_out := named.note_of_left_out:
        reporter.warn(left_out)
    settings = prediction_settings("predict", workspace, artifact, reporter)
    reporter.start("predict", len(named.masks), images=1)
    labels = ["background", *artifact.meta["class_names"]]
    faults: list[str] = []
    try:
        for prediction in stage.run(settings, artifact, named.masks, opt.run_options(device=writing.device)):
            reporter.advance()
            if prediction.image is None or prediction.mask is None:
                faults.append(_report_fault(prediction, reporter, as_json=as_json, is_alone=len(named.masks) == 1))
                continue
            target = _write(prediction, named.masks[prediction.path], folder, overlay=writing.overlay)
            if as_json:
                say(json.dumps(described(prediction, target, labels)))
            else:
                say_path(target)
    finally:
        reporter.stop()
    _raise_for(faults, len(named.masks))
    if not as_json and not writing.overlay:
        reporter.suggest("with --overlay, the command also draws each mask over its photograph")


def _network(workspace: Workspace, reference: str) -> Artifact:
    from mcis_cli.stages import holds, names_of

    network = workspace.store.get(reference)
    if not holds(network, "network"):
        (stage_name,) = names_of("network")
        raise UsageError(
            f"{network.path.name} was made by {network.stage}: expected a network of {stage_name}; "
            f"`mcis ls --stage {stage_name}` lists them"
        )
    return network


def _write(prediction: "Prediction", inside: Path, folder: OutputFolder, *, overlay: bool) -> Path:
    """Write a mask and its overlay; returns the path of the mask."""
    from mcis_cli.data.palette import voc_palette, write_mask_png
    from mcis_cli.report.figures import overlay as overlaid
    from mcis_cli.report.figures import png_bytes

    assert prediction.image is not None
    assert prediction.mask is not None
    target = folder.write(inside, write_mask_png(prediction.mask))
    if overlay:
        picture = overlaid(prediction.image, prediction.mask, voc_palette())
        folder.write(inside.with_name(f"{inside.stem}-overlay.png"), png_bytes(picture))
    return target


def _report_fault(prediction: "Prediction", reporter: TerminalReporter, *, as_json: bool, is_alone: bool) -> str:
    """Print why a photograph has no mask, and return it; of a single one, the error at the end says it."""
    fault = prediction.fault or "unknown"
    if as_json:
        say(json.dumps({"image": str(prediction.path), "error": fault}))
    if not is_alone:
        reporter.warn(fault)
    return fault


def _raise_for(faults: Sequence[str], total: int) -> None:
    if faults:
        written = f"the other {total - len(faults)} written" if len(faults) < total else "none written"
        raise DataError(f"no mask for {len(faults)} of {counted(total, 'photograph')}, {written}: {faults[0]}")


def described(prediction: "Prediction", target: Path, labels: Sequence[str]) -> dict[str, Any]:
    """A mask as JSON: its size, and each label with its pixels, its share of them, and the mean probability of the
    network there."""
    assert prediction.mask is not None
    height, width = prediction.mask.shape
    regions = [
        {
            "label": labels[region.value],
            "value": region.value,
            "pixels": region.pixels,
            "area": round(region.pixels / (height * width), 6),
            "confidence": round(region.confidence, 4),
        }
        for region in prediction.regions
    ]
    return {
        "image": str(prediction.path),
        "mask": str(target),
        "height": height,
        "width": width,
        "labels": regions,
    }
