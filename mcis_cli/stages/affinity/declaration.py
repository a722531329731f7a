"""Declarations of the three stages of `mcis affinity`: sure regions, the network, and the walk."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcis_cli.config import AffinityConfig, Backbone, Config, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.contents import fault_of_maps, maps_measured
from mcis_cli.stages.engine.starting_weights import lacking_weights, starting_identity
from mcis_cli.stages.stage import IGNORE_INDEX, Content, Fields, Meta, MetaOfImages, Request, Stage, Text, Work
from mcis_cli.store import Artifact, Recipe, Schema

LABELS_SCHEMA: Schema = {"labels": ("uint8", 2)}
MAPS_SCHEMA: Schema = {"maps": ("float16", 3), "classes": ("int32", 1)}


class NetworkMeta(Meta):
    """The description that an affinity network is built from."""

    backbone: Backbone
    output_stride: Literal[8, 14, 16]
    radius: Annotated[int, Field(ge=2, le=64)]


class AffinityNetMeta(Meta):
    """The meta of an affinity network."""

    model: NetworkMeta
    initialisation: Text


def labels_recipe(config: AffinityConfig, maps: str, images: Catalogue) -> Recipe:
    """The confident regions of maps: labels of positions that the affinity network learns from."""
    inputs = {"maps": maps, "images": images.digest("images")}
    return AFFINITY_LABELS.recipe(config.recipe_settings(part="regions"), inputs)


def network_recipe(config: AffinityConfig, labels: str, images: Catalogue, weights: str) -> Recipe:
    """The affinity network: images, their labels, and the initial weights."""
    inputs = {"labels": labels, "images": images.digest("images"), "weights": weights}
    return AFFINITY_NET.recipe(config.recipe_settings(part="training"), inputs)


def walk_recipe(config: AffinityConfig, maps: str, network: str, images: Catalogue) -> Recipe:
    """The maps after their random walk, by the affinities that the network finds in the images."""
    inputs = {"maps": maps, "network": network, "images": images.digest("images")}
    return AFFINITY.recipe(config.recipe_settings(part="walk"), inputs)


Asked = tuple[Config, Catalogue, Callable[[AffinityConfig], Recipe]]


def _labels_wanted(request: Request) -> Asked:
    maps, images = request.start, request.images_of_start.labelled()
    return request.settings.affinity, images, lambda settled: labels_recipe(settled, maps.id, images)


def _network_wanted(request: Request) -> Asked:
    config, labels, images = request.settings.affinity, request.start, request.images_of_start
    weights = starting_identity(config.backbone, config.weights)
    return config, images, lambda settled: network_recipe(settled, labels.id, images, weights)


def _walk_wanted(request: Request) -> Asked:
    maps, network, images = request.start, request.network, request.images_of_start
    assert network is not None, "the walk comes after its network"
    return request.settings.affinity, images, lambda settled: walk_recipe(settled, maps.id, network.id, images)


def _run_labels(*args: Any) -> Artifact:
    from mcis_cli.stages.affinity.labels import run

    return run(*args)


def _run_network(*args: Any) -> Artifact:
    from mcis_cli.stages.affinity.train import run

    return run(*args)


def _run_walk(*args: Any) -> Artifact:
    from mcis_cli.stages.affinity.walk import run

    return run(*args)


def _fault_of_labels(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    labels = fields["labels"]
    if not labels.size:
        return f"labels of the shape {labels.shape}"
    known = (labels <= len(meta["class_names"])) | (labels == IGNORE_INDEX)
    return None if known.all() else "a value that is no class"


def _network_facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    return f"{settings.get('backbone')}", f"seed {settings.get('seed')}"


def _walk_facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    return (f"{2 ** int(settings.get('walk_doublings', 0))} steps",)


def _num_steps(settings: Mapping[str, Any], images: Catalogue) -> int:
    return int(settings["epochs"] * math.ceil(len(images) / settings["batch_size"]))


def _foresees(config: AffinityConfig, recipe: Recipe) -> Mapping[str, Any]:
    return {"model": {name: recipe.config.get(name) for name in ("network", "backbone", "output_stride")}}


def _walks(settings: Settings) -> bool:
    return settings.pseudo.background == "affinity"


_LESS_MEMORY = "--set affinity.longest_side=320, --set affinity.crop=224, --set affinity.batch_size=4 or --workers 1"

AFFINITY_LABELS = Stage(
    name="affinity-labels",
    version=1,
    title="sure regions",
    content=Content(kind="sure regions", schemas=(LABELS_SCHEMA,), meta=MetaOfImages, fault_of=_fault_of_labels),
    work=Work(
        command="affinity",
        section="affinity",
        run=_run_labels,
        wanted=_labels_wanted,
        roles={"maps": ("maps",)},
        starts_from=lambda settings: "maps",
        in_chain=_walks,
        less_memory=_LESS_MEMORY,
    ),
)
AFFINITY_NET = Stage(
    name="affinity-net",
    version=2,
    title="network of affinities",
    content=Content(kind="affinities", schemas=(None,), meta=AffinityNetMeta, facts=_network_facts),
    work=Work(
        command="affinity",
        section="affinity",
        run=_run_network,
        wanted=_network_wanted,
        roles={"labels": ("sure regions",)},
        starts_from=lambda settings: "sure regions",
        in_chain=_walks,
        by_image=False,
        num_steps=_num_steps,
        lacks=lambda request, images: lacking_weights(
            request.settings.affinity.backbone, request.settings.affinity.weights
        ),
        foresees=_foresees,
        less_memory=_LESS_MEMORY,
    ),
)
AFFINITY = Stage(
    name="affinity",
    version=1,
    title="maps after their walk",
    content=Content(
        kind="walked maps",
        schemas=(MAPS_SCHEMA,),
        meta=MetaOfImages,
        fault_of=fault_of_maps,
        shown_as="walked map",
        facts=_walk_facts,
        measured=maps_measured,
    ),
    work=Work(
        command="affinity",
        section="affinity",
        run=_run_walk,
        wanted=_walk_wanted,
        roles={"maps": ("maps",), "network": ("affinities",)},
        starts_from=lambda settings: "maps",
        in_chain=_walks,
        follows=("`mcis pseudo {} --background affinity` makes pseudo masks",),
        less_memory=_LESS_MEMORY,
    ),
)
