"""Lines in a coordinate system, laid out for inline SVG: where lines, ticks and words go, in units of the drawing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 30.0
MAX_POINTS = 400


@dataclass(frozen=True)
class Tick:
    """A value on an axis: where it is, and how it is written."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line: its name, its points as SVG has them, and its last value, written.

    Attributes:
        number: of its colour, from 1.
    """

    name: str
    number: int
    points: str
    last: str


@dataclass(frozen=True)
class Mark:
    """A point that is pointed at, and its words."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing of lines over a common axis."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    mark: Mark | None = None
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def chart(
    title: str,
    x_label: str,
    xs: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    percent: bool = False,
    mark: tuple[float, float, str] | None = None,
) -> Chart:
    """A chart of lines that have a value at each x, or NaN; long ones are thinned out by means.

    Args:
        title: what it shows.
        x_label: what the axis counts.
        xs: ascending.
        lines: values by name.
        percent: whether values are fractions, written in percent.
        mark: x, y and words of a point to point at.
    """
    xs, lines = _thinned(xs, lines)
    values = [value for line in lines.values() for value in line if math.isfinite(value)]
    x_low, x_high = min(xs), max(xs)
    y_values = ticks(min([0.0, *values]), max(values, default=1.0), 5)
    y_low, y_high = y_values[0], max(y_values[-1], *values, 1e-12)
    x_values = [value for value in ticks(x_low, x_high, 6) if x_low <= value <= x_high]

    def x_of(value: float) -> float:
        return LEFT + (value - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_low) / ((y_high - y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    def drawn(number: int, name: str, line: Sequence[float]) -> Line:
        shown = [(x, y) for x, y in zip(xs, line, strict=True) if math.isfinite(y)]
        dotted = shown * 2 if len(shown) == 1 else shown  # a line from a point to itself is drawn as a dot
        points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in dotted)
        return Line(name, number, points, written(shown[-1][1], percent=percent) if shown else "–")

    return Chart(
        title=title,
        x_label=x_label,
        lines=tuple(drawn(number, name, line) for number, (name, line) in enumerate(lines.items(), 1)),
        x_ticks=tuple(Tick(x_of(value), f"{value:,g}") for value in x_values),
        y_ticks=tuple(Tick(y_of(value), written(value, percent=percent)) for value in y_values),
        mark=None if mark is None else Mark(x_of(mark[0]), y_of(mark[1]), mark[2]),
    )


def written(value: float, *, percent: bool = False) -> str:
    """A value of three digits, or in percent of whole numbers."""
    return f"{100 * value:.0f}" if percent else f"{value:.3g}"


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values from at or below `low` to at or above `high`, about `count` of them."""
    reach = (high - low) or abs(high) or 1.0
    rough = reach / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thinned(
    xs: Sequence[float], lines: Mapping[str, Sequence[float]]
) -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    if len(xs) <= MAX_POINTS:
        return xs, lines
    size = math.ceil(len(xs) / MAX_POINTS)
    starts = range(0, len(xs), size)
    return (
        [xs[min(start + size, len(xs)) - 1] for start in starts],
        {name: [_mean(line[start : start + size]) for start in starts] for name, line in lines.items()},
    )


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
