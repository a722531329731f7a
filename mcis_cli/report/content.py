"""The content of the page of one run; `templates/` define its look. Nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcis_cli.config import DataConfig, EvalConfig, RunOptions
from mcis_cli.config.setting import flat
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError, MissingError, counted, percent
from mcis_cli.report.cards import Card, Photos, cards, choose
from mcis_cli.report.diagram import Diagram, draw
from mcis_cli.report.metrics_log import read_log
from mcis_cli.report.plotting import Chart, chart
from mcis_cli.report.scores import Mistake, Scores, confusion_shares, mistakes, read_scores
from mcis_cli.stages import holds, kind_of
from mcis_cli.stages.engine.inputs import look_behind
from mcis_cli.stages.materials import DATASET
from mcis_cli.stages.plan.lineage import Run, review_of, settings_of
from mcis_cli.stages.review.ranking import Reviewed, ranking
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact, Store
from mcis_cli.store.artifact import ID_DIGITS

MAX_MATRIX, NUM_MISTAKES = 40, 8
LOSS_NAMES = {"total": "total", "basic": "basic", "co_attention": "co-attention", "contrastive": "contrastive"}


@dataclass(frozen=True)
class Wanted:
    """The requested parts of the page.

    Attributes:
        images: on the contact sheet, at most.
        references: images in the reference gallery, at most.
        attention: whether to compute the classifier's attention for those.
        predictions: whether the network predicts the images of the sheet.
    """

    images: int = 60
    references: int = 8
    attention: bool = True
    predictions: bool = True


@dataclass(frozen=True)
class Step:
    """The making of one artifact: a row of the table of the run."""

    name: str
    id: str
    created: str
    took: str
    seed: str
    machine: str
    preset: str
    settings: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as shares of each row, and the mistakes that stand out."""

    title: str
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    mistakes: Sequence[Mistake]
    undecided: bool


@dataclass
class Report:
    """The content of the page of one run.

    Attributes:
        title: a few words.
        class_names: background first; place k is mask value k.
        without_images: why there is no contact sheet; empty if there is one.
        notes: what is not on the page, and why.
    """

    title: str
    run: Run
    class_names: tuple[str, ...]
    diagram: Diagram
    data: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    scores: dict[Kind, Scores]
    matrices: tuple[Matrix, ...]
    threshold: Chart | None
    threshold_is_chosen: bool
    curves: tuple[Chart, ...]
    images: Catalogue | None = None
    photos: Photos | None = None
    predictions: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    reviewed: Mapping[str, Reviewed] = field(default_factory=dict)
    cards: list[Card] = field(default_factory=list)
    attended: list[Any] = field(default_factory=list)
    without_images: str = ""
    notes: list[str] = field(default_factory=list)


def gather(run: Run, store: Store, data: DataConfig | None, wanted: Wanted, options: RunOptions) -> Report:
    """Everything about a run; parts whose data are missing are left out, with a sentence why.

    Args:
        run: the artifacts.
        store: where they are.
        data: where the images are; None for the folder that they were listed in.
        wanted: which parts.
        options: how to run networks on this machine.

    Raises:
        DamagedError: an artifact is not what its stage writes.
    """
    report = figures(run, store)
    try:
        report.images = look_behind(run.last, data, store)
    except (DataError, MissingError) as fault:
        report.without_images = f"The photographs have moved: {fault}."
        return report
    report.photos = Photos(report.images)
    # Without predictions, images that the network alone was scored on have nothing beside the photograph.
    of_shown = {kind: one for kind, one in report.scores.items() if wanted.predictions or kind != "network"}
    report.reviewed = _reviewed(run, store)
    chosen = choose(run, report.images, of_shown, wanted.images, report.reviewed)
    report.predictions = _predictions(report, chosen, wanted, options)
    faults: list[DataError] = []
    made = cards(run, report.images, report.photos, chosen, report.predictions, report.scores, report.reviewed)
    for found in made:
        faults.append(found) if isinstance(found, DataError) else report.cards.append(found)
    if faults:
        report.notes.append(f"Images: {counted(len(faults), 'image')} cannot be shown; the first because {faults[0]}.")
    if not report.cards:
        report.without_images = f"No image can be shown: {faults[0] if faults else 'none was requested'}."
    _add_attended(report, wanted, options)
    return report


def _reviewed(run: Run, store: Store) -> Mapping[str, Reviewed]:
    """The newest review of the masks, by image; empty without one."""
    masks = run.made.get("pseudo masks")
    review = None if masks is None else review_of(masks, store)
    return {} if review is None else {one.image_id: one for one in ranking(review)}


def figures(run: Run, store: Store) -> Report:
    """The parts that need no photographs: chain, settings, scores, curves."""
    scores = {subject: read_scores(artifact, store) for subject, artifact in run.scored.items()}
    names = ("background", *run.class_names)
    described = describe_data(run, store)
    curves = tuple(filter(None, (_losses(artifact) for artifact in run.made.values())))
    threshold = _threshold(scores["maps"]) if "maps" in scores else None
    notes = []
    if not scores:
        notes.append("Scores: this run has none; with ground truth, mcis eval computes them.")
    if not curves:
        notes.append("Curves: no training of this run is in this store with its log.")
    return Report(
        title=" · ".join(f"{one.title} {percent(one.metrics['mean_iou'])} %" for one in scores.values())
        or run.last.path.stem,
        run=run,
        class_names=names,
        diagram=draw(run, ", ".join(value for _, value in described[:3])),
        data=described,
        steps=tuple(step(artifact) for artifact in run.artifacts),
        scores=scores,
        matrices=tuple(_matrix(one, names) for one in scores.values()),
        threshold=threshold,
        threshold_is_chosen=bool(scores["maps"].metrics["threshold_chosen_with_ground_truth"]) if threshold else False,
        curves=curves,
        notes=notes,
    )


def describe_data(run: Run, store: Store) -> tuple[tuple[str, str], ...]:
    """Facts of the data set, in pairs of name and value."""
    place = store.location(run.dataset) or {}
    facts = [("folder", str(place.get("root", "unknown")).rstrip("/").rpartition("/")[2])]
    listed = store.find(DATASET.recipe({}, {"files": run.dataset}))
    meta: Mapping[str, Any] = {} if listed is None else listed.meta
    if count := int(meta.get("num_images", 0)):
        facts.append(("images", counted(count, "image")))
    facts.append(("classes", counted(len(run.class_names), "class", "classes")))
    if count := int(meta.get("num_masks", 0)):
        facts.append(("ground truth", counted(count, "mask")))
    if count := int(meta.get("num_saliency", 0)):
        facts.append(("saliency", counted(count, "map")))
    if splits := _mapping(meta.get("splits")):
        facts.append(("splits", ", ".join(f"{name} {count}" for name, count in splits.items())))
    return tuple(facts)


def step(artifact: Artifact) -> Step:
    """How an artifact was made."""
    made, config = artifact.provenance, settings_of(artifact)
    machine = made.get("machine")
    of_machine = machine if isinstance(machine, dict) else {}
    seconds = made.get("seconds")
    facts = {
        "id": artifact.id,
        "key": artifact.key,
        **{f"input: {role}": digest for role, digest in artifact.inputs.items()},
        **{f"version of {name}": version for name, version in _mapping(made.get("versions")).items()},
        **{f"machine: {name}": value for name, value in of_machine.items()},
        "initialisation": artifact.meta.get("initialisation", ""),
    }
    return Step(
        name=f"{artifact.stage} of {kind_of(artifact.meta['subject'])}"
        if holds(artifact, "scores")
        else artifact.stage,
        id=artifact.id[:ID_DIGITS],
        created=str(made.get("created", ""))[:16].replace("T", " "),
        took=_duration(float(seconds)) if isinstance(seconds, int | float) else "–",
        seed=str(config.get("seed", "–")),
        machine=str(of_machine.get("device", "–")),
        preset=str(made.get("preset") or "–"),
        settings=tuple((name, spelled(value)) for name, value in flat(config)),
        facts=tuple((name, spelled(value)) for name, value in facts.items() if value not in ("", None)),
    )


def spelled(value: object) -> str:
    """A setting as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        words = [spelled(part) for part in value]
        return ", ".join(words if len(words) <= 8 else [*words[:3], "…", words[-1]])
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def predict(network: Artifact, images: Catalogue, ids: Sequence[str], options: RunOptions) -> dict[str, Any]:
    """Masks of a network for images; those that cannot be read are left out."""
    from mcis_cli.stages.predict import run as stage

    paths = [images.root / images[image_id].image for image_id in ids]
    options.reporter.start("predictions", len(ids), images=1)
    found = {}
    for image_id, one in zip(ids, stage.run(EvalConfig(), network, paths, options), strict=True):
        options.reporter.advance()
        if one.mask is not None:
            found[image_id] = one.mask
    return found


def _predictions(report: Report, ids: Sequence[str], wanted: Wanted, options: RunOptions) -> dict[str, Any]:
    network = report.run.made.get("network")
    if network is None or report.images is None:
        report.notes.append("Predictions: no segmentation network is in this run.")
        return {}
    if not wanted.predictions:
        report.notes.append("Predictions: left out by --no-predictions.")
        return {}
    report.notes.append("Predictions are made for this page at scale 1, without mirror and without CRF.")
    return predict(network, report.images, ids, options)


def _add_attended(report: Report, wanted: Wanted, options: RunOptions) -> None:
    """The reference gallery, or why there is none."""
    classifier, maps = report.run.made.get("classifier"), report.run.made.get("maps")
    why = None
    if not wanted.attention:
        why = "left out by --no-attention"
    elif maps is None:
        why = "no localization maps are in this run"
    elif "references" not in maps.manifest["schema"]:
        why = "averaged maps do not record references"
    elif not settings_of(maps).get("refs"):
        why = "these maps were made without references (mcis cams --refs 3 makes them with three)"
    elif classifier is None:
        why = "the classifier that these maps were made with is not in this store"
    if why is not None or maps is None or classifier is None or report.images is None or report.photos is None:
        report.notes.append(f"References: {why}.")
        return
    from mcis_cli.report.attended import attended, choose_asked
    from mcis_cli.stages.cams.attention import look

    asked = choose_asked(report.cards, maps, wanted.references)
    options.reporter.start("attention", len(asked), images=1)
    try:
        for one in attended(look(classifier, maps, report.images, asked, options), maps, report.images, report.photos):
            options.reporter.advance()
            report.attended.append(one)
    except DataError as fault:
        report.notes.append(f"References: not complete: {fault}.")
    if not report.attended:
        report.notes.append("References: no image on this page has maps of references that are still there.")


def _matrix(scores: Scores, names: tuple[str, ...]) -> Matrix:
    shares = confusion_shares(scores) if len(names) <= MAX_MATRIX else np.zeros((0, 0))
    return Matrix(
        title=scores.title,
        names=names,
        shares=tuple(tuple(float(share) for share in row) for row in shares),
        mistakes=mistakes(scores, count=NUM_MISTAKES),
        undecided=bool(scores.confusion[:, -1].any()),
    )


def _threshold(scores: Scores) -> Chart | None:
    swept = [at for at in scores.metrics["sweep"] if at["mean_iou"] is not None]
    best, mean = scores.metrics["threshold"], scores.metrics["mean_iou"]
    if len(swept) < 2 or mean is None:
        return None
    return chart(
        "Mean IoU of the maps at each background threshold",
        "background threshold",
        [at["threshold"] for at in swept],
        {"mean IoU %": [at["mean_iou"] for at in swept]},
        percent=True,
        mark=(best, mean, f"{100 * mean:.1f} % at {best:g}"),
    )


def _losses(artifact: Artifact) -> Chart | None:
    log = read_log(artifact.log_path)
    if log is None or not log.losses:
        return None
    lines = {LOSS_NAMES.get(name, name): values for name, values in list(log.losses.items())[:6]}
    return chart(f"Loss of {artifact.stage}", "step", log.steps, lines)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
