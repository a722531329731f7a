"""The figure of an ablation, as SVG: a panel for each kind of result, with its own axis, and one as published."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mcis_cli.config.ablations import AblationTable
from mcis_cli.errors import plain
from mcis_cli.report.ablation import MEASURED_ON, PUBLISHED_ON, Summary, by_subject, in_percent
from mcis_cli.report.plotting import INK, SOFT, drawing, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = dict(zip(MEASURED_ON, ("#5c186e", "#d9622b", "#1f7a8c"), strict=True))
_LETTER, _PANEL, _ROW, _LINE = (
    0.075,
    2.5,
    0.38,
    0.17,
)  # inches: a letter of a row's name, a panel, a row, a line of text


def figure(table: AblationTable, summaries: Sequence[Summary]) -> str:
    """The figure: small dots are seeds, large ones their means, lines one standard deviation to both sides."""
    subjects = list(by_subject(summaries))
    names = 0.4 + _LETTER * max(len(row.name) for row in table.rows)
    title = f"Table {table.number}: {table.title} (mean IoU in percent)"
    width = max(names + _PANEL * (len(subjects) + 1), 0.1 * len(title) + 0.3)
    captions = list(_captions(summaries, int(14 * width)))
    height = _ROW * len(table.rows) + _LINE * len(captions) + 1.3
    rows = {row.name: -number for number, row in enumerate(table.rows)}
    with drawing():
        from matplotlib.figure import Figure

        drawn = Figure(figsize=(width, height))
        bottom = (_LINE * len(captions) + 0.5) / height
        grid = {"left": names / width, "right": 1 - 0.2 / width, "bottom": bottom, "top": 1 - 0.8 / height}
        panels = drawn.subplots(1, len(subjects) + 1, sharey=True, squeeze=False, gridspec_kw={**grid, "wspace": 0.2})
        drawn.text(0.15 / width, 1 - 0.3 / height, title, size=12, weight="bold")
        for panel, (on, found) in zip(panels[0], subjects, strict=False):
            panel.set_title(MEASURED_ON[on], loc="left", size=9, weight="bold", pad=10)
            for one in found:
                _measured(panel, rows[one.row], one, COLOURS[on])
        panels[0][-1].set_title("published", loc="left", size=9, weight="bold", pad=10)
        for row in table.rows:
            if row.published is not None:
                _mean(panels[0][-1], row.published, rows[row.name], f"{row.published:.1f}", INK, "white")
        for panel in panels[0]:
            panel.margins(x=0.15)
            panel.set_ylim(-len(rows) + 0.5, 0.6)
            panel.set_yticks(list(rows.values()), list(rows))
            panel.tick_params("y", labelcolor=INK, labelsize=9)
            panel.spines[:].set_visible(False)
            panel.grid(axis="both")
            panel.set_axisbelow(True)
            panel.tick_params("y", labelleft=panel is panels[0][0])
        for number, line in enumerate(captions, 1):
            y = (_LINE * (len(captions) - number) + 0.12) / height
            drawn.text(0.15 / width, y, line, color=SOFT)
        return svg_of(drawn, title)


def _measured(panel: "Axes", y: int, summary: Summary, colour: str) -> None:
    mean = 100 * (summary.mean_iou or 0)
    if summary.deviation is not None:
        reach = 100 * summary.deviation
        panel.plot([mean - reach, mean + reach], [y, y], color=colour, linewidth=1.5, zorder=2)
    for value in summary.values:
        panel.plot(100 * value, y, "o", color="white", markeredgecolor=colour, markersize=4, zorder=3, gid="seed")
    _mean(panel, mean, y, in_percent(summary.mean_iou, summary.deviation), colour, colour)


def _mean(panel: "Axes", x: float, y: int, words: str, colour: str, fill: str) -> None:
    panel.plot(x, y, "o", color=fill, markeredgecolor=colour, markersize=7.5, zorder=4, gid="mean")
    panel.annotate(words, (x, y), (0, 6), textcoords="offset points", ha="center", color=SOFT, size=7.5)


def _captions(summaries: Sequence[Summary], width: int) -> Iterator[str]:
    for on, of_subject in by_subject(summaries):
        for how in dict.fromkeys(one.how for one in of_subject):
            yield from textwrap.wrap(plain(f"{MEASURED_ON[on]}: {how}"), width)
    yield from textwrap.wrap(
        f"published: {PUBLISHED_ON}. Small dots are seeds, large ones their means, lines one standard deviation to "
        "both sides.",
        width,
    )
