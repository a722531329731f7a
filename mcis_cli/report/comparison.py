"""Two runs side by side: settings that differ, scores with differences, the images that changed the most."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mcis_cli.config import DataConfig, RunOptions
from mcis_cli.config.setting import changed_settings, flat
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.report.cards import Card, Photos, cards
from mcis_cli.report.content import Report, Wanted, figures, predict, spelled
from mcis_cli.report.metrics_log import read_log
from mcis_cli.report.plotting import Chart, chart
from mcis_cli.report.scores import Scores, points
from mcis_cli.stages import names_of, read_record, stages
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
MAX_NAMED = 3  # settings in the name of a run
LEAST_SHOWN = 0.0005  # a change of scores in percent with one digit
_TRAINED: tuple[Kind, ...] = ("classifier", "network")


@dataclass(frozen=True)
class Difference:
    """A setting or an input that is another one in the second run; `stage` may be several."""

    stage: str
    name: str
    first: str
    second: str
    is_setting: bool = True


@dataclass(frozen=True)
class Pair:
    """The scores of one subject in both runs.

    Attributes:
        title: what is scored.
        rows: mask value (None for the mean), name, both IoUs; the mean, and the classes that changed.
        caveat: why they should not be compared, if there is a reason.
    """

    title: str
    rows: tuple[tuple[int | None, str, float | None, float | None], ...]
    caveat: str


@dataclass(frozen=True)
class Changed:
    """The images of one subject that changed the most."""

    title: str
    cards: tuple[Card, ...]


@dataclass
class Comparison:
    """The content of the page of two runs.

    Attributes:
        names: made of the settings that differ.
        ids: as the caller gave them.
        changed: by scores, or, for pseudo masks without, by the pixels that differ.
    """

    first: Report
    second: Report
    names: tuple[str, str]
    ids: tuple[str, str]
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    curves: tuple[Chart, ...]
    photos: Photos | None = None
    changed: list[Changed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    first: Run,
    second: Run,
    ids: tuple[str, str],
    store: Store,
    data: DataConfig | None,
    wanted: Wanted,
    options: RunOptions,
) -> Comparison:
    """Compare two runs.

    Args:
        first: the run that the other is compared with.
        second: the other.
        ids: as the caller gave them.
        store: where both are.
        data: where the images are; None for the folder that they were listed in.
        wanted: which parts.
        options: how to run networks on this machine.

    Raises:
        UsageError: they are of other classes.
    """
    _require_same_classes(first, second, ids)
    reports = figures(first, store), figures(second, store)
    differences = _merged_stages(_differences(first, second))
    result = Comparison(
        first=reports[0],
        second=reports[1],
        names=_names(differences) or ids,
        ids=ids,
        differences=differences,
        pairs=tuple(_pair(reports, subject) for subject in SCORED if all(subject in one.scores for one in reports)),
        curves=tuple(filter(None, (_curves(first, second, kind) for kind in _TRAINED))),
    )
    if not result.pairs:
        result.notes.append("Scores: no result was scored in both runs; with ground truth, mcis eval scores them.")
    try:
        images = look_behind(first.last, data, store)
    except (DataError, MissingError) as fault:
        result.notes.append(f"The photographs have moved: {fault}.")
        return result
    result.photos = Photos(images)
    for subject in SCORED:
        result.changed += _changed(reports, subject, images, result.photos, wanted, options)
    return result


def _require_same_classes(first: Run, second: Run, ids: tuple[str, str]) -> None:
    if first.class_names != second.class_names:
        raise UsageError(
            f"{ids[0]} and {ids[1]} are of other classes: found {len(first.class_names)} and "
            f"{len(second.class_names)}, expected the same ones; give two runs on one data set"
        )


def _names(differences: Sequence[Difference]) -> tuple[str, str] | None:
    """What differs, as in "refs 0" and "refs 3": the first settings in the order of the chain, at most three."""
    settings = [one for one in differences if one.is_setting]
    if not settings:
        return None
    more = ", …" if len(settings) > MAX_NAMED else ""
    shown = settings[:MAX_NAMED]
    first = ", ".join(f"{one.name} {one.first}" for one in shown) + more
    return first, ", ".join(f"{one.name} {one.second}" for one in shown) + more


def _merged_stages(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """A setting that differs in the same way in several stages, as a seed does, is one difference."""
    merged: dict[tuple[str, str, str], Difference] = {}
    for one in differences:
        key = one.name, one.first, one.second
        merged[key] = replace(merged[key], stage=f"{merged[key].stage}, {one.stage}") if key in merged else one
    return tuple(merged.values())


def _differences(first: Run, second: Run) -> Iterator[Difference]:
    for kind in kinds_in_order():
        stage = names_of(kind)[0]
        pair = first.made.get(kind), second.made.get(kind)
        if pair[0] is None or pair[1] is None:
            if pair[0] is not pair[1]:
                made = ["none" if one is None else one.path.stem for one in pair]
                yield Difference(stage, "artifact", made[0], made[1], is_setting=False)
            continue
        yield from _of_stage(stage, pair[0], pair[1])
    for subject in SCORED:
        if subject in first.scored and subject in second.scored:
            yield from _of_stage(f"eval of {subject}", first.scored[subject], second.scored[subject])


def _of_stage(stage: str, first: Artifact, second: Artifact) -> Iterator[Difference]:
    settings = dict(flat(settings_of(first))), dict(flat(settings_of(second)))
    # A setting that only one of them has follows from the others; so does an input, unless nothing else differs.
    both = [name for name in changed_settings(*settings) if name in settings[0] and name in settings[1]]
    for name in both:
        yield Difference(stage, name, spelled(settings[0][name]), spelled(settings[1][name]))
    for role in sorted({*first.inputs, *second.inputs} - _first_role(first)):
        digests = [one.inputs.get(role, "none") for one in (first, second)]
        if digests[0] != digests[1] and not (both and "none" in digests):
            shown = [digest[:ID_DIGITS] if len(digest) == 64 else digest for digest in digests]
            yield Difference(stage, f"input: {role}", shown[0], shown[1], is_setting=False)


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
    of_classes = [(value, name, iou[0].get(name), iou[1].get(name)) for value, name in enumerate(names)]
    rows += [row for row in of_classes if _differs(row[2], row[3])]
    inputs = first.artifact.inputs, second.artifact.inputs
    is_same = all(inputs[0].get(role) == inputs[1].get(role) for role in ("images", "masks"))
    caveat = "" if is_same else "These were scored on other images or other ground truth; the difference says little."
    return Pair(subject, tuple(rows), caveat)


def _differs(first: float | None, second: float | None) -> bool:
    """Whether a change is one in the digits that are shown."""
    return first != second and (first is None or second is None or abs(second - first) >= LEAST_SHOWN)


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
    change = _changes(reports, subject, images)
    most = sorted((one for one in change if abs(change[one]) >= LEAST_SHOWN), key=lambda one: (-abs(change[one]), one))
    chosen = most[: max(1, wanted.images // 3)] if wanted.images else []
    if not chosen:
        return
    both = [_cards_of(report, subject, images, photos, chosen, wanted, options) for report in reports]
    is_scored = subject in reports[0].scores and subject in reports[1].scores
    merged = tuple(
        replace(
            _merged(both[0][one], both[1][one], subject),
            score=change[one],
            reason=points(change[one]) if is_scored else f"{-100 * change[one]:.0f} % of the pixels differ",
        )
        for one in chosen
        if one in both[0] and one in both[1]
    )
    if merged:
        yield Changed(subject, merged)


def _changes(reports: tuple[Report, Report], subject: Kind, images: Catalogue) -> Mapping[str, float]:
    """By image, the difference of scores; of pseudo masks without scores, the share of pixels that differ, negative."""
    scores = [report.scores.get(subject) for report in reports]
    if scores[0] is not None and scores[1] is not None:
        before, after = scores[0].images, scores[1].images
        return {one: after[one] - before[one] for one in before if one in after and one in images}
    made = [report.run.made.get(subject) for report in reports]
    if subject != "pseudo masks" or made[0] is None or made[1] is None:
        return {}
    common = [one for one in made[0].ids if one in made[1] and one in images]
    masks = ((one, read_record(made[0], one)["mask"], read_record(made[1], one)["mask"]) for one in common)
    return {one: -float((first != second).mean()) for one, first, second in masks if first.shape == second.shape}


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
    scores: Mapping[Kind, Scores] = {name: one for name, one in report.scores.items() if name == subject}
    found = cards(report.run, images, photos, chosen, predictions, scores, {})
    return {card.image_id: card for card in found if isinstance(card, Card)}


def _merged(first: Card, second: Card, subject: Kind) -> Card:
    """One card with the views of both; on the sheet, the last one of each."""
    both = {"A": first, "B": second}
    names = [f"{title} {letter}" for title in COLUMNS[subject] for letter in both]
    found = {f"{title} {letter}": tile for letter, card in both.items() for title, tile in card.tiles.items()}
    tiles = {name: replace(found[name], title=name) for name in names if name in found}
    ends = {title: first.tiles[title] for title in ("photograph", "ground truth") if title in first.tiles}
    shown = tuple(name for name in names[-2:] if name in tiles)
    return replace(first, tiles={"photograph": ends["photograph"], **tiles, **ends}, shown=("photograph", *shown))
