"""`mcis run`: a list of stages, nothing more."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.cli.commands.affinity import walked_maps
from mcis_cli.cli.session import launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.forecast import forecaster, tell
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.config import DataConfig, RunOptions, Settings
from mcis_cli.errors import UsageError, counted
from mcis_cli.store import Artifact, Store

if TYPE_CHECKING:
    from mcis_cli.data.catalogue import Catalogue

Scores = Mapping[str, Any]


def run(
    preset: opt.Preset = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of every stage.")] = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the whole chain that mcis.toml describes; what is done is found done.

    Example: mcis init photos/ && mcis run
    """
    if launched.rank() is not None:
        raise UsageError(
            "mcis run does its stages in one process, found several (WORLD_SIZE); give torchrun a single stage, as in "
            "torchrun --nproc-per-node 2 -m mcis_cli train-cls"
        )
    flags = {stage: {"seed": seed} for stage in ("train-cls", "cams", "affinity", "train-seg")}
    workspace = open_workspace(
        store=store, config=config, preset=preset, assignments=assignments or (), flags=flags, may_create=not dry_run
    )
    data = workspace.data()
    if data is None:
        raise UsageError("no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it")
    if dry_run:
        _foretell(workspace, data, device, as_json=as_json)
        return
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(device=device, workers=workers, preset=workspace.preset(), reporter=reporter)
    started = time.monotonic()
    try:
        made = chain(workspace.settings(), data, workspace.store, options)
    finally:
        reporter.stop()
    extra: dict[str, Any] = {}
    if made[-1].stage == "eval":
        from mcis_cli.stages.evaluate.run import metrics

        extra["metrics"] = metrics(made[-1])
        if not quiet:
            print_scores(extra["metrics"])
    announce(
        made[-1],
        cached=not reporter.worked,
        seconds=time.monotonic() - started,
        as_json=as_json,
        quiet=quiet,
        extra=extra,
    )


def _foretell(workspace: Workspace, data: DataConfig, device: str, *, as_json: bool) -> None:
    """What `chain` would do."""
    from mcis_cli.stages.plan.chain import chain_of

    settings = workspace.settings()
    stages = tuple(chain_of(settings))
    with forecaster(workspace, data, device) as looking:
        without = num_without_ground_truth(settings, data, looking.catalogue)
        first = stages.index("train-seg") if settings.train_seg.supervision == "full" else 0
        tell(list(looking.chain(settings, stages[first : -1 if without else None])), as_json=as_json)


def chain(settings: Settings, data: DataConfig, store: Store, options: RunOptions) -> list[Artifact]:
    """The stages, one after the other; the maps walk where the pseudo masks want that.

    Without ground truth the last is left out, which is said first; so are those before the network where it learns from
    ground truth itself.
    """
    from mcis_cli.stages.cams import run as cams
    from mcis_cli.stages.engine.inputs import Inputs, list_images
    from mcis_cli.stages.evaluate import run as evaluate
    from mcis_cli.stages.pseudo import run as pseudo
    from mcis_cli.stages.train_cls import run as train_cls
    from mcis_cli.stages.train_seg import run as train_seg

    without = num_without_ground_truth(settings, data, list_images(data, store))
    if without:
        options.reporter.warn(
            f"ground truth missing for {counted(without, 'image')} of split {settings.eval.split or data.val!r}: "
            "the chain ends with the network, without eval"
        )

    def train(inputs: Inputs) -> Artifact:
        return train_seg.run(settings.train_seg, inputs, store, options)

    def walk(inputs: Inputs) -> Artifact:
        return walked_maps(settings.affinity, inputs.expect("cams"), data, store, options)

    stages: tuple[Callable[[Inputs], Artifact], ...] = (
        lambda inputs: train_cls.run(settings.train_cls, inputs, store, options),
        lambda inputs: cams.run(settings.cams, inputs, store, options),
        *((walk,) if settings.pseudo.background == "affinity" else ()),
        lambda inputs: pseudo.run(settings.pseudo, inputs, store, options),
        train,
        lambda inputs: evaluate.run(settings.eval, inputs, store, options),
    )
    first = stages.index(train) if settings.train_seg.supervision == "full" else 0
    made: list[Artifact] = []
    for stage in stages[first : -1 if without else None]:
        made.append(stage(Inputs(upstream=made[-1] if made else None, data=data)))
        options.reporter.note(f"{made[-1].stage}: {made[-1].path.stem}")
    return made


def num_without_ground_truth(settings: Settings, data: DataConfig, images: "Catalogue") -> int:
    """How many images lack it of those that the network is scored on."""
    scored = images.split(settings.eval.split or data.val)
    return sum(entry.mask is None for entry in scored.entries)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)
