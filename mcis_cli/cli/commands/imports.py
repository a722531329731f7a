"""`mcis import`: artifacts from elsewhere, and what other tools made: maps, saliency, weights."""

import time
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.parameters import Flags, SectionFlags, add_command
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.config import RunOptions, resolve
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact

KINDS = "FILE.h5, --cams FOLDER, --saliency FOLDER, --weights FILE or --affinity-net FILE"


def import_(
    artifacts: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE.h5", help="Artifacts of mcis that were made elsewhere.")
    ] = None,
    cams: Annotated[
        Path | None,
        typer.Option(
            "--cams", help="Folder of localization maps: ID.npy, ID.npz, ID/CLASS.png or ID_CLASS.png; needs --data."
        ),
    ] = None,
    saliency: Annotated[
        Path | None,
        typer.Option("--saliency", help="Folder of saliency maps, of any size: ID.png, ID.jpg, ID.npy; needs --data."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of initial weights, .pth or .safetensors; needs --backbone.")
    ] = None,
    affinity_net: Annotated[
        Path | None,
        typer.Option("--affinity-net", help="File of a trained AffinityNet, as its authors name it; needs --backbone."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the images; else that of mcis.toml.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="The images that maps are imported for; else all.", autocompletion=completion.split
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images without a map; else an error.")
    ] = False,
    *,
    network: Annotated[Flags, SectionFlags("train-cls", "backbone")],
    workers: opt.Workers = None,
    place: Place,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Import artifacts, maps or weights that were made elsewhere.

    Every file is checked, and none is executed.

    Example: mcis import --cams irn/cams --data VOC2012 --split train
    """
    given = [name for name, value in (("FILE.h5", artifacts), ("--cams", cams), ("--saliency", saliency)) if value]
    given += [flag for flag, file in (("--weights", weights), ("--affinity-net", affinity_net)) if file]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UsageError(
            f"what is imported is not clear: found {found}, expected one of {KINDS}; see mcis import --help"
        )
    of_maps, backbone = cams or saliency, network.tables["train-cls"]["backbone"]
    for flag, value, fits in (
        ("--data", data, of_maps),
        ("--split", split, of_maps),
        ("--allow-missing", allow_missing, of_maps),
        ("--backbone", backbone, weights or affinity_net),
    ):
        if value and not fits:
            raise UsageError(f"{flag} has no meaning with {given[0]}; leave it out, or see mcis import --help")
    workspace = place.open()
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(workers=workers, reporter=reporter)
    started = time.monotonic()
    try:
        if weights is not None or affinity_net is not None:
            made = [_weights(weights, affinity_net, backbone, workspace, options)]
        elif of_maps is not None:
            made = [_maps(cams, saliency, data, workspace, options, split, allow_missing)]
        else:
            made = _artifacts(artifacts or [], workspace)
    finally:
        reporter.stop()
    for artifact in made:
        announce(
            artifact,
            cached=not artifacts and not reporter.worked,
            seconds=time.monotonic() - started,
            as_json=as_json,
            quiet=quiet,
        )


def _artifacts(paths: list[Path], workspace: Workspace) -> list[Artifact]:
    from mcis_cli.interop.imports import artifact as import_artifact

    return import_artifact.run(paths, workspace.store)


def _maps(
    cams: Path | None,
    saliency: Path | None,
    data: Path | None,
    workspace: Workspace,
    options: RunOptions,
    split: str | None,
    allow_missing: bool,
) -> Artifact:
    images = workspace.data(data)
    if images is None:
        raise UsageError("no images are named: expected the folder that the maps were made for; give it with --data")
    from mcis_cli.interop.imports import maps as import_maps
    from mcis_cli.interop.imports import saliency as import_saliency
    from mcis_cli.stages.engine.inputs import Inputs

    inputs = Inputs(data=images)
    if cams is not None:
        return import_maps.run(cams, inputs, workspace.store, options, split=split, allow_missing=allow_missing)
    assert saliency is not None, "one of both was given"
    return import_saliency.run(saliency, inputs, workspace.store, options, split=split, allow_missing=allow_missing)


def _weights(
    weights: Path | None, affinity_net: Path | None, backbone: str | None, workspace: Workspace, options: RunOptions
) -> Artifact:
    file = weights or affinity_net
    assert file is not None, "one of both was given"
    if backbone is None:
        raise UsageError(f"{file} is for a network that is not named: expected --backbone vgg16, resnet50, … with it")
    checked = resolve({"train-cls": {"backbone": backbone}}).train_cls.backbone
    from mcis_cli.interop.imports import affinity_net as import_affinity_net
    from mcis_cli.interop.imports import weights as import_weights
    from mcis_cli.training.initial_weights import load_initial_weights

    run = import_weights.run if weights is not None else import_affinity_net.run
    return run(checked, load_initial_weights(checked, file), workspace.store, options)


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "import", import_)
