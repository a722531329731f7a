"""The chain that a configuration names, and how much of it is done: recipes only, no torch, nothing computed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcis_cli.config import Config, DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.engine import recipes
from mcis_cli.stages.engine.inputs import look_at_images
from mcis_cli.stages.engine.starting_weights import starting_identity
from mcis_cli.store import Artifact, Begun, Recipe, Store, segments_of

WALK = ("affinity-labels", "affinity-net", "affinity")  # what `mcis affinity` does, one after the other
CHAIN = ("train-cls", "cams", *WALK, "pseudo", "train-seg", "eval")
COMMANDS: Mapping[str, str] = {stage: "affinity" if stage in WALK else stage for stage in CHAIN}
NETWORKS: Mapping[str, str] = {"affinity": "affinity-net"}  # what a stage of the chain works with beside its maps
_BY_IMAGE = frozenset({"cams", "affinity-labels", "affinity", "pseudo", "eval"})


@dataclass(frozen=True)
class Wanted:
    """What a configuration asks of a stage.

    Attributes:
        stage: its name.
        recipes: any of these will do: a precision of "auto" is settled by the machine that runs a stage.
        images: the images that it reads.
    """

    stage: str
    recipes: tuple[Recipe, ...]
    images: Catalogue

    @property
    def num_segments(self) -> int | None:
        """How many segments it has; None for trainings."""
        return len(segments_of(self.images.ids)) if self.stage in _BY_IMAGE else None


@dataclass(frozen=True)
class Planned:
    """A stage of the chain: its artifact, or None where it is not done; and then what there is of it."""

    stage: str
    artifact: Artifact | None
    wanted: Wanted
    begun: Begun | None = None


@dataclass(frozen=True)
class Expected:
    """An artifact that is not made yet, as far as what follows from it asks.

    Attributes:
        stage: that will make it.
        id: words in place of the content id, which nobody knows; others for another recipe.
        meta: as far as it is known beforehand.
        ids: of its records.
    """

    stage: str
    id: str
    meta: Mapping[str, Any]
    ids: tuple[str, ...]


def chain_of(settings: Settings) -> Mapping[str, str | None]:
    """The stages that settings ask for, in order, each with the one that it starts from; None is the images."""
    walks = settings.pseudo.background == "affinity"
    starts: dict[str, str | None] = {"train-cls": None, "cams": "train-cls"}
    if walks:
        starts |= {"affinity-labels": "cams", "affinity-net": "affinity-labels", "affinity": "cams"}
    full = settings.train_seg.supervision == "full"
    return starts | {
        "pseudo": "affinity" if walks else "cams",
        "train-seg": None if full else "pseudo",
        "eval": "train-seg",
    }


def plan(settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue | None = None) -> Iterator[Planned]:
    """The stages in order, each with its artifact, without those whose upstream artifact is not done.

    With full supervision the segmentation network has none. A precision of "auto" is settled by the machine that runs
    a stage: here, whichever result there is counts.
    """
    catalogue = catalogue or look_at_images(data, store)
    done: dict[str, Artifact] = {}
    for stage, start in chain_of(settings).items():
        if (start is not None and start not in done) or (stage == "affinity" and "affinity-net" not in done):
            continue
        upstream = None if start is None else done[start]
        wanted = wanted_of(stage, settings, data, catalogue, upstream, network=done.get(NETWORKS.get(stage, "")))
        found = next(filter(None, map(store.find, wanted.recipes)), None)
        begun = None if found else next(filter(None, map(store.begun, wanted.recipes)), None)
        if found:
            done[stage] = found
        yield Planned(stage, found, wanted, begun)


def wanted_of(
    stage: str,
    settings: Settings,
    data: DataConfig,
    catalogue: Catalogue,
    upstream: Artifact | Expected | None,
    saliency: str | None = None,
    network: Artifact | Expected | None = None,
) -> Wanted:
    """What a configuration asks of a stage, given the artifact that it starts from, any of saliency maps, and a
    network: that of a walk, or the segmentation network of a second round."""
    make: Callable[[Any], Recipe]
    config: Config
    if stage == "train-cls":
        config, images = settings.train_cls, recipes.learnt(catalogue, data.train)
        weights = starting_identity(settings.train_cls.backbone, settings.train_cls.weights)
        make = lambda settled: recipes.train_cls(settled, images, weights)  # noqa: E731
    elif stage == "train-seg" and settings.train_seg.supervision == "full":
        config, images = settings.train_seg, catalogue.split(data.train)
        weights = starting_identity(settings.train_seg.backbone, settings.train_seg.weights)
        make = lambda settled: recipes.train_seg(settled, images.digest("masks"), images, weights)  # noqa: E731
    else:
        assert upstream is not None, "such stages are left out"
        config, images, make = _downstream(stage, settings, data, catalogue, upstream, saliency, network)
    return Wanted(stage, tuple(map(make, recipes.settled(config))), images)


def _downstream(
    stage: str,
    settings: Settings,
    data: DataConfig,
    catalogue: Catalogue,
    upstream: Artifact | Expected,
    saliency: str | None,
    network: Artifact | Expected | None,
) -> tuple[Config, Catalogue, Callable[[Any], Recipe]]:
    if stage == "cams":
        mapped, carriers = recipes.cams_images(settings.cams, catalogue, upstream)
        config = recipes.settled_cams(settings.cams, upstream)
        return config, mapped, lambda settled: recipes.cams(settled, upstream.id, mapped, carriers)
    if stage == "pseudo" and upstream.stage == "train-seg":
        images = catalogue.split(upstream.meta["split"])
        return settings.pseudo, images, lambda settled: recipes.second_round(settled, upstream.id, images)
    if stage in WALK:
        images = catalogue.only(upstream.ids)
        return settings.affinity, images, _of_walk(stage, settings, images, upstream, network)
    if stage == "pseudo":
        images = catalogue.only(upstream.ids)
        seen_by = network.id if network else None
        return settings.pseudo, images, lambda settled: recipes.pseudo(settled, upstream.id, images, saliency, seen_by)
    if stage == "train-seg":
        weights = starting_identity(settings.train_seg.backbone, settings.train_seg.weights)
        images = catalogue.only(upstream.ids)
        return settings.train_seg, images, lambda settled: recipes.train_seg(settled, upstream.id, images, weights)
    if upstream.stage != "train-seg" and settings.eval.split is None:
        scored = catalogue.only(upstream.ids, upstream.meta["split"])
    else:
        scored = catalogue.split(settings.eval.split or data.val)
    return (
        settings.eval,
        scored,
        lambda settled: recipes.evaluate(settled, upstream.id, scored, of_stage=upstream.stage),
    )


def _of_walk(
    stage: str,
    settings: Settings,
    images: Catalogue,
    upstream: Artifact | Expected,
    network: Artifact | Expected | None,
) -> Callable[[Any], Recipe]:
    if stage == "affinity-labels":
        return lambda settled: recipes.affinity_labels(settled, upstream.id, images)
    if stage == "affinity-net":
        weights = starting_identity(settings.affinity.backbone, settings.affinity.weights)
        return lambda settled: recipes.affinity_net(settled, upstream.id, images, weights)
    assert network is not None, "left out where it is not done"
    return lambda settled: recipes.affinity(settled, upstream.id, network.id, images)
