"""`mcis saliency`: saliency maps of photographs, by a network from an ONNX file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Start
from mcis_cli.cli.session.groups import PartOptions, PipelineOptions, Place, require_images
from mcis_cli.cli.session.section_flags import Flags
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.config import RunOptions, Settings
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The network, the images, and a folder for the maps beside the store."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME|FILE.onnx",
            help="ONNX file of a saliency network, or the name of one that you have: u2netp, u2net or silueta.",
        ),
    ] = "u2netp"
    split: Annotated[
        str | None,
        typer.Option("--split", help="The images that maps are made of; else all.", autocompletion=completion.split),
    ] = None
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the maps as grey PNGs, besides the artifact.")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False


def saliency(
    data: opt.Images = None,
    *,
    maps: Maps,
    parts: PartOptions,
    workers: opt.Workers = None,
    place: Place,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Make saliency maps with a network of the U²-Net family.

    The network learned from pixel masks of other images. `mcis pseudo --saliency` uses the maps.

    Example: mcis saliency photos/ --model u2netp.onnx
    """
    if maps.force and maps.output is None:
        raise UsageError("--force has an effect only with --output; leave it out, or see mcis saliency --help")
    options = PipelineOptions(device="cpu", workers=workers, place=place, as_json=as_json, quiet=quiet)
    call = Call("saliency", Flags(), options, parts)
    workspace = call.open()
    images = require_images(workspace, data, "saliency photos/")
    from mcis_cli.interop.saliency import run as stage
    from mcis_cli.stages.engine.inputs import Inputs

    file = stage.find_model(maps.model)
    folder = None if maps.output is None else OutputFolder(maps.output, "--output")
    if folder is not None:
        folder.require(empty=not maps.force)

    def work(settings: Settings, options: RunOptions) -> Artifact:
        made = stage.run(file, Inputs(data=images), workspace.store, options, split=maps.split)
        if folder is not None:
            for inside, content in stage.pictures(made):
                folder.write(inside, content)
        return made

    call.run(Start(workspace, None, images), work)
