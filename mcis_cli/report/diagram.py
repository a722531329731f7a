"""The picture of a run: a box for each stage with its id, fed by the data set, scores hanging below what they score."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mcis_cli.errors import counted
from mcis_cli.report.lineage import Run, settings_of
from mcis_cli.stages.evaluate import metrics
from mcis_cli.stages.plan import CHAIN
from mcis_cli.store import Artifact
from mcis_cli.store.artifact import ID_DIGITS

BOX_WIDTH, BOX_HEIGHT, GAP = 168.0, 92.0, 30.0
RAIL, TOP, BELOW = 30.0, 66.0, 34.0
WORKS: Mapping[str, str] = {
    "train-cls": "classifier",
    "cams": "localization maps",
    "affinity-labels": "sure regions",
    "affinity-net": "network of affinities",
    "affinity": "maps after their walk",
    "pseudo": "pseudo masks",
    "train-seg": "segmentation network",
    "eval": "scores",
}


@dataclass(frozen=True)
class Box:
    """A stage in the picture: place, size, and three lines of words."""

    stage: str
    work: str
    id: str
    facts: str
    x: float
    y: float
    is_there: bool = True
    width: float = BOX_WIDTH
    height: float = BOX_HEIGHT


@dataclass(frozen=True)
class Diagram:
    """Boxes, arrows between them (SVG path data), and what feeds them."""

    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    feeds: tuple[str, ...]
    rail: float
    width: float
    height: float
    data: str
    told: str


def draw(run: Run, data: str) -> Diagram:
    """The picture of a run; a stage that is not in the store is a dashed box.

    Args:
        run: the artifacts.
        data: what is known of the data set, in a few words.
    """
    stages = [stage for stage in CHAIN[:-1] if stage in run.made or stage in run.absent]
    boxes = [_stage(run, stage, column) for column, stage in enumerate(stages)]
    by_stage = {box.stage: box for box in boxes}
    scores = [_score(run.scored[subject], by_stage[subject].x) for subject in run.scored]
    pairs = pairwise(boxes)
    arrows = [f"M{a.x + BOX_WIDTH},{a.y + BOX_HEIGHT / 2}H{b.x - 7}" for a, b in pairs]
    arrows += [f"M{s.x + BOX_WIDTH / 2},{TOP + BOX_HEIGHT}V{s.y - 7}" for s in scores]
    lowest = TOP + BOX_HEIGHT + (BELOW + BOX_HEIGHT if scores else 0)
    return Diagram(
        boxes=(*boxes, *scores),
        arrows=tuple(arrows),
        feeds=tuple(f"M{box.x + BOX_WIDTH / 2},{RAIL}V{TOP - 7}" for box in boxes if box.is_there),
        rail=RAIL,
        width=len(boxes) * (BOX_WIDTH + GAP) - GAP + 2,
        height=lowest + 2,
        data=data,
        told=", then ".join(f"{box.work} {box.id}" for box in boxes),
    )


def _stage(run: Run, stage: str, column: int) -> Box:
    artifact = run.made.get(stage)
    x = 1 + column * (BOX_WIDTH + GAP)
    if artifact is None:
        return Box(stage, WORKS[stage], run.absent[stage][:ID_DIGITS], "not in this store", x, TOP, is_there=False)
    return Box(stage, WORKS[stage], artifact.id[:ID_DIGITS], _facts(artifact), x, TOP)


def _score(artifact: Artifact, x: float) -> Box:
    found = metrics(artifact)
    mean = found["mean_iou"]
    facts = f"{'–' if mean is None else f'{100 * mean:.1f}'} % on {found['split']}"
    return Box("eval", "mean IoU", artifact.id[:ID_DIGITS], facts, x, TOP + BOX_HEIGHT + BELOW)


def _facts(artifact: Artifact) -> str:
    """The most telling settings of a stage."""
    config: Mapping[str, Any] = settings_of(artifact)
    if config.get("imported"):
        return "imported"
    words: list[str] = []
    match artifact.stage:
        case "train-cls":
            words = [f"loss {config.get('loss')}", f"{config.get('backbone')}", f"seed {config.get('seed')}"]
        case "cams":
            refs = config.get("refs")
            drawn = "nearest" if config.get("reference_choice") == "nearest" else f"seed {config.get('seed')}"
            words = [counted(int(refs), "reference"), drawn] if refs else ["without references"]
        case "affinity-net":
            words = [f"{config.get('backbone')}", f"seed {config.get('seed')}"]
        case "affinity":
            words = [f"{2 ** int(config.get('walk_doublings', 0))} steps"]
        case "pseudo":
            words = [f"background {config.get('background')}"]
            words += [*(["soft"] if config.get("fusion") == "soft" else []), *(["CRF"] if config.get("crf") else [])]
        case "train-seg":
            words = [f"{config.get('backbone')}", f"seed {config.get('seed')}"]
    return " · ".join(words)
