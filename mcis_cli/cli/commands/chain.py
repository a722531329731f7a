"""`mcis run`: a list of stages, nothing more."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.forecast import forecaster, tell
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.config import SECTIONS, DataConfig
from mcis_cli.errors import UsageError

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
    flags = {name: {"seed": seed} for name, section in SECTIONS.items() if "seed" in section.model_fields}
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
        from mcis_cli.stages.plan.chain import run_chain

        made = run_chain(workspace.settings(), data, workspace.store, options)
    finally:
        reporter.stop()
    extra: dict[str, Any] = {}
    from mcis_cli.stages import holds

    if holds(made[-1], "scores"):
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
    """Print what the chain would run."""
    from mcis_cli.stages.plan.chain import needed, num_without_truth, without_scores

    settings = workspace.settings()
    with forecaster(workspace, data, device) as looking:
        without = num_without_truth(settings, data, looking.catalogue)
        tell(list(looking.chain(settings, without_scores(needed(settings), without))), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)
