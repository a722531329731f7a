"""`mcis ablate`: the paper's Tables 1, 2, 4 and 5 on your images, beside the published figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mcis_cli.cli.session import completion, launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.dry_run import forecaster, print_forecasts
from mcis_cli.cli.session.groups import PipelineOptions, require_images
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, console, results, say
from mcis_cli.config.ablations import TABLES, AblationTable
from mcis_cli.errors import UsageError, counted, plain
from mcis_cli.report.measuring import KINDS, Ablation, Measuring

if TYPE_CHECKING:
    from mcis_cli.report.ablation import Summary


def ablate(
    data: opt.Images = None,
    *,
    table: Annotated[
        int | None,
        typer.Option(
            "--table", metavar="1|2|4|5", help="Methods; how maps are made; losses of the classifier; references."
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option("--on", metavar="KIND[,KIND…]", help="What is scored: maps, pseudo, segmentation."),
    ] = "maps,pseudo",
    seeds: Annotated[str, typer.Option("--seeds", metavar="N[,N…]", help="Seeds of all stages, one after another.")] = (
        "0,1,2"
    ),
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Images to score maps and pseudo masks on; else all that have them.",
            autocompletion=completion.split,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for table-N.json, table-N.csv and table-N.svg.")
    ] = None,
    options: PipelineOptions,
) -> None:
    """Measure rows of Table 1, 2, 4 or 5 on your images.

    Cached artifacts are used.

    Example: mcis ablate photos/ --table 5 --preset quick
    """
    if launched.rank() is not None:
        raise UsageError("mcis ablate runs its stages in one process, found several (WORLD_SIZE); start it without")
    wanted, kinds, numbers = _table(table), _kinds(on), _seeds(seeds)
    workspace = options.place.open(preset=options.preset, may_create=not options.dry_run)
    images = require_images(workspace, data, "ablate photos/")
    settings = workspace.settings()
    if settings.train_seg.supervision == "full":
        raise UsageError("a network that learns from ground truth has no rows to compare; leave train-seg.supervision")
    ablation = Ablation(wanted, settings, kinds, split, images)
    if options.dry_run:
        with forecaster(workspace, images, options.device) as looking:
            ablation.require_ground_truth(looking.catalogue)
            print_forecasts(list(ablation.forecast(looking, numbers)), as_json=options.as_json)
        return
    _measure(ablation, numbers, workspace, None if output is None else OutputFolder(output, "--output"), options)


def _measure(
    ablation: Ablation,
    seeds: Sequence[int],
    workspace: Workspace,
    folder: OutputFolder | None,
    options: PipelineOptions,
) -> None:
    """Make and score the rows that are missing, and print the table."""
    if folder is not None:
        folder.require()
    reporter = TerminalReporter(quiet=options.quiet)
    here = opt.run_options(device=options.device, workers=options.workers, preset=workspace.preset(), reporter=reporter)
    from mcis_cli.stages.engine.inputs import list_images

    ablation.require_ground_truth(list_images(ablation.data, workspace.store))
    measuring = Measuring(ablation, workspace.store, here)
    try:
        for seed in seeds:
            measuring.measure(seed)
    finally:
        reporter.stop()
    _print_and_write(measuring, folder, as_json=options.as_json, quiet=options.quiet)


def _print_and_write(measuring: Measuring, folder: OutputFolder | None, *, as_json: bool, quiet: bool) -> None:
    """The table, its files, and what failed.

    Raises:
        McisError: a row failed; the first failure is raised. If all rows failed, nothing else was printed.
    """
    from mcis_cli.report.ablation import as_csv, summarise
    from mcis_cli.report.ablation import as_json as spelled
    from mcis_cli.report.ablation_figure import figure

    table, first = measuring.ablation.table, next(iter(measuring.reasons.values()), None)
    if first is not None and not measuring.measured:
        raise first
    summaries = summarise(table, measuring.measured)
    preset = str(measuring.options.preset)
    facts = spelled(table, summaries, measuring.measured, measuring.failed, preset)
    if folder is not None:
        name = f"table-{table.number}"
        folder.write(Path(f"{name}.csv"), as_csv(summaries).encode())
        folder.write(Path(f"{name}.svg"), figure(table, summaries).encode())
        written = folder.write(Path(f"{name}.json"), f"{json.dumps(facts, indent=1)}\n".encode())
        if not quiet:
            console().print(Text(plain(f"mcis: ablate: {written.with_suffix('')}.json, .csv and .svg")))
    if as_json:
        say(json.dumps(facts))
    else:
        _print(table, summaries, preset)
    if first is not None:
        failed = counted(len(measuring.failed), "row")
        raise type(first)(f"{failed} failed; the others finished and are kept. The first failed because {first}")


def _print(table: AblationTable, summaries: Sequence["Summary"], preset: str) -> None:
    from mcis_cli.report.ablation import MEASURED_ON, PUBLISHED_ON, by_subject, in_percent

    shown = Table(title=Text(f"Table {table.number}: {table.title}"), title_justify="left", box=None)
    for heading in ("measured on", "row", "mIoU %", "gain", "published %", "gain"):
        shown.add_column(heading, justify="left" if heading in ("measured on", "row") else "right")
    lines = []
    for on, of_subject in by_subject(summaries):
        for one in of_subject:
            measured = in_percent(one.mean_iou, one.deviation), in_percent(one.gain, one.gain_deviation, signed=True)
            published = in_percent(one.published, None), in_percent(one.published_gain, None, signed=True)
            shown.add_row(MEASURED_ON[on], one.row, *measured, *published)
        seeds = dict.fromkeys(one.seeds for one in of_subject)
        lines += [f"{MEASURED_ON[on]}: {how}" for how in dict.fromkeys(one.how for one in of_subject)]
        lines += [f"{MEASURED_ON[on]}: {_averaged(some)}" for some in seeds]
    out = results()
    out.print(shown)
    for line in dict.fromkeys(lines):
        out.print(Text(plain(line)))
    out.print(Text(f"measured: with the preset {preset}"))
    out.print(Text(f"published: {PUBLISHED_ON}"))


def _averaged(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]} alone; several, as in --seeds 0,1,2, give a standard deviation"
    return f"mean ± standard deviation of seeds {_listed(seeds)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _table(number: int | None) -> AblationTable:
    if number is None or number not in TABLES:
        found = "no table is named" if number is None else f"table {number} of the paper is none of these"
        raise UsageError(f"{found}: expected one of {_listed([*TABLES])}, as in --table 5")
    return TABLES[number]


def _kinds(text: str) -> tuple[str, ...]:
    given = [part.strip() for part in text.split(",")]
    unknown = [part for part in given if part not in KINDS]
    if unknown:
        raise UsageError(f"--on {text!r:.80} is not understood: expected some of {', '.join(KINDS)}, with commas")
    return tuple(kind for kind in KINDS if kind in given)


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(opt.whole_numbers("--seeds", text) or ()))
