"""`mcis import`: artifacts from elsewhere, and maps, saliency maps and weights of other tools."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.upstream import expected_artifact
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.config import BACKBONES, RunOptions, resolve
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact

KINDS = "FILE.h5, --cams FOLDER, --saliency FOLDER, --corrected PATH, --weights FILE or --affinity-net FILE"
MAX_NOTE = 1000  # characters


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """The kind of import."""

    cams: Annotated[
        Path | None,
        typer.Option(
            "--cams", help="Folder of localization maps: ID.npy, ID.npz, ID/CLASS.png or ID_CLASS.png; needs --data."
        ),
    ] = None
    saliency: Annotated[
        Path | None,
        typer.Option("--saliency", help="Folder of saliency maps, of any size: ID.png, ID.jpg, ID.npy; needs --data."),
    ] = None
    corrected: Annotated[
        Path | None,
        typer.Option(
            "--corrected",
            metavar="PATH",
            help="Corrected pseudo masks: a folder of PNG, COCO JSON, or an export of CVAT or Label Studio. "
            "The argument names the masks that were corrected.",
        ),
    ] = None
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="Who corrected the masks, or how; with --corrected.")
    ] = None
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of initial weights, .pth or .safetensors; needs --backbone.")
    ] = None
    affinity_net: Annotated[
        Path | None,
        typer.Option("--affinity-net", help="File of a trained AffinityNet, as its authors name it; needs --backbone."),
    ] = None
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the images; else that of mcis.toml.")] = None
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="The images that maps are imported for; else all.", autocompletion=completion.split
        ),
    ] = None
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images without a map; else an error.")
    ] = False
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="Network that the weights are for; required with --weights and --affinity-net.",
            autocompletion=completion.words(*BACKBONES, "timm:"),
        ),
    ] = None

    def require_one(self, artifacts: list[Path]) -> None:
        """Check that one import is named, and that the other flags apply to it.

        Raises:
            UsageError: none or several are named, or a flag belongs to another one.
        """
        named = {
            "FILE.h5": None if self.corrected else artifacts,
            "--cams": self.cams,
            "--saliency": self.saliency,
            "--corrected": self.corrected,
            "--weights": self.weights,
            "--affinity-net": self.affinity_net,
        }
        given = [name for name, value in named.items() if value]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise UsageError(
                f"choose one kind of import: found {found}, expected one of {KINDS}; see mcis import --help"
            )
        of_maps, of_weights = self.cams or self.saliency, self.weights or self.affinity_net
        for flag, value, fits in (
            ("--data", self.data, of_maps or self.corrected),
            ("--note", self.note, self.corrected),
            ("--split", self.split, of_maps),
            ("--allow-missing", self.allow_missing, of_maps),
            ("--backbone", self.backbone, of_weights),
        ):
            if value and not fits:
                raise UsageError(f"{flag} cannot be used with {given[0]}; leave it out, or see mcis import --help")
        if self.corrected and len(artifacts) > 1:
            raise UsageError(f"--corrected corrects one artifact: found {len(artifacts)}, expected one of pseudo masks")
        if len(self.note or "") > MAX_NOTE:
            raise UsageError(
                f"--note has {len(self.note or ''):,} characters, expected at most {MAX_NOTE:,}; shorten it"
            )


def import_(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE.h5|MASKS",
            help="Artifacts of mcis that were made elsewhere; with --corrected the masks that were corrected: path, id "
            "or name, else those of mcis.toml.",
        ),
    ] = None,
    *,
    foreign: Foreign,
    workers: opt.Workers = None,
    place: Place,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Import artifacts, maps, masks or weights from elsewhere.

    Every file is checked, and none is executed.

    Example: mcis import --cams irn/cams --data VOC2012 --split train
    """
    foreign.require_one(artifacts or [])
    workspace = place.open()
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(workers=workers, reporter=reporter)
    started = time.monotonic()
    try:
        if foreign.weights or foreign.affinity_net:
            made = [_weights(foreign, workspace, options)]
        elif foreign.cams or foreign.saliency:
            made = [_maps(foreign, workspace, options)]
        elif foreign.corrected:
            made = [_corrected(foreign.corrected, foreign, artifacts or [], workspace, options)]
        else:
            made = _artifacts(artifacts or [], workspace)
    finally:
        reporter.stop()
    for artifact in made:
        announce(
            artifact,
            cached=bool(foreign.corrected or not artifacts) and not reporter.worked,
            seconds=time.monotonic() - started,
            as_json=as_json,
            quiet=quiet,
        )


def _artifacts(paths: list[Path], workspace: Workspace) -> list[Artifact]:
    from mcis_cli.interop.imports import artifact as import_artifact

    return import_artifact.run(paths, workspace.store)


def _maps(foreign: Foreign, workspace: Workspace, options: RunOptions) -> Artifact:
    images = workspace.data(foreign.data)
    if images is None:
        raise UsageError("no images are named: expected the folder that the maps were made for; give it with --data")
    from mcis_cli.interop.imports import maps, saliency
    from mcis_cli.stages.engine.inputs import Inputs

    folder = foreign.cams or foreign.saliency
    assert folder is not None, "one of both was given"
    run = maps.run if foreign.cams else saliency.run
    inputs, missing = Inputs(data=images), foreign.allow_missing
    return run(folder, inputs, workspace.store, options, split=foreign.split, allow_missing=missing)


def _corrected(path: Path, foreign: Foreign, named: list[Path], workspace: Workspace, options: RunOptions) -> Artifact:
    from mcis_cli.interop.imports import corrected
    from mcis_cli.stages import names_of
    from mcis_cli.stages.engine.inputs import Inputs

    reference = str(named[0]) if named else None
    masks = expected_artifact(workspace, reference, names_of("pseudo masks")[0])
    inputs = Inputs(upstream=masks, data=workspace.data_for(masks, foreign.data, reference))
    return corrected.run(path, inputs, workspace.store, options, note=foreign.note or "")


def _weights(foreign: Foreign, workspace: Workspace, options: RunOptions) -> Artifact:
    file, backbone = foreign.weights or foreign.affinity_net, foreign.backbone
    assert file is not None, "one of both was given"
    if backbone is None:
        raise UsageError(f"the network that {file} is for is not named: expected --backbone vgg16, resnet50, …")
    checked = resolve({"train-cls": {"backbone": backbone}}).train_cls.backbone
    from mcis_cli.interop.imports import weights
    from mcis_cli.training.initial_weights import load_initial_weights

    run = weights.run if foreign.weights else weights.run_affinity_net
    return run(checked, load_initial_weights(checked, file), workspace.store, options)
