"""The figure of an ablation, as SVG: a panel for each kind of result, with its own axis, and one as published."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from mcis_cli.config.ablations import AblationTable
from mcis_cli.report.ablation import MEASURED_ON, PUBLISHED_ON, Summary, by_subject, told
from mcis_cli.report.charts import Tick, ticks

GUTTER, PANEL, GAP, ROW, TOP = 240.0, 200.0, 56.0, 38.0, 84.0
COLOURS = {"maps": "#5c186e", "pseudo": "#d9622b", "segmentation": "#1f7a8c"}
INK, HOLLOW = "#1c1926", "#ffffff"


@dataclass(frozen=True)
class Label:
    """The name of a row, and where it is."""

    name: str
    y: float


@dataclass(frozen=True)
class Dot:
    """A value: where it is, its words, its spread from and to, and the values that it is the mean of."""

    x: float
    y: float
    text: str
    reach: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Values over one axis."""

    title: str
    left: float
    colour: str
    fill: str
    ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Drawing:
    """Everything that the template draws, in units of the drawing."""

    title: str
    rows: tuple[Label, ...]
    panels: tuple[Panel, ...]
    captions: tuple[str, ...]
    width: float
    height: float
    top: float
    bottom: float


def figure(table: AblationTable, summaries: Sequence[Summary]) -> str:
    """The figure: dots are seeds, circles their means, lines one standard deviation to both sides."""
    environment = Environment(
        loader=PackageLoader("mcis_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("ablation.svg.j2").render(drawing=_drawing(table, summaries))


def _drawing(table: AblationTable, summaries: Sequence[Summary]) -> Drawing:
    places = {row.name: TOP + ROW * (number + 0.5) for number, row in enumerate(table.rows)}
    panels = [*_measured(summaries, places), _published(table, places, len({one.on for one in summaries}))]
    width = GUTTER + len(panels) * (PANEL + GAP)
    captions = tuple(_captions(summaries, int(width / 6)))
    bottom = TOP + ROW * len(table.rows)
    return Drawing(
        title=f"Table {table.number}: {table.title} (mean IoU in percent)",
        rows=tuple(Label(name, y) for name, y in places.items()),
        panels=tuple(panels),
        captions=captions,
        width=width,
        height=bottom + 48 + 16 * len(captions),
        top=TOP,
        bottom=bottom,
    )


def _measured(summaries: Sequence[Summary], places: dict[str, float]) -> Iterator[Panel]:
    for number, (on, of_subject) in enumerate(by_subject(summaries)):
        ends = [value for one in of_subject for value in (*one.values, *_reach(one))]
        axis = _Axis(GUTTER + number * (PANEL + GAP), ends)
        dots = tuple(
            Dot(
                x=axis.x(one.mean_iou or 0),
                y=places[one.row],
                text=told(one.mean_iou, one.deviation),
                reach=None if one.deviation is None else (axis.x(_reach(one)[0]), axis.x(_reach(one)[1])),
                seeds=tuple(map(axis.x, one.values)),
            )
            for one in of_subject
        )
        yield Panel(MEASURED_ON[on], axis.left, COLOURS[on], COLOURS[on], axis.ticks, dots)


def _published(table: AblationTable, places: dict[str, float], number: int) -> Panel:
    axis = _Axis(GUTTER + number * (PANEL + GAP), [row.published / 100 for row in table.rows])
    dots = tuple(Dot(axis.x(row.published / 100), places[row.name], f"{row.published:.1f}") for row in table.rows)
    return Panel("published", axis.left, INK, HOLLOW, axis.ticks, dots)


def _reach(summary: Summary) -> tuple[float, float]:
    mean, deviation = summary.mean_iou or 0, summary.deviation or 0
    return mean - deviation, mean + deviation


class _Axis:
    """From fractions to places in a panel, whose axis reaches over all values, in percent."""

    def __init__(self, left: float, values: Sequence[float]) -> None:
        marks = ticks(100 * min(values), 100 * max(values), 4)
        self.left = left
        self._low, self._reach = marks[0], (marks[-1] - marks[0]) or 1
        self.ticks = tuple(Tick(self.x(mark / 100), f"{mark:g}") for mark in marks)

    def x(self, fraction: float) -> float:
        return self.left + (100 * fraction - self._low) / self._reach * PANEL


def _captions(summaries: Sequence[Summary], width: int) -> Iterator[str]:
    for on, of_subject in by_subject(summaries):
        for how in dict.fromkeys(one.how for one in of_subject):
            yield from textwrap.wrap(_seen(f"{MEASURED_ON[on]}: {how}"), width)
    yield from textwrap.wrap(
        f"published: {PUBLISHED_ON}. Dots are seeds, circles their means, lines one standard deviation to both sides.",
        width,
    )


def _seen(text: str) -> str:
    """Names of files may have characters that XML has not."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
