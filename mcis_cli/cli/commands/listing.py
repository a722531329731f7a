"""`mcis ls`: the artifacts of a store as a table for people, or as JSON. No torch."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.location import existing_store
from mcis_cli.cli.terminal.output import say
from mcis_cli.errors import DamagedError, McisError, percent, plain
from mcis_cli.store import Artifact

Row = Mapping[str, str]
COLUMNS = ("stage", "id", "age", "images", "preset", "refs", "loss", "score", "name")
NUMBERS = ("age", "images", "refs", "loss", "score")
DROPPED = ("loss", "refs", "preset", "images", "age")  # dropped in this order while the terminal is too narrow
ID_DIGITS = 8
LOG_END = 2**14  # bytes of a log: dozens of its lines, of which the last is shown


def ls(
    stage: Annotated[
        str | None, typer.Option("--stage", help="Only this stage.", autocompletion=completion.stage)
    ] = None,
    store: opt.StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List the artifacts of the store, newest last.

    Scores are mean IoU in percent. Commands take the id, with or without the stage before it, the name, or a stage for
    its newest artifact.

    Example: mcis ls --stage train-seg
    """
    opened = existing_store(store)
    damaged: list[DamagedError] = []
    names = {content_id: name for name, content_id in opened.names(damaged.append).items()}
    found = opened.artifacts(on_damaged=damaged.append)
    listed = [artifact for artifact in found if stage in (None, artifact.stage)]
    if as_json:
        for artifact in listed:
            say(json.dumps(_facts(artifact, names.get(artifact.id))))
    else:
        scores = _scores(found)
        for line in _lines([_row(artifact, names.get(artifact.id, ""), scores) for artifact in listed]):
            say(line)
    if damaged:
        raise damaged[0]


def _facts(artifact: Artifact, name: str | None) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "stage": artifact.stage,
        "path": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "created": artifact.provenance.get("created", "")[:19],
        "name": name,
    }


def _row(artifact: Artifact, name: str, scores: Mapping[str, float | None]) -> Row:
    references = artifact.meta.get("num_references")
    preset = artifact.provenance.get("preset")
    return {
        "stage": artifact.stage,
        "id": artifact.id[:ID_DIGITS],
        "age": _age(str(artifact.provenance.get("created", ""))),
        "images": f"{len(artifact):,}" if artifact.manifest.get("schema") is not None else "",
        "preset": plain(preset)[:12] if isinstance(preset, str) else "",
        "refs": str(references) if isinstance(references, int) else "",
        "loss": _loss(artifact.log_path),
        "score": percent(scores[artifact.id]) if artifact.id in scores else "",
        "name": name,
    }


def _age(created: str) -> str:
    """How long ago something was made, in its largest unit."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    except (TypeError, ValueError):
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _loss(log: Path) -> str:
    """The last loss of a training, the total if it has terms."""
    from mcis_cli.report.metrics_log import read_log

    try:
        found = read_log(log, end=LOG_END)
    except McisError:
        return ""
    losses = [] if found is None else [*found.losses.values()]
    return f"{losses[0][-1]:.4g}" if losses else ""


def _scores(found: Iterable[Artifact]) -> dict[str, float | None]:
    """Mean IoU of scores and of the artifacts that they belong to, the newest for each, as recorded with the scores."""
    scores: dict[str, float | None] = {}
    for artifact in found:
        noted = artifact.provenance.get("scores")
        score = noted.get("mean_iou") if isinstance(noted, Mapping) else None
        if isinstance(score, float):
            scores |= dict.fromkeys((artifact.id, str(artifact.meta.get("subject_id"))), score)
    return scores


def _lines(rows: Sequence[Row]) -> list[str]:
    """The table, without empty columns; a narrow terminal drops more."""
    shown = [name for name in COLUMNS if any(row[name] for row in rows)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in shown}
    for name in DROPPED:
        if width is not None and sum(widths[one] + 2 for one in shown) - 2 > width and name in shown:
            shown.remove(name)
    heads = [{name: name for name in COLUMNS}] if rows else []
    return [
        "  ".join(
            row[name].rjust(widths[name]) if name in NUMBERS else row[name].ljust(widths[name]) for name in shown
        ).rstrip()
        for row in (*heads, *rows)
    ]
