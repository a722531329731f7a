"""The picture of a run: a box for each stage with its id, fed by the data set, scores hanging below what they score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from mcis_cli.errors import counted
from mcis_cli.stages.evaluate.run import metrics
from mcis_cli.stages.plan.chain import CHAIN
from mcis_cli.stages.plan.lineage import Run, settings_of
from mcis_cli.store import Artifact
from mcis_cli.store.artifact import ID_DIGITS

BOX_WIDTH, BOX_HEIGHT, GAP = 176.0, 92.0, 30.0
RAIL, TOP, BELOW = 30.0, 66.0, 34.0
LINE, LETTERS = 15.0, 26  # of facts: height of a further line, and what a line has room for
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
    """A stage in the picture: place, size, and lines of words."""

    stage: str
    work: str
    id: str
    facts: tuple[str, ...]
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
    boxes = _of_one_height([_stage(run, stage, column) for column, stage in enumerate(stages)])
    by_stage = {box.stage: box for box in boxes}
    scores = [_score(run.scored[subject], by_stage[subject]) for subject in run.scored]
    pairs = pairwise(boxes)
    arrows = [f"M{a.x + BOX_WIDTH},{a.y + BOX_HEIGHT / 2}H{b.x - 7}" for a, b in pairs]
    arrows += [f"M{s.x + BOX_WIDTH / 2},{s.y - BELOW}V{s.y - 7}" for s in scores]
    lowest = max(box.y + box.height for box in (*boxes, *scores))
    columns = max(2, len(boxes))  # so many have room for what is known of the data set
    return Diagram(
        boxes=(*boxes, *scores),
        arrows=tuple(arrows),
        feeds=tuple(f"M{box.x + BOX_WIDTH / 2},{RAIL}V{TOP - 7}" for box in boxes if box.is_there),
        rail=RAIL,
        width=columns * (BOX_WIDTH + GAP) - GAP + 2,
        height=lowest + 2,
        data=data,
        told=", then ".join(f"{box.work} {box.id}" for box in boxes),
    )


def _stage(run: Run, stage: str, column: int) -> Box:
    artifact = run.made.get(stage)
    x = 1 + column * (BOX_WIDTH + GAP)
    if artifact is None:
        return Box(stage, WORKS[stage], run.absent[stage][:ID_DIGITS], ("not in this store",), x, TOP, is_there=False)
    return Box(stage, WORKS[stage], artifact.id[:ID_DIGITS], _facts(artifact), x, TOP)


def _of_one_height(boxes: Sequence[Box]) -> list[Box]:
    further = max(0, *(len(box.facts) - 1 for box in boxes))
    return [replace(box, height=BOX_HEIGHT + LINE * further) for box in boxes]


def _score(artifact: Artifact, scored: Box) -> Box:
    found = metrics(artifact)
    mean = found["mean_iou"]
    facts = f"{'–' if mean is None else f'{100 * mean:.1f}'} % on {found['split']}"
    return Box("eval", "mean IoU", artifact.id[:ID_DIGITS], (facts,), scored.x, scored.y + scored.height + BELOW)


def _facts(artifact: Artifact) -> tuple[str, ...]:
    """The most telling settings of a stage, in lines."""
    config: Mapping[str, Any] = settings_of(artifact)
    if config.get("imported"):
        return ("imported",)
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
            asked = artifact.inputs.get("network", "")[:ID_DIGITS]
            alone = artifact.meta.get("background") == "network"
            words = [f"of network {asked}" if alone else f"background {config.get('background')}"]
            words += [*(["soft"] if config.get("fusion") == "soft" else []), *(["CRF"] if config.get("crf") else [])]
            words += [f"asked {asked}"] if asked and not alone else []
        case "train-seg":
            words = [f"{config.get('backbone')}", f"seed {config.get('seed')}"]
    return _in_lines(words)


def _in_lines(words: Sequence[str]) -> tuple[str, ...]:
    lines: list[str] = []
    for word in words:
        if lines and len(longer := f"{lines[-1]} · {word}") <= LETTERS:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)
