"""Artifacts made again from their recipes, to the same content id.

The one module beside the command line that knows all stages. Before a stage runs, its recipe is compared with the one
that was done: what cannot lead to the same artifact is not computed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mcis_cli.config import (
    AffinityConfig,
    CamsConfig,
    Config,
    DataConfig,
    EvalConfig,
    PseudoConfig,
    Reporter,
    RunOptions,
    Silent,
    TrainClsConfig,
    TrainSegConfig,
)
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError, MissingError, WeightsError
from mcis_cli.stages.engine import recipes
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.plan.chain import WALK
from mcis_cli.stages.plan.why import ROLES
from mcis_cli.store import Artifact, Recipe, StatCache, Store
from mcis_cli.store.notes import Done
from mcis_cli.training.initial_weights import initial_weights_identity

Settled = TypeVar("Settled", bound=Config)


@dataclass(frozen=True, kw_only=True)
class Means:
    """What making things again may take beside the store.

    Attributes:
        data: where the images are; goes before the place that the store remembers.
        fallback: where they may be, where that place is not known.
        weights: files of initial weights.
        device: what to compute on; else what the artifact was computed on.
        reporter: who hears of progress.
    """

    data: DataConfig | None = None
    fallback: DataConfig | None = None
    weights: Sequence[Path] = ()
    device: str | None = None
    reporter: Reporter = field(default_factory=Silent)


def rebuild(done: Done, store: Store, means: Means) -> Artifact:
    """Do a recipe again that was done: with the same settings, threads and device, on the same images.

    Returns:
        The artifact; its id is another one where other hardware or software computes other bits.

    Raises:
        MissingError: images, initial weights or an input are not there, or not what they were; tells what to give.
        McisError: what the stage raises.
    """
    recipe = done.recipe
    if recipe.config.get("imported"):
        what = {name: name for name in ("cams", "saliency", "weights", "affinity-net")}.get(recipe.stage, "…")
        raise MissingError(f"it was imported, expected the files that it was made of; run `mcis import --{what}` again")
    if recipe.stage not in recipes.VERSIONS:
        raise MissingError(f"{recipe.stage} makes nothing again by itself; run the command that made it")
    if recipe.version != recipes.VERSIONS[recipe.stage]:
        raise MissingError(
            f"it is of version {recipe.version} of {recipe.stage}, expected {recipes.VERSIONS[recipe.stage]}, which "
            "this mcis makes; install the release that made it"
        )
    if recipe.stage == "dataset":
        return _list_again(done, store, means)
    upstream = _upstream(recipe, store)
    fitting = _weights(recipe, store, means)
    reasons = []
    for data in _places(str(done.meta.get("dataset")), store, means):
        try:
            catalogue = _listed(data, store)
            for work in _works(done, data, catalogue, upstream, fitting, store):
                if work.recipe.key == recipe.key:
                    with _threads(done.provenance):
                        return work.run(store, _options(done, means))
                reasons.append(f"{_unlike(work.recipe, recipe)} in {data.root}")
        except DataError as error:
            reasons.append(str(error).partition("; ")[0])
    raise MissingError(
        f"{reasons[0]}; give the folder with the images as they were with --data"
        if reasons
        else "its images are not known in this store, expected their folder; give it with --data"
    )


def _places(dataset: str, store: Store, means: Means) -> Iterator[DataConfig]:
    if means.data is not None:
        yield means.data
        return
    place = store.location(dataset)
    if place is not None:
        yield DataConfig.model_validate(place)
    if means.fallback is not None and (place is None or means.fallback.root != place["root"]):
        yield means.fallback


def _listed(data: DataConfig, store: Store) -> Catalogue:
    with StatCache(store.index_path) as cache:
        return read_catalogue(data, cache)


def _list_again(done: Done, store: Store, means: Means) -> Artifact:
    wanted = done.recipe.inputs.get("files", "")
    for data in _places(wanted, store, means):
        try:
            if _listed(data, store).id == wanted:
                list_images(data, store)
                found = store.find(done.recipe)
                assert found is not None, "it was listed just now"
                return found
        except DataError:
            continue
    raise MissingError(
        "the images, tags or masks that it lists are not there as they were, and nothing else needs the list; give "
        "their folder with --data, or leave it"
    )


def _upstream(recipe: Recipe, store: Store) -> Artifact | None:
    if recipe.stage == "train-cls" or recipe.config.get("supervision") == "full":
        return None
    role = ROLES[recipe.stage]
    content_id = recipe.inputs[role if role in recipe.inputs else "network"]  # of a second round without maps
    try:
        return store.get(content_id)
    except MissingError:
        raise MissingError(
            f"its input {content_id[:12]} is not there, and nothing tells how that was made; run the stages before "
            "it again, or copy it from elsewhere"
        ) from None


def _weights(recipe: Recipe, store: Store, means: Means) -> str | None:
    """The file of initial weights of a training, None where a published one will be found."""
    if "weights" not in recipe.inputs:
        return None
    wanted, backbone = recipe.inputs["weights"], str(recipe.config.get("backbone"))
    for path in means.weights:
        if initial_weights_identity(backbone, path) == wanted:
            return str(path)
    if _published(backbone) != wanted:
        if re.fullmatch(r"[0-9a-f]{64}", wanted):  # an artifact that was imported
            return str(store.get(wanted).path)
        raise MissingError(
            f"it was trained from weights with the digest {wanted.removeprefix('sha256:')[:12]}, expected that file; "
            "give it with --weights FILE"
        )
    return None


def _published(backbone: str) -> str | None:
    try:
        return initial_weights_identity(backbone, None)
    except WeightsError:  # there are none
        return None


@dataclass(frozen=True)
class _Work:
    """A recipe, and the stage that does it."""

    recipe: Recipe
    run: Callable[[Store, RunOptions], Artifact]


def _works(
    done: Done, data: DataConfig, images: Catalogue, upstream: Artifact | None, weights: str | None, store: Store
) -> Iterator[_Work]:
    """What might lead to the artifact, given the images that there are."""
    recipe, split = done.recipe, str(done.meta.get("split"))
    without_split = {name: value for name, value in recipe.config.items() if name != "split"}
    with_weights = {**without_split, "weights": weights}
    if recipe.stage == "train-cls":
        yield _train_cls(_settings(TrainClsConfig, with_weights), data, images, split, recipe)
    elif recipe.stage == "train-seg":
        yield _train_seg(_settings(TrainSegConfig, with_weights), data, images, split, upstream, recipe)
    elif recipe.stage == "cams" and upstream is not None:
        yield _cams(_settings(CamsConfig, {**recipe.config, "split": split}), data, images, upstream)
    elif recipe.stage == "pseudo" and upstream is not None and upstream.stage == "train-seg":
        yield _second_round(_settings(PseudoConfig, without_split), data, images, upstream)
    elif recipe.stage in WALK and upstream is not None:
        yield _walk(_settings(AffinityConfig, with_weights), data, images, upstream, recipe, store)
    elif recipe.stage == "pseudo" and upstream is not None:
        yield _pseudo(_settings(PseudoConfig, recipe.config), data, images, upstream, recipe, store)
    elif upstream is not None:
        if upstream.stage != "train-seg":  # all images that it has, or a split
            of_all = images.only(upstream.ids, upstream.meta["split"])
            yield _evaluate(_settings(EvalConfig, {**recipe.config, "split": None}), data, of_all, upstream)
        yield _evaluate(_settings(EvalConfig, {**recipe.config, "split": split}), data, images.split(split), upstream)


def _settings(kind: type[Settled], config: Mapping[str, Any]) -> Settled:
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise MissingError(
            f"its setting {'.'.join(map(str, first['loc']))} is not one of this mcis; install the release that made it"
        ) from error


def _train_cls(config: TrainClsConfig, data: DataConfig, images: Catalogue, split: str, done: Recipe) -> _Work:
    from mcis_cli.stages.train_cls import run as train_cls

    inputs = Inputs(data=data.model_copy(update={"train": split}))
    recipe = recipes.train_cls(config, recipes.learnt(images, split), done.inputs["weights"])
    return _Work(recipe, lambda store, options: train_cls.run(config, inputs, store, options))


def _cams(config: CamsConfig, data: DataConfig, images: Catalogue, classifier: Artifact) -> _Work:
    from mcis_cli.stages.cams import run as cams

    inputs = Inputs(upstream=classifier, data=data)
    assert config.split is not None, "given by the meta of the maps"
    recipe = recipes.cams(config, classifier.id, *recipes.cams_images(config, images, classifier))
    return _Work(recipe, lambda store, options: cams.run(config, inputs, store, options))


def _saliency(recipe: Recipe, store: Store) -> Artifact | None:
    """The artifact of saliency maps of pseudo masks; None where those of the image set were used."""
    try:
        found = store.get(recipe.inputs.get("saliency", ""))
    except MissingError:
        return None
    return found if found.stage == "saliency" else None


def _walk(
    config: AffinityConfig, data: DataConfig, images: Catalogue, upstream: Artifact, done: Recipe, store: Store
) -> _Work:
    """One of the three stages of `mcis affinity`."""
    from mcis_cli.stages.affinity import labels as affinity_labels
    from mcis_cli.stages.affinity import train as train_affinity
    from mcis_cli.stages.affinity import walk as affinity

    inputs, learnt = Inputs(upstream=upstream, data=data), images.only(upstream.ids)
    if done.stage == "affinity-labels":
        recipe = recipes.affinity_labels(config, upstream.id, learnt)
        return _Work(recipe, lambda store, options: affinity_labels.run(config, inputs, store, options))
    if done.stage == "affinity-net":
        recipe = recipes.affinity_net(config, upstream.id, learnt, done.inputs["weights"])
        return _Work(recipe, lambda store, options: train_affinity.run(config, inputs, store, options))
    network = store.get(done.inputs["network"])
    recipe = recipes.affinity(config, upstream.id, network.id, learnt)
    walking = replace(inputs, network=network)
    return _Work(recipe, lambda store, options: affinity.run(config, walking, store, options))


def _pseudo(
    config: PseudoConfig, data: DataConfig, images: Catalogue, maps: Artifact, done: Recipe, store: Store
) -> _Work:
    from mcis_cli.stages.pseudo import run as pseudo

    saliency, seen_by = _saliency(done, store), done.inputs.get("network")
    network = None if seen_by is None else store.get(seen_by)
    inputs = Inputs(upstream=maps, data=data, saliency=saliency, network=network)
    recipe = recipes.pseudo(config, maps.id, images.only(maps.ids), saliency.id if saliency else None, seen_by)
    return _Work(recipe, lambda store, options: pseudo.run(config, inputs, store, options))


def _second_round(config: PseudoConfig, data: DataConfig, images: Catalogue, network: Artifact) -> _Work:
    from mcis_cli.stages.pseudo import second_round

    inputs = Inputs(upstream=network, data=data)
    recipe = recipes.second_round(config, network.id, images.split(network.meta["split"]))
    return _Work(recipe, lambda store, options: second_round.run(config, inputs, store, options))


def _train_seg(
    config: TrainSegConfig, data: DataConfig, images: Catalogue, split: str, masks: Artifact | None, done: Recipe
) -> _Work:
    from mcis_cli.stages.train_seg import run as train_seg

    inputs = Inputs(upstream=masks, data=data.model_copy(update={"train": split}))
    learnt = images.split(split) if masks is None else images.only(masks.ids)
    identity = learnt.digest("masks") if masks is None else masks.id
    recipe = recipes.train_seg(config, identity, learnt, done.inputs["weights"])
    return _Work(recipe, lambda store, options: train_seg.run(config, inputs, store, options))


def _evaluate(config: EvalConfig, data: DataConfig, images: Catalogue, subject: Artifact) -> _Work:
    from mcis_cli.stages.evaluate import run as evaluate

    inputs = Inputs(upstream=subject, data=data)
    recipe = recipes.evaluate(config, subject.id, images, of_stage=subject.stage)
    return _Work(recipe, lambda store, options: evaluate.run(config, inputs, store, options))


def _unlike(found: Recipe, wanted: Recipe) -> str:
    inputs = sorted(name for name, digest in wanted.inputs.items() if found.inputs.get(name) != digest)
    return f"{', '.join(inputs)} are not what they were" if inputs else "its settings are not those of this mcis"


def _options(done: Done, means: Means) -> RunOptions:
    provenance = done.provenance
    made_on = provenance.get("machine", {}).get("device", "cpu")
    return RunOptions(
        device=means.device or made_on,
        workers=int(provenance.get("workers", 0)),
        preset=provenance.get("preset"),
        reporter=means.reporter,
    )


@contextmanager
def _threads(provenance: Mapping[str, Any]) -> Iterator[None]:
    """Compute with as many threads as then: on a CPU their number changes bits."""
    count = provenance.get("machine", {}).get("threads")
    if not isinstance(count, int):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
