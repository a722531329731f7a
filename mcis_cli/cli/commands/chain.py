"""`mcis run`: a list of stages, nothing more."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.dry_run import forecaster, print_forecasts
from mcis_cli.cli.session.groups import PipelineOptions
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.config import SECTIONS, DataConfig
from mcis_cli.errors import UsageError, percent
from mcis_cli.store import Artifact

Scores = Mapping[str, Any]


def run(
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of every stage.")] = None,
    *,
    rounds: Annotated[Flags, SectionFlags("run")],
    engine: opt.Engine = "here",
    options: PipelineOptions,
) -> None:
    """Run all stages that mcis.toml describes, except cached ones.

    Example: mcis init photos/ && mcis run
    """
    _refuse_several_processes()
    seeds = {name: {"seed": seed} for name, section in SECTIONS.items() if "seed" in section.model_fields}
    flags = Flags({**rounds.tables, **seeds})
    workspace = options.place.open(flags, preset=options.preset, may_create=not options.dry_run)
    data = workspace.data()
    if data is None:
        raise UsageError("no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it")
    if options.dry_run:
        _foretell(workspace, data, options.device, as_json=options.as_json)
        return
    reporter = TerminalReporter(quiet=options.quiet)
    here = opt.run_options(device=options.device, workers=options.workers, preset=workspace.preset(), reporter=reporter)
    for doubt in filter(None, map(workspace.doubt_of_backbone, SECTIONS)):
        reporter.warn(doubt)
    started = time.monotonic()
    try:
        from mcis_cli.stages.plan.chain import run_by_name

        with opt.with_engine(engine, here, workspace.store) as ready:
            made = run_by_name(workspace.settings(), data, workspace.store, ready)
    finally:
        reporter.stop()
    last = [*made.values()][-1]
    scores = _scores(last)
    if scores is not None and not options.quiet:
        from mcis_cli.stages.plan.lineage import beyond_tags

        print_scores(scores, beyond_tags(last, workspace.store))
    steps = _print_end(made, time.monotonic() - started, reporter)
    announce(
        last,
        cached=not reporter.worked,
        seconds=time.monotonic() - started,
        as_json=options.as_json,
        quiet=options.quiet,
        extra={} if scores is None else {"metrics": scores},
    )
    if not options.as_json:
        reporter.suggest(*steps)


def _refuse_several_processes() -> None:
    if launched.rank() is not None:
        raise UsageError(
            "mcis run runs its stages in one process, found several (WORLD_SIZE); give torchrun a single stage, as in "
            "torchrun --nproc-per-node 2 -m mcis_cli train-cls"
        )


def _scores(last: Artifact) -> Scores | None:
    """The scores that a chain ends in; None without ground truth."""
    from mcis_cli.stages import holds

    if not holds(last, "scores"):
        return None
    from mcis_cli.stages.evaluate.run import metrics

    return metrics(last)


def _print_end(made: Mapping[str, Artifact], seconds: float, reporter: TerminalReporter) -> list[str]:
    """Print where the masks, networks and scores are; returns what to do next."""
    from mcis_cli.stages import holds, stages

    reporter.note(f"run: done in {seconds:.0f} s")
    masks = None
    for name, artifact in made.items():
        of = name.removeprefix(artifact.stage)
        mean = _scores(artifact) if of else None
        found = "" if mean is None else f", mean IoU {percent(mean['mean_iou'])} %"
        if holds(artifact, "pseudo masks", "network", "scores"):
            reporter.note(f"{stages()[artifact.stage].title}{of}: {artifact.path.stem}{found}")
        masks = artifact if holds(artifact, "pseudo masks") else masks
    steps = ["`mcis report` shows images, masks and scores in a browser"]
    return steps if masks is None else [*steps, f"`mcis export {masks.path.stem[:-4]} --voc -o masks` writes the masks"]


def _foretell(workspace: Workspace, data: DataConfig, device: str, *, as_json: bool) -> None:
    """Print what the chain would run."""
    from mcis_cli.stages.plan.chain import num_without_truth, possible, refuse_impossible_rounds

    settings = workspace.settings()
    refuse_impossible_rounds(settings)
    with forecaster(workspace, data, device) as looking:
        names = possible(settings, lambda step: num_without_truth(step, data, looking.catalogue))
        print_forecasts(list(looking.chain(settings, names)), as_json=as_json)
