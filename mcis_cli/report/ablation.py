"""Results of an ablation: means and spreads over seeds, beside the published figures."""

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from mcis_cli.config.ablations import AblationTable, Row
from mcis_cli.errors import counted
from mcis_cli.report.measuring import KIND_OF

MEASURED_ON = {**KIND_OF, "segmentation": "segmentation"}
PUBLISHED_ON = "mean IoU of the segmentation network on PASCAL VOC 2012 val, its initialisation not stated"


@dataclass(frozen=True)
class Measurement:
    """One score.

    Attributes:
        row: its name.
        seed: of every stage.
        on: the scored kind: maps, pseudo (masks) or segmentation.
        metrics: as `stages.evaluate.metrics` gives them.
        artifact: id of the scores.
    """

    row: str
    seed: int
    on: str
    metrics: Mapping[str, Any]
    artifact: str


@dataclass(frozen=True)
class Failure:
    """A row that failed with one seed, and the reason."""

    row: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Summary:
    """The scores of one row on one kind of result, over all seeds. Fractions; None if there is no value.

    Attributes:
        table: number of the table.
        row: its name.
        on: what was scored.
        split, num_images: the scored images.
        initialisation: of the network behind it.
        threshold_chosen_with_ground_truth: whether ground truth chose the threshold.
        thresholds: of background in maps, one for each seed.
        how: the same in words.
        seeds: of the scores.
        values: a mean IoU for each seed.
        mean_iou: their mean.
        deviation: their standard deviation, of a sample; None for a single one.
        gain: mean over the seeds of the difference from the first row.
        gain_deviation: its standard deviation.
        published: mean IoU of the paper's segmentation network; None if no figure is cited.
        published_gain: its difference from the first row; None if one is not cited.
    """

    table: int
    row: str
    on: str
    split: str
    num_images: int
    initialisation: str
    threshold_chosen_with_ground_truth: bool
    thresholds: tuple[float, ...]
    how: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean_iou: float | None
    deviation: float | None
    gain: float | None
    gain_deviation: float | None
    published: float | None
    published_gain: float | None


def summarise(table: AblationTable, measured: Sequence[Measurement]) -> list[Summary]:
    """A summary for each kind of result and row that has a score, in the order of the paper's table."""
    return [
        _summary(table, row, on, of_row, [one for one in measured if (one.row, one.on) == (table.rows[0].name, on)])
        for on in MEASURED_ON
        for row in table.rows
        if (of_row := [one for one in measured if (one.row, one.on) == (row.name, on)])
    ]


def _summary(
    table: AblationTable, row: Row, on: str, scores: Sequence[Measurement], first: Sequence[Measurement]
) -> Summary:
    metrics = scores[0].metrics
    values = {one.seed: float(one.metrics["mean_iou"] or 0) for one in scores}
    before = {one.seed: float(one.metrics["mean_iou"] or 0) for one in first}
    is_first, published, of_first = row == table.rows[0], row.published, table.rows[0].published
    gains = [] if is_first else [values[seed] - before[seed] for seed in values if seed in before]
    thresholds = tuple(one.metrics["threshold"] for one in scores if "threshold" in one.metrics)
    chosen = bool(metrics.get("threshold_chosen_with_ground_truth", False))
    return Summary(
        table=table.number,
        row=row.name,
        on=on,
        split=metrics["split"],
        num_images=metrics["num_images"],
        initialisation=metrics["initialisation"],
        threshold_chosen_with_ground_truth=chosen,
        thresholds=thresholds,
        how=_how(metrics, chosen),
        seeds=tuple(values),
        values=tuple(values.values()),
        mean_iou=_mean(list(values.values())),
        deviation=_deviation(list(values.values())),
        gain=_mean(gains),
        gain_deviation=_deviation(gains),
        published=None if published is None else round(published / 100, 6),
        published_gain=(
            None if is_first or published is None or of_first is None else round((published - of_first) / 100, 6)
        ),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _how(metrics: Mapping[str, Any], chosen: bool) -> str:
    parts = [
        f"split {metrics['split']}",
        counted(metrics["num_images"], "image"),
        f"initialised from {metrics['initialisation']}",
    ]
    if "scales" in metrics:  # of a network
        parts.append("with CRF" if metrics["crf"] else "without CRF")
        parts.append(f"scales {', '.join(f'{scale:g}' for scale in metrics['scales'])}")
        parts.append("with mirror" if metrics["flip"] else "without mirror")
    if "threshold" not in metrics:
        parts.append("no threshold chosen with ground truth")
    else:  # of maps
        parts.append(
            "background threshold chosen with ground truth" if chosen else f"threshold {metrics['threshold']:g}"
        )
    if not {"scales", "threshold"} & metrics.keys():  # of masks
        parts.append("ignored pixels count as missed")
    return "; ".join(parts)


def as_json(
    table: AblationTable,
    summaries: Sequence[Summary],
    measured: Sequence[Measurement],
    failed: Sequence[Failure],
    preset: str,
) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "table": table.number,
        "title": table.title,
        "preset": preset,
        "published_on": PUBLISHED_ON,
        "rows": [asdict(one) for one in summaries],
        "scores": [
            {"row": one.row, "seed": one.seed, "on": one.on, "mean_iou": one.metrics["mean_iou"], "id": one.artifact}
            for one in measured
        ],
        "failed": [asdict(one) for one in failed],
    }


def as_csv(summaries: Sequence[Summary]) -> str:
    """A line for each summary, under a line of names; lists with blanks between."""
    text = io.StringIO()
    names = [field.name for field in fields(Summary)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(one, name)) for name in names] for one in summaries)
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_cell, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def by_subject(summaries: Sequence[Summary]) -> Iterator[tuple[str, list[Summary]]]:
    """The scored kinds, each with its summaries."""
    for on in dict.fromkeys(one.on for one in summaries):
        yield on, [one for one in summaries if one.on == on]


def in_percent(mean: float | None, deviation: float | None, *, signed: bool = False) -> str:
    """A fraction in percent, with its spread if there is one."""
    if mean is None:
        return "–"
    shown = f"{100 * mean:+.1f}" if signed else f"{100 * mean:.1f}"
    return shown if deviation is None else f"{shown} ± {100 * deviation:.1f}"
