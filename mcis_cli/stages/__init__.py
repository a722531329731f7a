"""The stages: each is a declaration in its own room, and has one line here, in the order of the chain."""

from collections.abc import Iterator
from typing import Any

from mcis_cli.stages.affinity.declaration import AFFINITY, AFFINITY_LABELS, AFFINITY_NET
from mcis_cli.stages.average.declaration import AVERAGE
from mcis_cli.stages.cams.declaration import CAMS
from mcis_cli.stages.evaluate.declaration import EVAL
from mcis_cli.stages.materials import CORRECTED, DATASET, SALIENCY, WEIGHTS
from mcis_cli.stages.pseudo.declaration import PSEUDO
from mcis_cli.stages.review.declaration import REVIEW
from mcis_cli.stages.stage import Fields, Kind, Stage
from mcis_cli.stages.train_cls.declaration import TRAIN_CLS
from mcis_cli.stages.train_seg.declaration import TRAIN_SEG
from mcis_cli.store import Artifact, Record
from mcis_cli.store.files import damaged

STAGES: tuple[Stage, ...] = (
    DATASET,
    SALIENCY,
    WEIGHTS,
    CORRECTED,
    TRAIN_CLS,
    CAMS,
    AVERAGE,
    AFFINITY_LABELS,
    AFFINITY_NET,
    AFFINITY,
    PSEUDO,
    REVIEW,
    TRAIN_SEG,
    EVAL,
)


def stages() -> dict[str, Stage]:
    """All stages by name."""
    return {stage.name: stage for stage in STAGES}


def chained() -> dict[str, Stage]:
    """The stages that a chain can have, by name, in order."""
    return {stage.name: stage for stage in STAGES if stage.work is not None}


def names_of(*kinds: Kind) -> tuple[str, ...]:
    """The names of the stages whose artifacts are of these kinds, in order of the kinds."""
    return tuple(stage.name for kind in kinds for stage in STAGES if stage.content.kind == kind)


def kind_of(name: str) -> Kind | None:
    """The kind of a stage's artifacts; None for a stage that is not listed."""
    stage = stages().get(name)
    return None if stage is None else stage.content.kind


def command_of(name: str) -> str:
    """The command that runs a stage; the stage's name if none does."""
    stage = stages().get(name)
    return stage.work.command if stage is not None and stage.work is not None else name


def stages_of(command: str) -> tuple[str, ...]:
    """The names of the stages that a command runs, in order."""
    return tuple(name for name, stage in chained().items() if stage.work is not None and stage.work.command == command)


def holds(artifact: Artifact, *kinds: Kind) -> bool:
    """Whether an artifact is of one of these kinds."""
    return artifact.stage in names_of(*kinds)


def check(artifact: Artifact) -> None:
    """Check the meta of an artifact; one of an unknown stage passes.

    Raises:
        DamagedError: its stage does not write such artifacts.
    """
    if (stage := stages().get(artifact.stage)) is not None:
        stage.check(artifact)


def read_record(artifact: Artifact, image_id: str) -> dict[str, Any]:
    """The fields of one record, checked.

    Raises:
        MissingError: there is no record of that id.
        DamagedError: the stage does not write such values.
    """
    fields = artifact.read(image_id)
    _refuse_faults(artifact, image_id, fields)
    return fields


def read_records(artifact: Artifact) -> Iterator[Record]:
    """All records in the order of their ids, each checked.

    Raises:
        DamagedError: the stage does not write such values.
    """
    for image_id, fields in artifact.records():
        _refuse_faults(artifact, image_id, fields)
        yield image_id, fields


def _refuse_faults(artifact: Artifact, image_id: str, fields: Fields) -> None:
    stage = stages().get(artifact.stage)
    if stage is not None and (fault := stage.content.fault_of(fields, artifact.meta)):
        raise damaged(artifact.path, f"{fault} in the record of {image_id!r:.80}", f"what {artifact.stage} writes")
