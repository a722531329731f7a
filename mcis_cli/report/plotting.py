"""Figures by matplotlib, imported on demand, the same on every machine; lines as SVG in the page."""

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from mcis_cli.errors import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#1c1926", "#625d70", "#e5e1da"  # as in the page
_FONT = "DejaVu Sans"  # it comes with matplotlib, so text has the same width everywhere
_WEB_FONTS = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.unicode_minus": False,
    "font.family": _FONT,
    "font.size": 9,
    "grid.color": LINE,
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "text.parse_math": False,  # a class may have a dollar sign in its name
    "xtick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in this context: with our settings only, ignoring `matplotlibrc`, and without output on stderr."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it prints where it keeps its list of fonts
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the font lacks, which are drawn as boxes
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def png_of(figure: "Figure", *, dpi: int) -> bytes:
    """The figure as PNG, RGB without transparency and without a date."""
    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white")
    Image.open(drawn).convert("RGB").save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def svg_of(figure: "Figure", title: str) -> str:
    """The figure as an SVG element without a date, its text as text.

    Args:
        figure: The figure.
        title: Its description for screen readers.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):  # ids differ if titles do
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_[0-9]+"', "", text)  # nothing refers to these
    text = text.replace(f"'{_FONT}'", _WEB_FONTS)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(plain(title), quote=True)}" ', 1)


def inline(svg: str, colours: Mapping[str, str]) -> str:
    """An SVG element for a page of HTML: as wide as its container, in the page's colours, light or dark.

    Args:
        svg: From `svg_of`.
        colours: Colours of the figure (`#rrggbb`) to colours of CSS.
    """
    head, rest = svg.split(">", 1)
    svg = re.sub(r' (?:xmlns[:a-z]*|width|height|version)="[^"]*"', "", head) + ">" + rest
    for drawn, shown in colours.items():
        svg = svg.replace(drawn, shown)
    return svg.replace("xlink:href", "href")


MAX_POINTS = 400
COLOURS = ("#5c186e", "#d9622b", "#1f7a8c", "#8a8f2a", "#b0305c", "#5b6475")
MARK, PAPER = "#b4471a", "#faf9f6"
# The page's variables of these colours, so that a chart changes with it from light to dark.
_VARIABLES = {colour: f"var(--s{number})" for number, colour in enumerate(COLOURS, 1)}
_VARIABLES |= {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", MARK: "var(--warm)", PAPER: "var(--paper)"}


@dataclass(frozen=True)
class Line:
    """The name of a line, the number of its colour from 1, and its last value, written."""

    name: str
    number: int
    last: str


@dataclass(frozen=True)
class Chart:
    """A drawing of lines, with its words.

    Attributes:
        svg: the element.
        mark: words of the point that is marked, or "".
    """

    title: str
    svg: Markup
    lines: tuple[Line, ...]
    mark: str = ""


def chart(
    title: str,
    x_label: str,
    xs: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    percent: bool = False,
    mark: tuple[float, float, str] | None = None,
) -> Chart:
    """A chart of lines with a value at each x, or NaN; long ones are reduced by averaging.

    Args:
        title: of the chart.
        x_label: of the axis.
        xs: ascending.
        lines: values by name, as many as there are colours at most.
        percent: whether values are fractions, written in percent.
        mark: x, y and words of a point to mark.
    """
    xs, lines = _thinned(xs, lines)
    scale = 100 if percent else 1
    shown = {
        name: [(x, scale * y) for x, y in zip(xs, line, strict=True) if math.isfinite(y)]
        for name, line in lines.items()
    }
    spelled = "{:.0f}" if percent else "{:.3g}"
    keys = tuple(
        Line(name, number, spelled.format(points[-1][1]) if points else "–")
        for number, (name, points) in enumerate(shown.items(), 1)
    )
    ends = ", ".join(f"{key.name} ends at {key.last}" for key in keys)
    svg = _drawn(f"{title}: {ends}", x_label, list(shown.values()), mark and (mark[0], scale * mark[1]))
    return Chart(title, Markup(svg), keys, mark[2] if mark else "")


def _drawn(
    title: str, x_label: str, lines: Sequence[Sequence[tuple[float, float]]], mark: tuple[float, float] | None
) -> str:
    with drawing():
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(5.2, 2.4), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot(facecolor="none")
        for number, line in reversed(list(enumerate(lines))):  # the first on top
            x, y = zip(*line, strict=True) if line else ((), ())
            marker = "o" if len(line) == 1 else None
            axes.plot(x, y, color=COLOURS[number], linewidth=1.4, marker=marker, markersize=3, clip_on=False)
        if mark is not None:
            axes.axvline(mark[0], color=MARK, linewidth=0.8, linestyle=(0, (3, 3)), clip_on=False)
            axes.plot(*mark, "o", color=MARK, markeredgecolor=PAPER, markersize=6.5, clip_on=False)
        axes.set_ylim(bottom=min([0.0, *(y for line in lines for _, y in line)]))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=x_label == "step"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.grid(axis="y", clip_on=False)
        axes.set_xlabel(x_label, loc="right")
        return inline(svg_of(figure, title), _VARIABLES)


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
