"""The lineage of a result: the artifacts of one run, found through their inputs, and their scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DamagedError, MissingError, UsageError, counted
from mcis_cli.stages import chained, check, holds, kind_of, stages
from mcis_cli.stages.materials import DATASET
from mcis_cli.stages.stage import SCORED, Kind
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.artifact import ID_DIGITS
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep.verification import locate

# A method that knows tags alone has no such maps, so a score that rests on them says so.
SALIENCY_MADE = "uses saliency maps, which come from a network that learned from pixel masks of other images"
SALIENCY_GIVEN = (
    "uses saliency maps (from a network that learned from pixel masks of other images, unless you made them otherwise)"
)


@dataclass(frozen=True)
class Run:
    """The artifacts of one run.

    Attributes:
        made: the artifacts in the store by kind, in the order of the chain; scores apart.
        scored: by the scored kind, the newest artifact of `mcis eval`.
        absent: by the kind of an artifact that is not in the store, the content id that a later stage names it by.
    """

    made: Mapping[Kind, Artifact]
    scored: Mapping[Kind, Artifact]
    absent: Mapping[Kind, str]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All of them, scores last."""
        return (*self.made.values(), *self.scored.values())

    @property
    def last(self) -> Artifact:
        """The artifact of the last stage, which has the classes and the data set."""
        return self.artifacts[len(self.made) - 1]

    @property
    def network_of_masks(self) -> str:
        """The id of the network that pseudo masks of a second round were made with; otherwise empty."""
        masks = self.made.get("pseudo masks")
        return "" if masks is None else masks.inputs.get("network", "")[:ID_DIGITS]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes; class k has the value k + 1 in masks."""
        return tuple(self.last.meta["class_names"])

    @property
    def dataset(self) -> str:
        """Content id of the data set."""
        return str(self.last.meta["dataset"])


def kinds_in_order() -> tuple[Kind, ...]:
    """The kinds of artifacts that a chain makes, in order, without those that describe others."""
    kinds = (stage.content.kind for stage in chained().values() if stage.content.kind not in ("scores", "reviews"))
    return tuple(dict.fromkeys(kinds))  # cams and average both make maps


def trace(given: Sequence[Artifact], store: Store) -> Run:
    """The run that some artifacts belong to: their inputs, and the scores of all of them.

    Raises:
        UsageError: they belong to several runs, or to no stage of a chain.
        DamagedError: one of them is not what its stage writes.
    """
    made: dict[Kind, Artifact] = {}
    scored: dict[Kind, Artifact] = {}
    absent: dict[Kind, str] = {}
    for artifact in given:
        if artifact.stage not in chained():
            raise UsageError(
                f"{artifact.path.name} is of {artifact.stage}: expected an artifact of {', '.join(chained())}; "
                "`mcis ls` lists all"
            )
        for found in _upwards(artifact, store, absent):
            if holds(found, "scores"):
                scored[_subject(found)] = found
                continue
            kind = stages()[found.stage].content.kind
            if kind in made and made[kind].id != found.id:
                raise UsageError(
                    f"{made[kind].path.stem} and {found.path.stem} belong to two runs: expected artifacts of one; "
                    "`mcis report --compare A B` shows two side by side"
                )
            made[kind] = found
    if not made:
        raise MissingError(
            f"{given[0].path.name} holds the scores of an artifact that is not in this store, so there is nothing to "
            "show; `mcis merge` copies it from another store"
        )
    for score in _scores_of(made, store):
        scored.setdefault(_subject(score), score)
    for kind in made:
        absent.pop(kind, None)
    return Run(
        made={kind: made[kind] for kind in kinds_in_order() if kind in made},
        scored={kind: scored[kind] for kind in SCORED if kind in scored and kind in made},
        absent=absent,
    )


def newest(store: Store) -> Artifact | None:
    """The newest artifact of the last stage of the chain that has any."""
    found = {kind_of(artifact.stage): artifact for artifact in store.artifacts()}
    return next((found[kind] for kind in reversed(kinds_in_order()) if kind in found), None)


def _upwards(artifact: Artifact, store: Store, absent: dict[Kind, str]) -> Iterator[Artifact]:
    """An artifact, and its inputs by their first roles."""
    check(artifact)
    yield artifact
    work = stages()[artifact.stage].work
    role, kinds = next(iter(work.roles.items()), ("", ())) if work is not None else ("", ())
    content_id = artifact.inputs.get(role, "")
    if len(content_id) != 64 or (artifact.meta.get("supervision") == "full" and not holds(artifact, "scores")):
        return  # the digest of ground truth is not an artifact
    try:
        before = store.get(content_id)
    except MissingError:
        absent[_subject(artifact) if holds(artifact, "scores") else kinds[0]] = content_id
        return
    kind = kind_of(artifact.stage)  # of averaged maps, those that were averaged are not of the run
    yield from (one for one in _upwards(before, store, absent) if kind_of(one.stage) != kind)


def _subject(scores: Artifact) -> Kind:
    """The kind of the scored artifact."""
    kind = kind_of(str(scores.meta["subject"]))
    assert kind is not None, "checked with the artifact"
    return kind


def _scores_of(made: Mapping[Kind, Artifact], store: Store) -> list[Artifact]:
    """Scores of these artifacts by `mcis eval`, newest first."""
    ids = {artifact.id for artifact in made.values()}
    found = [artifact for artifact in store.artifacts() if holds(artifact, "scores")]
    scores = [artifact for artifact in reversed(found) if artifact.inputs.get("artifact") in ids]
    for score in scores:
        check(score)
    return scores


def review_of(masks: Artifact, store: Store) -> Artifact | None:
    """The newest review of pseudo masks, if there is any."""
    found = [one for one in store.artifacts() if holds(one, "reviews") and one.inputs.get("masks") == masks.id]
    return found[-1] if found else None


def saliency_behind(artifact: Artifact, store: Store) -> str:
    """A sentence that a result rests on saliency maps; empty if it does not.

    A recipe of pseudo masks names the saliency maps that determine their background.
    """
    return _first_behind(artifact, store, _saliency_of)


def corrections_behind(artifact: Artifact, store: Store) -> str:
    """A sentence that a result rests on corrected masks, and on how many; empty if it does not.

    Pseudo masks list the images whose mask was corrected.
    """
    return _first_behind(artifact, store, _corrections_of)


def _first_behind(artifact: Artifact, store: Store, said_of: Callable[[Artifact, Store], str]) -> str:
    """What is said of the first pseudo masks behind a result that have something to say; empty if none has.

    Artifacts that are not in the store, or are damaged, are passed over.
    """
    try:
        if holds(artifact, "pseudo masks") and (said := said_of(artifact, store)):
            return said
        found = [artifact_of(content_id, store) for content_id in artifact.inputs.values()]
    except DamagedError:
        return ""
    return next(filter(None, (_first_behind(one, store, said_of) for one in found if one is not None)), "")


def _saliency_of(masks: Artifact, store: Store) -> str:
    if "saliency" not in masks.inputs:
        return ""
    maps = artifact_of(masks.inputs["saliency"], store)
    return SALIENCY_MADE if maps is not None and "model" in maps.inputs else SALIENCY_GIVEN


def _corrections_of(masks: Artifact, store: Store) -> str:
    if not (corrected := masks.meta.get("corrected")):
        return ""
    return (
        f"uses corrected masks of {len(corrected):,} of {counted(len(masks), 'image')}, so it rests on more than tags"
    )


def beyond_tags(artifact: Artifact, store: Store) -> str:
    """What a result rests on beside tags, for all places that show a score; empty if on nothing."""
    return "; ".join(filter(None, [saliency_behind(artifact, store), corrections_behind(artifact, store)]))


def settings_of(artifact: Artifact) -> dict[str, Any]:
    """The settings of a stage that its result depends on."""
    return dict(artifact.manifest["recipe"].get("config", {}))


def split_of(run: Run, images: Catalogue, image_id: str) -> str:
    """The split of the run that an image is in; of several, one that a stage used."""
    used = [str(artifact.meta["split"]) for artifact in run.artifacts]
    splits = images[image_id].splits
    return next((name for name in used if name in splits), min(splits, default=""))


def known_in(store: Store) -> list[Done]:
    """The notes of all artifacts that were made, the newest last."""
    return sorted(store.all_done(), key=lambda done: str(done.provenance.get("created", "")))


def recipe_of(ref: str, store: Store) -> tuple[Recipe, Done | None]:
    """The recipe that a reference names, and its artifact, if it was made.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which stands for its newest.
        store: the store.

    Raises:
        MissingError: nothing of that name was made or begun.
    """
    known = known_in(store)
    stage = stages().get(ref)
    if stage is not None and (stage.work is not None or stage is DATASET):
        newest = [done for done in known if done.recipe.stage == ref]
        if not newest:
            raise MissingError(f"{store.root} has no artifact of {ref} to compare with; run `mcis {ref}` first")
        return newest[-1].recipe, newest[-1]
    if len(ref) >= 8:
        begun: list[tuple[Recipe, Done | None]] = [
            (one, None) for one in store.unfinished().values() if one is not None
        ]
        for recipe, done in [*((done.recipe, done) for done in known), *begun]:
            if recipe.key.startswith(ref):
                return recipe, done
    path = locate(store, ref)
    for done in reversed(known):
        if done.file_name == path.name:
            return done.recipe, done
    with Artifact(path) as artifact:
        try:
            recipe = Recipe(stage=artifact.stage, **artifact.manifest["recipe"])
        except (TypeError, ValueError):
            raise DamagedError(f"{path} is damaged: its recipe is not understood; copy it again") from None
        return recipe, Done(recipe, artifact.id, artifact.meta, artifact.provenance)


def artifact_of(content_id: str, store: Store) -> Artifact | None:
    """The artifact of a content id, if it is in the store."""
    try:
        return store.get(content_id) if len(content_id) == 64 else None
    except MissingError:
        return None
