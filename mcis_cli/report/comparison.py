"""Two runs side by side: settings that differ, scores with differences, the images that changed the most."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mcis_cli.config import DataConfig, RunOptions
from mcis_cli.config.setting import changed_settings, flat
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.report.cards import Card, Photos, Tile, cards
from mcis_cli.report.content import Report, Wanted, figures, predict, spelled
from mcis_cli.report.metrics_log import read_log
from mcis_cli.report.plotting import Chart, chart
from mcis_cli.report.scores import Scores, points
from mcis_cli.stages import names_of, stages
from mcis_cli.stages.engine.inputs import look_behind
from mcis_cli.stages.plan.lineage import Run, kinds_in_order, settings_of
from mcis_cli.stages.stage import SCORED, Kind
from mcis_cli.store import Artifact, Store
from mcis_cli.store.artifact import ID_DIGITS

COLUMNS: Mapping[Kind, Sequence[str]] = {
    "maps": ("map",),
    "walked maps": ("walked map",),
    "pseudo masks": ("map", "pseudo mask"),
    "network": ("prediction",),
}


_TRAINED: tuple[Kind, ...] = ("classifier", "network")


@dataclass(frozen=True)
class Difference:
    """A setting or an input that is another one in the second run."""

    stage: str
    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Pair:
    """The scores of one subject in both runs.

    Attributes:
        title: what is scored.
        rows: mask value (None for the mean), name, both IoUs.
        caveat: why they should not be compared, if so.
    """

    title: str
    rows: tuple[tuple[int | None, str, float | None, float | None], ...]
    caveat: str


@dataclass(frozen=True)
class Changed:
    """The images of one subject that changed the most."""

    title: str
    cards: tuple[Card, ...]
    columns: tuple[str, ...]


@dataclass
class Comparison:
    """Everything that the page shows of two runs."""

    first: Report
    second: Report
    names: tuple[str, str]
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    curves: tuple[Chart, ...]
    photos: Photos | None = None
    changed: list[Changed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    first: Run,
    second: Run,
    names: tuple[str, str],
    store: Store,
    data: DataConfig | None,
    wanted: Wanted,
    options: RunOptions,
) -> Comparison:
    """Compare two runs.

    Args:
        first: the run that differences are told from.
        second: the other.
        names: as they were asked for.
        store: where both are.
        data: where the images are; None for the folder that they were listed in.
        wanted: which parts.
        options: how to run networks on this machine.

    Raises:
        UsageError: they are of other classes.
    """
    if first.class_names != second.class_names:
        raise UsageError(
            f"{names[0]} and {names[1]} are of other classes: found {len(first.class_names)} and "
            f"{len(second.class_names)}, expected the same ones; give two runs on one data set"
        )
    reports = figures(first, store), figures(second, store)
    result = Comparison(
        first=reports[0],
        second=reports[1],
        names=names,
        differences=tuple(_differences(first, second)),
        pairs=tuple(_pair(reports, subject) for subject in SCORED if all(subject in one.scores for one in reports)),
        curves=tuple(filter(None, (_curves(first, second, kind) for kind in _TRAINED))),
    )
    if not result.pairs:
        result.notes.append("Nothing was scored in both runs: mcis eval does that, where there is ground truth.")
    try:
        images = look_behind(first.last, data, store)
    except (DataError, MissingError) as fault:
        result.notes.append(f"The photographs are not where they were: {fault}.")
        return result
    result.photos = Photos(images)
    for subject in SCORED:
        if all(subject in one.scores for one in reports):
            result.changed += _changed(reports, subject, images, result.photos, wanted, options)
    return result


def _differences(first: Run, second: Run) -> Iterator[Difference]:
    for kind in kinds_in_order():
        stage = names_of(kind)[0]
        pair = first.made.get(kind), second.made.get(kind)
        if pair[0] is None or pair[1] is None:
            if pair[0] is not pair[1]:
                yield Difference(stage, "artifact", *("none" if one is None else one.path.stem for one in pair))
            continue
        yield from _of_stage(stage, pair[0], pair[1])
    for subject in SCORED:
        if subject in first.scored and subject in second.scored:
            yield from _of_stage(f"eval of {subject}", first.scored[subject], second.scored[subject])


def _of_stage(stage: str, first: Artifact, second: Artifact) -> Iterator[Difference]:
    settings = dict(flat(settings_of(first))), dict(flat(settings_of(second)))
    for name in changed_settings(*settings):
        values = [spelled(one[name]) if name in one else "without effect" for one in settings]
        yield Difference(stage, name, values[0], values[1])
    for role in sorted({*first.inputs, *second.inputs} - _first_role(first)):
        digests = [one.inputs.get(role, "none") for one in (first, second)]
        if digests[0] != digests[1]:
            shown = [digest[:ID_DIGITS] if len(digest) == 64 else digest for digest in digests]
            yield Difference(stage, f"input: {role}", shown[0], shown[1])


def _first_role(artifact: Artifact) -> set[str]:
    """The role of the upstream artifact, which differs wherever anything before it does."""
    work = stages()[artifact.stage].work
    return set() if work is None else set(list(work.roles)[:1])


def _pair(reports: tuple[Report, Report], subject: Kind) -> Pair:
    first, second = (report.scores[subject] for report in reports)
    iou = first.metrics["iou"], second.metrics["iou"]
    rows: list[tuple[int | None, str, float | None, float | None]] = [
        (None, "mean", first.metrics["mean_iou"], second.metrics["mean_iou"])
    ]
    names = reports[0].class_names
    rows += [(value, name, iou[0].get(name), iou[1].get(name)) for value, name in enumerate(names)]
    inputs = first.artifact.inputs, second.artifact.inputs
    is_same = all(inputs[0].get(role) == inputs[1].get(role) for role in ("images", "masks"))
    caveat = "" if is_same else "These were scored on other images or other ground truth; the difference says little."
    return Pair(subject, tuple(rows), caveat)


def _curves(first: Run, second: Run, kind: Kind) -> Chart | None:
    logs = [read_log(run.made[kind].log_path) if kind in run.made else None for run in (first, second)]
    if logs[0] is None or logs[1] is None or first.made[kind].id == second.made[kind].id:
        return None
    steps = sorted({*logs[0].steps, *logs[1].steps})
    lines = {}
    for letter, log in zip("AB", logs, strict=True):
        if log is not None and "total" in log.values:
            values = dict(zip(log.steps, log.values["total"], strict=True))
            lines[f"{letter}, total"] = [values.get(step, math.nan) for step in steps]
    return chart(f"Loss of {first.made[kind].stage}", "step", steps, lines) if len(lines) == 2 else None


def _changed(
    reports: tuple[Report, Report],
    subject: Kind,
    images: Catalogue,
    photos: Photos,
    wanted: Wanted,
    options: RunOptions,
) -> Iterator[Changed]:
    first, second = (report.scores[subject] for report in reports)
    common = [one for one in first.images if one in second.images and one in images]
    change = {one: second.images[one] - first.images[one] for one in common}
    most = sorted((one for one in common if abs(change[one]) >= 0.0005), key=lambda one: (-abs(change[one]), one))
    chosen = most[: max(1, wanted.images // 3)] if wanted.images else []
    if not chosen:
        return
    both = [_cards_of(report, subject, images, photos, chosen, wanted, options) for report in reports]
    merged = [
        _merged(both[0][one], both[1][one], subject, change[one]) for one in chosen if one in both[0] and one in both[1]
    ]
    titles = ["photograph", *(f"{title} {letter}" for title in COLUMNS[subject] for letter in "AB"), "ground truth"]
    shown = tuple(title for title in titles if any(title in card.tiles for card in merged))
    if merged:
        yield Changed(subject, tuple(merged), shown)


def _cards_of(
    report: Report,
    subject: Kind,
    images: Catalogue,
    photos: Photos,
    chosen: Sequence[str],
    wanted: Wanted,
    options: RunOptions,
) -> dict[str, Card]:
    network = report.run.made.get("network")
    is_predicted = subject == "network" and wanted.predictions and network is not None
    predictions = predict(network, images, chosen, options) if is_predicted and network is not None else {}
    scores: Mapping[Kind, Scores] = {subject: report.scores[subject]}
    found = cards(report.run, images, photos, dict.fromkeys(chosen, ""), predictions, scores)
    return {card.image_id: card for card in found if isinstance(card, Card)}


def _merged(first: Card, second: Card, subject: Kind, change: float) -> Card:
    tiles: dict[str, Tile] = {}
    for title in ("photograph", "ground truth"):
        if title in first.tiles:
            tiles[title] = first.tiles[title]
    for letter, card in (("A", first), ("B", second)):
        for title in COLUMNS[subject]:
            if title in card.tiles:
                tiles[f"{title} {letter}"] = replace(card.tiles[title], title=f"{title} {letter}")
    return replace(first, tiles=tiles, score=change, rank=points(change))
