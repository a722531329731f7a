"""Tables of scores on stderr, and curves in letters of braille."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from mcis_cli.cli.terminal.output import console
from mcis_cli.errors import percent, plain


def print_scores(metrics: Mapping[str, Any], beyond: str = "") -> None:
    """Print the IoU of every class and their mean, with a line on what exactly was measured.

    Args:
        metrics: see `stages.evaluate.run.metrics`.
        beyond: see `stages.plan.lineage.beyond_tags`; empty if the score rests on tags alone.
    """
    from mcis_cli.stages import stages
    from mcis_cli.stages.evaluate.run import describe

    subject = stages()[metrics["subject"]].title
    table = Table(title=Text(plain(f"{subject}, split {metrics['split']}")), title_justify="left")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in metrics["iou"].items():
        table.add_row(Text(plain(name)), percent(iou))
    table.add_section()
    table.add_row(Text("mean", style="bold"), Text(percent(metrics["mean_iou"]), style="bold"))
    out = console()
    out.print(table)
    out.print(Text(plain(describe(metrics, beyond))))


COLUMNS, HEIGHT, MARGIN = 61, 8, 9


def curve(name: str, steps: Sequence[int], values: Sequence[float]) -> Iterator[str]:
    """Draw a curve in lines of braille, each letter two by four dots; its first and last value are in the heading."""
    points = [(step, y) for step, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if not points:
        return
    low, high = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    yield f"{name}  {points[0][1]:.4g} → {points[-1][1]:.4g}"
    rows = braille(points, COLUMNS, HEIGHT, low, high)
    for number, row in enumerate(rows):
        label = {0: f"{high:.3g}", HEIGHT - 1: f"{low:.3g}"}.get(number, "")
        yield f"{label:>{MARGIN}} {'┤' if label else '│'}{row}"
    first, last = f"{points[0][0]:,}", f"step {points[-1][0]:,}"
    yield f"{'':>{MARGIN}} └{first}{last:>{COLUMNS - len(first)}}"


def braille(points: Sequence[tuple[float, float]], columns: int, rows: int, low: float, high: float) -> list[str]:
    """A line through points, as letters of two by four dots.

    Args:
        points: x ascending, and y.
        columns: letters in a row.
        rows: of letters.
        low: y of the lowest dot.
        high: y of the highest.
    """
    width, height = 2 * columns, 4 * rows
    left, right = points[0][0], points[-1][0]

    def dot(x: float, y: float) -> tuple[int, int]:
        column = round((x - left) / ((right - left) or 1) * (width - 1))
        return column, round((high - y) / ((high - low) or 1) * (height - 1))

    cells = [[0] * columns for _ in range(rows)]
    dots = [dot(x, y) for x, y in points]
    for (x0, y0), (x1, y1) in zip(dots, dots[1:] or dots, strict=False):
        steps = max(x1 - x0, abs(y1 - y0), 1)
        for step in range(steps + 1):
            x, y = x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps)
            cells[y // 4][x // 2] |= ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))[y % 4][x % 2]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row).rstrip() for row in cells]
