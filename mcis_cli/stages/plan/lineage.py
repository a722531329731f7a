"""What a result was made from: the artifacts of one run, found through their inputs, and the scores of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import MissingError, UsageError
from mcis_cli.stages.engine.kinds import check_kind
from mcis_cli.stages.plan.chain import CHAIN
from mcis_cli.stages.plan.why import ROLES
from mcis_cli.store import Artifact, Store
from mcis_cli.store.artifact import ID_DIGITS

SUBJECTS = ("cams", "affinity", "pseudo", "train-seg")  # what can be scored, in the order in which it is made


@dataclass(frozen=True)
class Run:
    """The artifacts of one run.

    Attributes:
        made: the artifact of each stage of the chain that is in the store, in the order of the chain; scores apart.
        scored: by the stage that is scored, what `mcis eval` made of it; the newest of several.
        absent: by the stage that is not in the store, the content id that a later stage names it by.
    """

    made: Mapping[str, Artifact]
    scored: Mapping[str, Artifact]
    absent: Mapping[str, str]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All of them, scores last."""
        return (*self.made.values(), *self.scored.values())

    @property
    def last(self) -> Artifact:
        """The last stage's, which knows the classes and the data set."""
        return self.artifacts[len(self.made) - 1]

    @property
    def asked(self) -> str:
        """The id of the network that the pseudo masks of a second round were made with; empty where there is none."""
        return self.made["pseudo"].inputs.get("network", "")[:ID_DIGITS] if "pseudo" in self.made else ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes; class k has the value k + 1 in masks."""
        return tuple(self.last.meta["class_names"])

    @property
    def dataset(self) -> str:
        """Content id of the data set."""
        return str(self.last.meta["dataset"])


def trace(given: Sequence[Artifact], store: Store) -> Run:
    """The run that some artifacts are of: what they were made from, and the scores of all that.

    Raises:
        UsageError: they are of several runs, or of no stage of the chain.
        DamagedError: one of them is not what its stage writes.
    """
    made: dict[str, Artifact] = {}
    scored: dict[str, Artifact] = {}
    absent: dict[str, str] = {}
    for artifact in given:
        if artifact.stage not in CHAIN:
            raise UsageError(
                f"{artifact.path.name} is of {artifact.stage}: expected an artifact of {', '.join(CHAIN)}; "
                "`mcis ls` shows what there is"
            )
        for found in _upwards(artifact, store, absent):
            place = scored if found.stage == "eval" else made
            slot = str(found.meta["subject"]) if found.stage == "eval" else found.stage
            if slot in place and place[slot].id != found.id and place is made:
                raise UsageError(
                    f"{place[slot].path.stem} and {found.path.stem} are of two runs: expected artifacts of one; "
                    "`mcis report --compare A B` shows two side by side"
                )
            place[slot] = found
    if not made:
        raise MissingError(
            f"what {given[0].path.name} scores is not in this store, nothing can be shown; `mcis merge` brings it"
        )
    for score in _scores_of(made, store):
        scored.setdefault(str(score.meta["subject"]), score)
    for slot in made:
        absent.pop(slot, None)
    return Run(
        made={stage: made[stage] for stage in CHAIN if stage in made},
        scored={subject: scored[subject] for subject in SUBJECTS if subject in scored and subject in made},
        absent=absent,
    )


def newest(store: Store) -> Artifact | None:
    """The newest artifact of the last stage of the chain that anything was made of."""
    found = {artifact.stage: artifact for artifact in store.artifacts()}
    return next((found[stage] for stage in reversed(CHAIN[:-1]) if stage in found), None)


def _upwards(artifact: Artifact, store: Store, absent: dict[str, str]) -> Iterator[Artifact]:
    check_kind(artifact)
    yield artifact
    content_id = artifact.inputs.get(ROLES.get(artifact.stage, ""), "")
    if len(content_id) != 64:
        return
    try:
        before = store.get(content_id)
    except MissingError:
        supervision = artifact.meta.get("supervision")
        if not (artifact.stage == "train-seg" and supervision == "full"):  # which names ground truth by its digest
            absent[_stage_before(artifact)] = content_id
        return
    yield from _upwards(before, store, absent)


def _stage_before(artifact: Artifact) -> str:
    if artifact.stage == "eval":
        return str(artifact.meta["subject"])
    role = ROLES[artifact.stage]
    return {"classifier": "train-cls", "labels": "affinity-labels", "masks": "pseudo"}.get(role, "cams")


def _scores_of(made: Mapping[str, Artifact], store: Store) -> list[Artifact]:
    """What `mcis eval` made of these artifacts, newest first."""
    ids = {artifact.id for artifact in made.values()}
    found = [artifact for artifact in store.artifacts() if artifact.stage == "eval"]
    scores = [artifact for artifact in reversed(found) if artifact.inputs.get("artifact") in ids]
    for score in scores:
        check_kind(score)
    return scores


def settings_of(artifact: Artifact) -> dict[str, Any]:
    """The settings of a stage that its result depends on."""
    return dict(artifact.manifest["recipe"].get("config", {}))


def split_of(run: Run, images: Catalogue, image_id: str) -> str:
    """The split of the run that an image is in; where there are several, one that a stage used."""
    used = [str(artifact.meta["split"]) for artifact in run.artifacts]
    splits = images[image_id].splits
    return next((name for name in used if name in splits), min(splits, default=""))
