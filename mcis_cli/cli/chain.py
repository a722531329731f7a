"""`mcis run` and `mcis demo`: lists of stages, nothing more."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mcis_cli.cli import options as opt
from mcis_cli.cli.output import TerminalReporter, announce, console, say
from mcis_cli.cli.tables import percent, print_scores
from mcis_cli.cli.workspace import open_workspace
from mcis_cli.config import DataConfig, RunOptions, Settings, resolve
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact, Store, open_store

Scores = Mapping[str, Any]


def run(
    preset: opt.Preset = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of every stage.")] = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the whole chain that mcis.toml describes; what is done is found done.

    Example: mcis init photos/ && mcis run
    """
    flags = {stage: {"seed": seed} for stage in ("train-cls", "cams", "train-seg")}
    workspace = open_workspace(store=store, config=config, preset=preset, assignments=assignments or (), flags=flags)
    data = workspace.data()
    if data is None:
        raise UsageError("no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it")
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(device=device, workers=workers, preset=workspace.preset(), reporter=reporter)
    try:
        made = chain(workspace.settings(), data, workspace.store, options)
    finally:
        reporter.stop()
    from mcis_cli.stages.evaluate import metrics

    scored = metrics(made[-1])
    if not quiet:
        print_scores(scored)
    announce(made[-1], cached=False, seconds=0.0, as_json=as_json, quiet=quiet, extra={"metrics": scored})


def chain(settings: Settings, data: DataConfig, store: Store, options: RunOptions) -> list[Artifact]:
    """The five stages, one after the other."""
    from mcis_cli.stages import cams, evaluate, pseudo, train_cls, train_seg
    from mcis_cli.stages.inputs import Inputs

    made = [train_cls.run(settings.train_cls, Inputs(data=data), store, options)]
    for stage, config in (
        (cams.run, settings.cams),
        (pseudo.run, settings.pseudo),
        (train_seg.run, settings.train_seg),
        (evaluate.run, settings.eval),
    ):
        made.append(stage(config, Inputs(upstream=made[-1], data=data), store, options))  # type: ignore[operator]
        options.reporter.note(f"{made[-1].stage}: {made[-1].path.stem}")
    return made
