"""The diagram of a run: a box for each stage with its id, after the data set, with scores below the scored stages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mcis_cli.errors import percent
from mcis_cli.stages import names_of, stages
from mcis_cli.stages.evaluate.run import metrics
from mcis_cli.stages.plan.lineage import Run, kinds_in_order, settings_of
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact
from mcis_cli.store.artifact import ID_DIGITS

BOX_WIDTH, BOX_HEIGHT, GAP = 176.0, 92.0, 30.0
RAIL, TOP, BELOW = 30.0, 66.0, 34.0
LINE, LETTERS = 15.0, 26  # of facts: height of a further line, and characters of a line


@dataclass(frozen=True)
class Box:
    """A stage in the diagram: place, size, and lines of words."""

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
    """Boxes, arrows between them (SVG path data), and the data set before them."""

    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    feeds: tuple[str, ...]
    rail: float
    width: float
    height: float
    data: str
    words: str


def draw(run: Run, data: str) -> Diagram:
    """The diagram of a run; a stage that is not in the store is a dashed box.

    Args:
        run: the artifacts.
        data: the data set, in a few words.
    """
    kinds = [kind for kind in kinds_in_order() if kind in run.made or kind in run.absent]
    boxes = _of_one_height([_box(run, kind, column) for column, kind in enumerate(kinds)])
    by_kind = dict(zip(kinds, boxes, strict=True))
    scores = [_score(run.scored[kind], by_kind[kind]) for kind in run.scored]
    pairs = pairwise(boxes)
    arrows = [f"M{a.x + BOX_WIDTH},{a.y + BOX_HEIGHT / 2}H{b.x - 7}" for a, b in pairs]
    arrows += [f"M{s.x + BOX_WIDTH / 2},{s.y - BELOW}V{s.y - 7}" for s in scores]
    lowest = max(box.y + box.height for box in (*boxes, *scores))
    columns = max(2, len(boxes))  # with this many there is room for the data set
    return Diagram(
        boxes=(*boxes, *scores),
        arrows=tuple(arrows),
        feeds=tuple(f"M{box.x + BOX_WIDTH / 2},{RAIL}V{TOP - 7}" for box in boxes if box.is_there),
        rail=RAIL,
        width=columns * (BOX_WIDTH + GAP) - GAP + 2,
        height=lowest + 2,
        data=data,
        words=", then ".join(f"{box.work} {box.id}" for box in boxes),
    )


def _box(run: Run, kind: Kind, column: int) -> Box:
    artifact = run.made.get(kind)
    x = 1 + column * (BOX_WIDTH + GAP)
    stage = stages()[names_of(kind)[0]]
    if artifact is None:
        id_ = run.absent[kind][:ID_DIGITS]
        return Box(stage.name, stage.title, id_, ("not in this store",), x, TOP, is_there=False)
    settings = settings_of(artifact)
    facts = ("imported",) if settings.get("imported") else _in_lines(stage.content.facts(settings, artifact))
    return Box(stage.name, stage.title, artifact.id[:ID_DIGITS], facts, x, TOP)


def _of_one_height(boxes: Sequence[Box]) -> list[Box]:
    further = max(0, *(len(box.facts) - 1 for box in boxes))
    return [replace(box, height=BOX_HEIGHT + LINE * further) for box in boxes]


def _score(artifact: Artifact, scored: Box) -> Box:
    found = metrics(artifact)
    facts = f"{percent(found['mean_iou'])} % on {found['split']}"
    return Box(
        artifact.stage, "mean IoU", artifact.id[:ID_DIGITS], (facts,), scored.x, scored.y + scored.height + BELOW
    )


def _in_lines(words: Sequence[str]) -> tuple[str, ...]:
    lines: list[str] = []
    for word in words:
        if lines and len(longer := f"{lines[-1]} · {word}") <= LETTERS:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)
