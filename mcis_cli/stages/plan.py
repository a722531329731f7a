"""The chain that a configuration names, and how much of it is done: recipes only, no torch, nothing computed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcis_cli.config import Config, DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages import recipes
from mcis_cli.stages.inputs import list_images
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.initial_weights import initial_weights_identity

CHAIN = ("train-cls", "cams", "pseudo", "train-seg", "eval")
Settled = TypeVar("Settled", bound=Config)


@dataclass(frozen=True)
class Planned:
    """A stage of the chain: its artifact, or None where it is not done."""

    stage: str
    artifact: Artifact | None


def plan(settings: Settings, data: DataConfig, store: Store) -> Iterator[Planned]:
    """The stages in order, each with its artifact, without those whose upstream artifact is not done.

    With full supervision the segmentation network has none. A precision of "auto" is settled by the machine that runs
    a stage: here, whichever result there is counts.
    """
    catalogue = list_images(data, store)
    found: Artifact | None = None
    first = {"train-cls", "train-seg"} if settings.train_seg.supervision == "full" else {"train-cls"}
    for stage in CHAIN:
        if found is None and stage not in first:
            continue
        found = next(filter(None, map(store.find, _recipes(stage, settings, data, catalogue, found))), None)
        yield Planned(stage, found)


def _recipes(
    stage: str, settings: Settings, data: DataConfig, catalogue: Catalogue, upstream: Artifact | None
) -> Iterator[Recipe]:
    make: Callable[[Any], Recipe]
    config: Config
    if stage == "train-cls":
        config, images = settings.train_cls, catalogue.split(data.train)
        weights = initial_weights_identity(settings.train_cls.backbone, path_of(settings.train_cls.weights))
        make = lambda settled: recipes.train_cls(settled, images, weights)  # noqa: E731
    elif stage == "train-seg" and settings.train_seg.supervision == "full":
        config, images = settings.train_seg, catalogue.split(data.train)
        weights = initial_weights_identity(settings.train_seg.backbone, path_of(settings.train_seg.weights))
        make = lambda settled: recipes.train_seg(settled, images.digest("masks"), images, weights)  # noqa: E731
    else:
        assert upstream is not None, "such stages are left out"
        config, make = _downstream(stage, settings, data, catalogue, upstream)
    return (make(settled) for settled in _settled(config))


def _downstream(
    stage: str, settings: Settings, data: DataConfig, catalogue: Catalogue, upstream: Artifact
) -> tuple[Config, Callable[[Any], Recipe]]:
    if stage == "cams":
        carriers = catalogue.split(upstream.meta["split"])
        mapped = catalogue.split(settings.cams.split or upstream.meta["split"])
        config = recipes.settled_cams(settings.cams, upstream)
        return config, lambda settled: recipes.cams(settled, upstream.id, mapped, carriers)
    if stage == "pseudo":
        return settings.pseudo, lambda settled: recipes.pseudo(settled, upstream.id, catalogue.only(upstream.ids))
    if stage == "train-seg":
        weights = initial_weights_identity(settings.train_seg.backbone, path_of(settings.train_seg.weights))
        images = catalogue.only(upstream.ids)
        return settings.train_seg, lambda settled: recipes.train_seg(settled, upstream.id, images, weights)
    scored = catalogue.split(settings.eval.split or data.val)
    return settings.eval, lambda settled: recipes.evaluate(settled, upstream.id, scored, of_stage=upstream.stage)


def _settled(config: Settled) -> Iterator[Settled]:
    if getattr(config, "precision", None) != "auto":
        yield config
        return
    for precision in ("bf16", "fp32"):
        yield config.model_copy(update={"precision": precision})


def path_of(weights: str | None) -> Path | None:
    """The file of initial weights that a configuration names."""
    return None if weights is None else Path(weights)
