"""`review`: compares pseudo masks with the maps they were made from, with saliency, and with a network.

No ground truth is read. `ranking` makes scores of the terms.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import EvalConfig, PseudoConfig, ReviewConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import Workers
from mcis_cli.errors import MissingError, UsageError
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import among_tags, otsu_threshold, power_background, soft_scores, weighted
from mcis_cli.maps.review import agreement, border_share, overlap
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.engine.by_image import ByImage, require_segment, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.review.declaration import (
    ABSENT,
    SCHEMA,
    recipe,
    require_maps,
    reviewed_images,
    saliency_of,
    uses_saliency,
)
from mcis_cli.stages.stage import find
from mcis_cli.store import Artifact, Recipe, Record, Store

Mask = UInt8[np.ndarray, "height width"]
Predict = Callable[[str], Mask | None]
Saliency = Callable[[str], Float32[np.ndarray, "height width"] | None]


@in_segments
def run(config: ReviewConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Compute the terms of each mask, or return the cached ones; see `declaration` for a record.

    Args:
        config: settings.
        inputs: pseudo masks of maps, and perhaps a segmentation network.
        store: where the artifact goes, with the maps that the masks were made from.
        options: how to run on this machine.

    Raises:
        MissingError: there are no masks, or their maps or images are not found.
        UsageError: the masks were made from a network alone, or the network does not fit.
        DataError: no mask is left to review.
    """
    masks, network = inputs.expect("pseudo masks"), inputs.network
    require_maps(masks)
    maps = _input_of(masks, masks.inputs["maps"], "maps", store)
    if network is not None:
        _check_network(network, masks)
    catalogue = images_of(masks, inputs.data, store)
    images = reviewed_images(catalogue, masks, masks.ids)
    own_saliency = saliency_of(masks, catalogue.only(masks.ids))
    saliency = None if own_saliency is None else _input_of(masks, own_saliency, "saliency maps", store)

    def recipe_of(settled: ReviewConfig) -> Recipe:
        return recipe(settled, masks.id, images, None if network is None else network.id, own_saliency)

    if done := find(store, config, recipe_of):
        return done
    require_segment(images.ids, options)
    machine: Mapping[str, Any] = {}
    predict: Predict = lambda image_id: None  # noqa: E731
    if network is not None:
        from mcis_cli.stages.engine.predictor import settle

        config, machine = settle(config, options)
        predict = _predictions(config, network, images, options)
    reviewing = _reviewing(masks, maps, _saliency(images, saliency), images, predict, options)
    with reviewing.workers:
        return run_segments(
            recipe_of(config),
            store,
            options,
            schema=SCHEMA,
            ids=images.ids,
            compute=reviewing.records,
            meta=lambda: {name: masks.meta[name] for name in ("dataset", "split", "class_names", "initialisation")},
            machine=machine,
        )


def _input_of(masks: Artifact, content_id: str, what: str, store: Store) -> Artifact:
    """An artifact that masks were made from, checked."""
    try:
        found = store.get(content_id)
    except MissingError:
        raise MissingError(
            f"the {what} that {masks.path.stem} was made from are not in this store: expected {content_id[:12]}; "
            "import or merge them, or run `mcis pseudo` again"
        ) from None
    check(found)
    return found


def _saliency(images: Catalogue, maps: Artifact | None) -> Saliency:
    """The saliency map of an image in [0, 1]: of an artifact, or of the image set if all images have one."""
    if maps is None:
        return images.read_saliency if uses_saliency(images) else lambda image_id: None

    def read(image_id: str) -> Float32[np.ndarray, "height width"] | None:
        return read_record(maps, image_id)["saliency"] / np.float32(255) if image_id in maps else None

    return read


def _check_network(network: Artifact, masks: Artifact) -> None:
    if not holds(network, "network"):
        raise UsageError(
            f"--network {network.path.stem} was made by {network.stage}: expected a segmentation network; `mcis ls` "
            "lists all"
        )
    if network.meta["class_names"] != masks.meta["class_names"]:
        raise UsageError(
            f"--network {network.path.stem} has other classes than {masks.path.stem}: expected the same, in the same "
            "order"
        )


def _predictions(config: ReviewConfig, network: Artifact, images: Catalogue, options: RunOptions) -> Predict:
    """The network's mask of an image, among background and the image's tags."""
    from mcis_cli.stages.engine.predictor import Predictor

    predictor = Predictor(network, EvalConfig(precision=config.precision), options)

    def predict(image_id: str) -> Mask:
        labels = images[image_id].labels
        probabilities = among_tags(predictor.probabilities(images.read_image(image_id)), labels)
        return np.asarray(_values(labels)[probabilities.argmax(axis=0)], dtype=np.uint8)

    return predict


def _reviewing(
    masks: Artifact, maps: Artifact, saliency: Saliency, images: Catalogue, predict: Predict, options: RunOptions
) -> ByImage[Record]:
    of_masks = PseudoConfig.of_recipe(masks.manifest["recipe"]["config"])

    def items(ids: Sequence[str]) -> Iterator[tuple[str, Mask | None]]:
        return ((image_id, predict(image_id)) for image_id in ids)

    def review(item: tuple[str, Mask | None]) -> Record:
        image_id, predicted = item
        mask = read_record(masks, image_id)["mask"]
        labels = images[image_id].labels
        names = [masks.meta["class_names"][label] for label in labels]
        scores = _scores(of_masks, read_record(maps, image_id), labels, names, mask.shape)
        return image_id, terms(mask, labels, scores, saliency(image_id), predicted)

    return ByImage(Workers(review, options.workers), items)


def _values(labels: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array([0, *(label + 1 for label in labels)], dtype=np.int32)


def _scores(
    config: PseudoConfig, fields: Mapping[str, Any], labels: Sequence[int], names: Sequence[str], size: tuple[int, ...]
) -> Float32[np.ndarray, "kept height width"]:
    """Probabilities of background and of the tags by the maps alone, with the settings of the masks."""
    maps = np.zeros((len(labels), *size), dtype=np.float32)
    planes = enlarge(fields["maps"].astype(np.float32), size[0], size[1], config.enlarging)
    planes = planes if config.background == "affinity" else normalise(planes, config.normalization)
    for label, plane in zip(fields["classes"].tolist(), planes, strict=True):
        if label in labels:
            maps[labels.index(label)] = plane
    background = np.broadcast_to(np.asarray(_background(config, maps), dtype=np.float32), size)
    return soft_scores(weighted(maps, names, config.class_weights), background, sharpness=config.sharpness)


def _background(
    config: PseudoConfig, maps: Float32[np.ndarray, "cls height width"]
) -> float | Float32[np.ndarray, "height width"]:
    """The score of background by the rule of the masks; with saliency, the constant one."""
    if config.background == "affinity":
        return config.background_threshold
    if config.background == "otsu":
        return config.otsu_factor * otsu_threshold(maps.max(axis=0))
    if config.background == "power":
        return power_background(maps, config.background_power)
    return config.background_score


def terms(
    mask: Mask,
    labels: Sequence[int],
    scores: Float32[np.ndarray, "kept height width"],
    saliency: Float32[np.ndarray, "height width"] | None = None,
    predicted: Mask | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """The terms of one mask, see `declaration.SCHEMA`: each is in [0, 1], and smaller for masks that are wrong.

    Args:
        mask: the pseudo mask.
        labels: foreground classes of the image, ascending.
        scores: probabilities of background and of these classes by the maps alone.
        saliency: in [0, 1].
        predicted: the network's mask among the same classes.
    """
    values = _values(labels)
    shares = np.bincount(mask.ravel(), minlength=256)[values] / mask.size
    of_maps = agreement(mask, values[scores.argmax(axis=0)].astype(np.uint8), values.tolist())
    of_network = np.full(len(values), ABSENT) if predicted is None else agreement(mask, predicted, values.tolist())
    of_image = (
        float(scores.max(axis=0).mean()),
        1 - border_share(mask),
        ABSENT if saliency is None else overlap(mask, saliency),
    )
    return {
        "values": values,
        "by_value": np.stack([shares, of_maps, of_network], axis=1).astype(np.float32),
        "of_image": np.array(of_image, dtype=np.float32).clip(ABSENT, 1),
    }
