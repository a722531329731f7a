"""`mcis log`: the curves of a training in the terminal, or for TensorBoard. No torch."""

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.location import existing_store
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import say, say_path
from mcis_cli.cli.terminal.tables import curve
from mcis_cli.errors import MissingError, UsageError, counted
from mcis_cli.store import Store

if TYPE_CHECKING:
    from mcis_cli.report.metrics_log import MetricsLog
    from mcis_cli.stages.stage import Kind

TRAINED: tuple["Kind", ...] = ("network", "affinities", "classifier")


def log(
    training: Annotated[
        str | None,
        typer.Argument(
            metavar="TRAINING",
            help="Path, id or name of a network, or train-cls, affinity-net or train-seg; else the newest, even if "
            "it is running.",
            autocompletion=completion.artifact_of(*TRAINED),
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="One curve, as total or lr; may be given more than once.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Write them for TensorBoard instead.")
    ] = None,
    store: opt.StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a report.")] = False,
) -> None:
    """Draw the loss curves of a training, also while it runs.

    Example: mcis log train-cls --metric total
    """
    if tensorboard is not None:
        _require_tensorboard(metrics, as_json)
    from mcis_cli.stages import names_of

    stage = training if training in names_of(*TRAINED) else None
    opened = existing_store(store, None if stage else training)
    name, path = _found(opened, training if stage is None else None, stage)
    from mcis_cli.report.metrics_log import read_log

    found = read_log(path)
    if found is None:
        raise MissingError(f"{name} has no metrics log: expected {path}, which trainings write beside their network")
    if tensorboard is not None:
        _write_events(found, path, name.partition(",")[0], tensorboard)
        return
    if unknown := sorted(set(metrics or ()) - set(found.values)):
        raise UsageError(f"{name} reported no {unknown[0]!r}: found {', '.join(found.values)}; correct --metric")
    _print_curves(found, name, metrics or list(found.losses), as_json=as_json)


def _print_curves(found: "MetricsLog", name: str, shown: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for place, step in enumerate(found.steps):
            numbers = {one: found.values[one][place] for one in shown if math.isfinite(found.values[one][place])}
            say(json.dumps({"step": step, "epoch": found.epochs[place], **numbers}))
        return
    say(f"{name}: {counted(len(found.steps), 'report')} up to step {found.steps[-1]}, epoch {found.epochs[-1]}")
    for one in shown:
        for line in curve(one, found.steps, found.values[one]):
            say(line)


def _require_tensorboard(metrics: Sequence[str] | None, as_json: bool) -> None:
    if metrics or as_json:
        raise UsageError("--tensorboard writes all curves: leave out --metric and --json")
    if find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed; pip install 'mcis[tensorboard]'"
        )


def _write_events(found: "MetricsLog", path: Path, name: str, output: Path) -> None:
    """Write the file of one training into its own folder, overwriting an earlier one, and print the folder."""
    from mcis_cli.report.tensorboard import EVENTS, events

    folder = OutputFolder(output, "--tensorboard")
    folder.require()
    say_path(folder.write(Path(name) / EVENTS, events(found, path.stat().st_mtime)).parent)


def _found(store: Store, reference: str | None, stage: str | None) -> tuple[str, Path]:
    """The name and the log of a training: the one that was named, or the newest of a stage or of all."""
    if reference is not None:
        artifact = store.get(reference)
        return artifact.path.stem, artifact.log_path
    from mcis_cli.stages import names_of

    wanted = (stage,) if stage else names_of(*TRAINED)
    logs = [(artifact.path.stem, artifact.log_path) for artifact in store.artifacts() if artifact.stage in wanted]
    for folder, recipe in store.unfinished().items():
        if recipe is not None and recipe.stage in wanted:
            logs.append((f"{folder.name}, unfinished", folder / "metrics.jsonl"))
    there = [(path.stat().st_mtime, name, path) for name, path in logs if path.is_file()]
    if not there:
        raise MissingError(f"no training with a metrics log in {store.root}: run `mcis train-cls` first")
    _, name, path = max(there)
    return name, path
