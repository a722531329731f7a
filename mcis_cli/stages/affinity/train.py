"""`affinity-net`: trains the network that predicts how similar neighbouring positions are, on sure regions of maps.

The second of the three stages of `mcis affinity`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mcis_cli.config import AffinityConfig, RunOptions
from mcis_cli.data.augment import Cropping, jitter_colors, segmentation_view
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError
from mcis_cli.models.backbones import Backbone
from mcis_cli.models.pairwise_affinity import (
    PairwiseAffinity,
    affinities,
    affinity_loss,
    pair_labels,
    pair_offsets,
    reduced_labels,
)
from mcis_cli.stages import read_record
from mcis_cli.stages.affinity.declaration import network_recipe
from mcis_cli.stages.engine.by_step import settled_precision, train, unless_done
from mcis_cli.stages.engine.crops import CropBatch, Crops, View
from mcis_cli.stages.engine.evidence import heed_made_masks
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.engine.networks import backbone_of, build_affinity_net, describe_affinity_net, initialise, place
from mcis_cli.stages.engine.starting_weights import load_starting, starting_identity
from mcis_cli.stages.stage import IGNORE_INDEX
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.loop import Training
from mcis_cli.training.parameter_groups import parameter_groups
from mcis_cli.training.precision import autocast, choose_device, choose_precision


@dataclass(frozen=True)
class Labelled:
    """The training data of the network.

    Attributes:
        images: those that have labels.
        read: from an image id to its labels, (H, W) of the size that the image is shrunk to, 255 where unsure.
    """

    images: Catalogue
    read: Callable[[str], NDArray[np.uint8]]


def run(config: AffinityConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Train the network, or return the cached one.

    Args:
        config: settings; `precision = "auto"` is resolved here and recorded.
        inputs: the sure regions of maps.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no labels, or their images are not found.
        DataError: no region of the maps is sure, so there is no pair to learn from.
        WeightsError: initial weights are missing or do not fit.
        UsageError: the training diverged.
    """
    device = choose_device(options.device, options.local)
    config = config.model_copy(update={"precision": choose_precision(config.precision, device)})
    labels = inputs.expect("sure regions")
    catalogue = images_of(labels, inputs.data, store)
    images = catalogue.only(labels.ids)
    heed_made_masks("sure regions", images, lambda image_id: read_record(labels, image_id)["labels"], options.reporter)
    recipe = network_recipe(config, labels.id, images, starting_identity(config.backbone, config.weights))
    return unless_done(
        recipe,
        store,
        options,
        processes=1,
        device=device,
        work=lambda alone: _train(recipe, config, labels, catalogue, store, device, options),
    )


def _train(
    recipe: Recipe,
    config: AffinityConfig,
    labels: Artifact,
    catalogue: Catalogue,
    store: Store,
    device: torch.device,
    options: RunOptions,
) -> Artifact:
    initial = load_starting(config.backbone, config.weights)
    description = describe_affinity_net(config)

    def meta() -> dict[str, Any]:
        return {
            "dataset": catalogue.id,
            "split": labels.meta["split"],
            "class_names": list(catalogue.class_names),
            "model": description,
            "initialisation": initial.source,
        }

    def prepare() -> Training[CropBatch]:
        torch.manual_seed(config.seed)
        model = build_affinity_net(description)
        initialise(model, initial)
        labelled = Labelled(catalogue.only(labels.ids), lambda image_id: read_record(labels, image_id)["labels"])
        return _training(model, config, labelled, device, options)

    return train(recipe, prepare, meta, store, options)


def _training(
    model: PairwiseAffinity,
    config: AffinityConfig,
    labelled: Labelled,
    device: torch.device,
    options: RunOptions,
) -> Training[CropBatch]:
    backbone_of(model).freeze_stages(config.frozen_stages)
    place(model, device)
    crops = _crops(backbone_of(model), config, labelled, device, options)
    num_steps = config.epochs * crops.batches_per_epoch
    groups = parameter_groups(
        model,
        new_parameters=model.new_parameters(),
        new_layer_lr=config.new_layer_lr,
        new_bias_lr=config.new_layer_lr,
        pretrained_bias_lr=1.0,
    )
    precision = settled_precision(config)
    offsets = pair_offsets(config.radius)

    def step_loss(batch: CropBatch) -> Mapping[str, Tensor]:
        with autocast(batch.images.device, precision):
            embedding = model(batch.images)
        reduced = reduced_labels(batch.masks, (embedding.shape[2], embedding.shape[3]))
        return affinity_loss(affinities(embedding, offsets), pair_labels(reduced, offsets))

    return crops.training(model, groups, num_steps, step_loss)


def _crops(
    backbone: Backbone, config: AffinityConfig, labelled: Labelled, device: torch.device, options: RunOptions
) -> Crops:
    useful = [image_id for image_id in labelled.images.ids if _has_pairs(labelled.read(image_id))]
    if not useful:
        raise DataError(
            f"the maps are not confident anywhere in all {len(labelled.images)} images: found no two labelled pixels "
            "to learn from; check the maps with `mcis report`, or raise --set affinity.object_power"
        )
    cropping = Cropping(config.crop, (1.0, 1.0), config.mirror)

    def view(image_id: str, draw: np.random.Generator) -> View:
        mask = labelled.read(image_id)
        height, width = mask.shape
        image = Image.fromarray(labelled.images.read_image(image_id)).resize((width, height), Image.Resampling.BILINEAR)
        jittered = jitter_colors(np.asarray(image), config.color_jitter, draw)
        return segmentation_view(jittered, mask, cropping, generator=draw, mean=backbone.mean, std=backbone.std)

    return Crops(view=view, ids=useful, config=config, workers=options.workers, device=device)


def _has_pairs(labels: NDArray[np.uint8]) -> bool:
    return int(np.count_nonzero(labels != IGNORE_INDEX)) > 1
