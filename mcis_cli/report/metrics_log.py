"""The metrics log of a training: JSON, one object a line, read leniently because a crash may tear its last lines."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from mcis_cli.errors import MissingError
from mcis_cli.store import files

MAX_BYTES = 2**27
_PLACES = ("step", "epoch")
FIRST = ("total", "basic", "co_attention", "contrastive")


@dataclass(frozen=True)
class MetricsLog:
    """The reports of a training.

    Attributes:
        steps: of each report, ascending.
        epochs: of each report, from 1.
        values: by name, one a report; losses first, the total before its terms. NaN if a report has none.
    """

    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    values: dict[str, tuple[float, ...]]

    @property
    def losses(self) -> dict[str, tuple[float, ...]]:
        """The values that are losses."""
        return {name: values for name, values in self.values.items() if name not in ("lr", "grad_norm")}


def read_log(path: Path, *, end: int | None = None) -> MetricsLog | None:
    """The log of a training; None if it is missing or empty.

    Args:
        path: the file.
        end: read its last so many bytes alone; else all of it.

    Raises:
        DamagedError: it is not a regular file (links are not followed), or too large.
    """
    try:
        log = files.read_regular(path, MAX_BYTES) if end is None else files.read_end(path, end)
    except MissingError:
        return None
    reports: dict[int, dict[str, float]] = {}
    for line in log.splitlines():
        report = _report(line)
        if report is not None:
            reports[int(report["step"])] = report
    if not reports:
        return None
    steps = tuple(sorted(reports))
    names = {name: None for report in reports.values() for name in report if name not in _PLACES}
    ordered = [*(name for name in FIRST if name in names), *sorted(name for name in names if name not in FIRST)]
    return MetricsLog(
        steps,
        tuple(int(reports[step].get("epoch", 0)) for step in steps),
        {name: tuple(reports[step].get(name, math.nan) for step in steps) for name in ordered},
    )


def _report(line: bytes) -> dict[str, float] | None:
    """The finite numbers of a line; None if it is torn or has no step."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    numbers = {
        str(name)[:40]: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    }
    return numbers if 0 <= numbers.get("step", -1) < 2**53 else None
