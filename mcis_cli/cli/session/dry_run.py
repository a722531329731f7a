"""`--dry-run`: what a command would do, why, and its cost. Writes nothing."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import complain, results, say
from mcis_cli.config import DataConfig
from mcis_cli.errors import DataError, counted, plain

if TYPE_CHECKING:
    from mcis_cli.stages.plan.cost import Cost
    from mcis_cli.stages.plan.forecast import Forecast, Forecaster

UNKNOWN = "unknown"


@contextmanager
def forecaster(workspace: Workspace, data: DataConfig, device: str) -> Iterator["Forecaster"]:
    """A forecaster of what stages would do. If there is no store yet, it uses an empty temporary one."""
    from mcis_cli.stages.engine.inputs import look_at_images
    from mcis_cli.stages.plan.forecast import Forecaster

    with workspace.existing_store() as store:
        yield Forecaster(data, look_at_images(data, store), store, device)


def print_forecasts(forecasts: Sequence["Forecast"], *, as_json: bool) -> None:
    """Print forecasts, equal work once, and the total cost."""
    from mcis_cli.stages.plan.forecast import distinct_of, totals

    distinct, total = distinct_of(forecasts), totals(forecasts)
    if as_json:
        say(json.dumps({"stages": [_facts(one) for one in distinct], **_amounts(total)}))
        _print_lacks(distinct)
        return
    has_names = any(one.of for one in distinct)
    table = Table(
        "stage", *(["of"] if has_names else []), "action", "images", "time", "disk", "estimated from", box=None
    )
    for one in distinct:
        action = f"cached, {one.found.path.stem}" if one.found else "run: " + "\n".join(one.why)
        cells = [Text(plain(line)) for line in ([one.of] if has_names else [])]
        wanted = Text("\n".join(map(plain, action.splitlines())))
        spent = ["", "", ""] if one.found else [*_spelled(one.cost), one.cost.like or ""]
        table.add_row(one.wanted.stage, *cells, wanted, f"{len(one.wanted.images):,}", *spent)
    results().print(table)
    left = [one for one in distinct if one.found is None]
    if left:
        time, disk = _spelled(total)
        say(f"in all: {counted(len(left), 'stage')} to run, time {time}, disk {disk}")
    else:
        say("in all: nothing to run")
    _print_lacks(distinct)


def _print_lacks(forecasts: Sequence["Forecast"]) -> None:
    """Warn of downloads, and refuse stages that cannot run.

    Raises:
        DataError: a stage would stop because something is missing.
    """
    lacks = [(one.wanted.stage, one.lack) for one in forecasts if one.lack is not None]
    for stage, lack in lacks:
        if not lack.stops:
            complain("warning", f"{stage}: {lack.words}")
    if stopped := [f"{stage} would stop: {lack.words}" for stage, lack in lacks if lack.stops]:
        raise DataError(stopped[0])


def _facts(one: "Forecast") -> dict[str, Any]:
    return {
        "stage": one.wanted.stage,
        "of": one.of,
        "artifact": None if one.found is None else one.found.path.stem,
        "why": list(one.why),
        "images": len(one.wanted.images),
        **_amounts(one.cost),
        "like": one.cost.like,
        "missing": None if one.lack is None else one.lack.words,
    }


def _amounts(cost: "Cost") -> dict[str, float | int | None]:
    return {"seconds": None if cost.seconds is None else round(cost.seconds, 1), "bytes": cost.num_bytes}


def _spelled(cost: "Cost") -> tuple[str, str]:
    """Time and disk in words."""
    return _time(cost.seconds), _size(cost.num_bytes)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:,.1f} {unit}"
    return f"about {seconds:.0f} s"


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return UNKNOWN
    unit, length = ("MiB", 2**20) if num_bytes >= 2**20 else ("KiB", 2**10)
    return f"about {num_bytes / length:,.1f} {unit}"
