"""Declaration of `train-cls`, the training of the classifier."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcis_cli.config import AffinityWeights, Backbone, Config, TrainClsConfig
from mcis_cli.data.catalogue import DOMAINS, Catalogue
from mcis_cli.stages.contents import refuse_unlisted
from mcis_cli.stages.engine.starting_weights import lacking_weights, starting_identity
from mcis_cli.stages.stage import Content, Meta, MetaOfImages, Request, Side, Stage, Work
from mcis_cli.store import Artifact, Recipe
from mcis_cli.store.files import damaged


class ClassifierMeta(Meta):
    """The description that a classifier is built from."""

    backbone: Backbone
    output_stride: Literal[8, 14, 16]
    heads: Literal["shared", "separate"]
    affinity_init: Literal["uniform", "identity"]
    affinity_scale: Annotated[float, Field(gt=0, le=1e4)] | None = None
    equivariant: bool = False
    affinity_weights: AffinityWeights = "shared"
    new_layer_init: Literal["gaussian", "released"] = "gaussian"
    mask_bias: bool = True
    new_layers: Annotated[int, Field(ge=0, le=8)] | None = None
    kept_epochs: Annotated[int, Field(ge=0, le=2**16)] = 0
    frozen_stages: Annotated[int, Field(ge=0)] = 0
    num_foreground: int


class TrainClsMeta(MetaOfImages):
    """The meta of a classifier."""

    model: ClassifierMeta
    image_size: Side


def recipe(config: TrainClsConfig, images: Catalogue, weights: str) -> Recipe:
    """The classifier: images and tags of the training split and of the sources, and the initial weights."""
    completed = config.model_copy(update={"affinity_weights": affinity_weights(config, images)})
    sources = "single-label" if "single-label" in images.domains else "none"
    settings = {**completed.recipe_settings(sources=sources), "split": images.split_name}
    inputs = {"images": images.digest("images", "labels"), "weights": weights}
    return TRAIN_CLS.recipe(settings, inputs, revision=int(config.self_pairs))


def affinity_weights(config: TrainClsConfig, images: Catalogue) -> AffinityWeights:
    """One W_P or three: by default three with single-label images, one without them."""
    return (config.affinity_weights or "per-domain-pair") if "single-label" in images.domains else "shared"


def learnt(catalogue: Catalogue, split: str) -> Catalogue:
    """The images that a classifier learns from: those of the split, and all of the sources."""
    return catalogue.split(split, DOMAINS)


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[TrainClsConfig], Recipe]]:
    config, images = request.settings.train_cls, learnt(request.catalogue, request.data.train)
    weights = starting_identity(config.backbone, config.weights)
    return config, images, lambda settled: recipe(settled, images, weights)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.train_cls.run import run

    return run(*args)


def _check_sizes(artifact: Artifact, meta: TrainClsMeta) -> None:
    refuse_unlisted(artifact, meta.model.backbone)
    num_foreground = len(meta.class_names)
    if meta.model.num_foreground != num_foreground:
        raise damaged(artifact.path, f"its network has {meta.model.num_foreground} classes", f"{num_foreground}")


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    return f"loss {settings.get('loss')}", f"{settings.get('backbone')}", f"seed {settings.get('seed')}"


def _num_steps(settings: Mapping[str, Any], images: Catalogue) -> int:
    tagged = sum(entry.is_labelled for entry in images.entries)
    return int(settings["epochs"] * math.ceil(tagged / (settings["batch_pairs"] * settings.get("processes", 1))))


def _foresees(config: TrainClsConfig, recipe: Recipe) -> Mapping[str, Any]:
    model = {name: recipe.config.get(name) for name in ("network", "backbone", "output_stride")}
    return {"image_size": config.image_size, "model": model}


TRAIN_CLS = Stage(
    name="train-cls",
    version=3,
    title="classifier",
    content=Content(kind="classifier", schemas=(None,), meta=TrainClsMeta, check_sizes=_check_sizes, facts=_facts),
    work=Work(
        command="train-cls",
        section="train_cls",
        run=_run,
        wanted=_wanted,
        roles={},
        starts_from=lambda settings: None,
        by_image=False,
        ranks=True,
        num_steps=_num_steps,
        foresees=_foresees,
        lacks=lambda request, images: lacking_weights(
            request.settings.train_cls.backbone, request.settings.train_cls.weights
        ),
        reads=frozenset({"images", "labels"}),
        domains=lambda recipe, role: DOMAINS,
        follows=("`mcis cams {}` makes localization maps",),
        less_memory="--set train-cls.batch_pairs=2, --set train-cls.image_size=224 or --workers 1",
    ),
)
