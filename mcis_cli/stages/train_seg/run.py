"""`train-seg`: pseudo masks, or ground truth as the upper bound, become a segmentation network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mcis_cli.config import DataConfig, RunOptions, TrainSegConfig
from mcis_cli.data.augment import Cropping, segmentation_view
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError, UsageError
from mcis_cli.models.backbones import Backbone
from mcis_cli.models.deeplab import enlarged
from mcis_cli.stages import read_record
from mcis_cli.stages.engine.by_step import batch_of, settle, settled_precision, train, unless_done
from mcis_cli.stages.engine.crops import CropBatch, Crops, View
from mcis_cli.stages.engine.evidence import heed_made_masks, heed_masks
from mcis_cli.stages.engine.inputs import Inputs, images_of, list_images
from mcis_cli.stages.engine.networks import DeepLab, backbone_of, build_segmenter, describe_segmenter, initialise, place
from mcis_cli.stages.engine.starting_weights import load_starting, starting_identity
from mcis_cli.stages.stage import IGNORE_INDEX
from mcis_cli.stages.train_seg.declaration import recipe as recipe_of_training
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.loop import Training
from mcis_cli.training.parameter_groups import parameter_groups
from mcis_cli.training.precision import Precision, autocast, choose_device
from mcis_cli.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Supervision:
    """The masks that a network learns from.

    Attributes:
        images: the images that have one.
        split: the split of these images.
        identity: the id of the pseudo masks, or the digest of the ground truth.
        read: from an image id to its mask, (H, W) with 255 ignored.
        dataset: the id of the whole data set.
        corrected: the images whose mask was corrected.
    """

    images: Catalogue
    split: str
    identity: str
    read: Callable[[str], NDArray[np.uint8]]
    dataset: str
    corrected: Sequence[str] = ()


def run(config: TrainSegConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Train the network, or return the cached one.

    Args:
        config: settings; `supervision = "full"` learns from ground truth.
        inputs: pseudo masks, or with full supervision `data` alone.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no pseudo masks, or their images are not found.
        DataError: no mask has a pixel to learn from.
        WeightsError: initial weights are missing or do not fit.
        UsageError: the training diverged.
    """
    device = choose_device(options.device, options.local)
    supervision = _supervision(config, inputs, store)
    if config.supervision == "full":
        heed_masks(supervision.images, options.reporter, is_learned=True)
    else:
        heed_made_masks("pseudo masks", supervision.images, supervision.read, options.reporter)
    weights = starting_identity(config.backbone, config.weights)

    def recipe_of(settled: TrainSegConfig) -> Recipe:
        masks, images = supervision.identity, supervision.images
        return recipe_of_training(settled, masks, images, weights, has_corrected=bool(supervision.corrected))

    config = settle(config, recipe_of, store, options, device)
    recipe = recipe_of(config)
    return unless_done(
        recipe,
        store,
        options,
        processes=config.processes,
        device=device,
        work=lambda ranks: _train(recipe, config, supervision, store, device, options, ranks),
    )


def _train(
    recipe: Recipe,
    config: TrainSegConfig,
    supervision: Supervision,
    store: Store,
    device: torch.device,
    options: RunOptions,
    ranks: Ranks,
) -> Artifact:
    initial = load_starting(config.backbone, config.weights)
    description = describe_segmenter(config, supervision.images.num_classes)
    if description.get("fully_connected") == "imagenet" and "classifier.0.weight" not in initial.state:
        options.reporter.note(
            f"{initial.source} holds no fully connected layers of ImageNet: the two layers before the scores are new"
        )

    def meta() -> dict[str, Any]:
        return {
            "dataset": supervision.dataset,
            "split": supervision.split,
            "class_names": list(supervision.images.class_names),
            "model": description,
            "supervision": config.supervision,
            "initialisation": initial.source,
            **batch_of(config.processes, config.batch_size),
        }

    def prepare() -> Training[CropBatch]:
        torch.manual_seed(config.seed)
        model = build_segmenter(description)
        initialise(model, initial)
        return _training(model, config, supervision, device, options, ranks)

    return train(recipe, prepare, meta, store, options, ranks)


def _supervision(config: TrainSegConfig, inputs: Inputs, store: Store) -> Supervision:
    if config.supervision == "pseudo":
        masks = inputs.expect("pseudo masks")
        catalogue = images_of(masks, inputs.data, store)
        images = catalogue.only(masks.ids)
        return Supervision(
            images=images,
            split=masks.meta["split"],
            identity=masks.id,
            read=lambda image_id: read_record(masks, image_id)["mask"],
            dataset=catalogue.id,
            corrected=masks.meta.get("corrected", ()),
        )
    if inputs.data is None and inputs.upstream is None:
        raise UsageError("full supervision needs images with ground truth: give --data FOLDER")
    catalogue, split = _labelled_images(inputs.data, inputs.upstream, store)
    images = catalogue.split(split)
    without = [entry.id for entry in images.entries if entry.mask is None]
    if without:
        raise DataError(
            f"ground truth missing for {len(without)} of {len(images)} images of split {split!r} ({without[0]}, …): "
            "expected a mask each; add them, or choose another split with --set data.train=NAME"
        )
    return Supervision(images, split, images.digest("masks"), images.read_mask, catalogue.id)


def _labelled_images(data: DataConfig | None, upstream: Artifact | None, store: Store) -> tuple[Catalogue, str]:
    if upstream is not None:
        return images_of(upstream, data, store), upstream.meta["split"]
    assert data is not None
    return list_images(data, store), data.train


def _training(
    model: DeepLab,
    config: TrainSegConfig,
    supervision: Supervision,
    device: torch.device,
    options: RunOptions,
    ranks: Ranks = ALONE,
) -> Training[CropBatch]:
    backbone_of(model).freeze_stages(config.frozen_stages)
    place(model, device)
    crops = _crops(backbone_of(model), config, supervision, device, options, ranks)
    num_steps = config.epochs * crops.batches_per_epoch if config.epochs else config.iterations
    groups = parameter_groups(
        model,
        new_parameters=model.new_parameters(),
        new_layer_lr=config.head_lr,
        new_bias_lr=config.head_bias_lr or config.head_lr,
        pretrained_bias_lr=config.pretrained_bias_lr,
    )
    precision = settled_precision(config)
    return crops.training(model, groups, num_steps, lambda batch: _step_loss(model, config, batch, precision, ranks))


def _crops(
    backbone: Backbone,
    config: TrainSegConfig,
    supervision: Supervision,
    device: torch.device,
    options: RunOptions,
    ranks: Ranks,
) -> Crops:
    useful = [image_id for image_id in supervision.images.ids if (supervision.read(image_id) != IGNORE_INDEX).any()]
    if not useful:
        raise DataError(
            f"all {len(supervision.images)} masks are ignored as a whole, so there is nothing to learn from; lower "
            "--foreground-threshold of `mcis pseudo`, or look at its maps"
        )
    corrected = {*useful}.intersection(supervision.corrected)
    useful += sorted(corrected) * (config.corrected_weight - 1)
    cropping = Cropping(config.crop, config.scales, config.mirror, config.scale_step)

    def view(image_id: str, draw: np.random.Generator) -> View:
        image, mask = supervision.images.read_image(image_id), supervision.read(image_id)
        return segmentation_view(image, mask, cropping, generator=draw, mean=backbone.mean, std=backbone.std)

    return Crops(view=view, ids=useful, config=config, workers=options.workers, device=device, ranks=ranks)


def _step_loss(
    model: DeepLab, config: TrainSegConfig, batch: CropBatch, precision: Precision, ranks: Ranks = ALONE
) -> Mapping[str, Tensor]:
    """The loss of one step: this rank's share of the mean over the pixels of all ranks' crops."""
    with autocast(batch.images.device, precision):
        logits = model(batch.images)
    loss = segmentation_loss(
        logits.float(), batch.masks.long(), config.loss_resolution, align_corners=config.align_corners
    )
    compared = _compared(logits, batch.masks, config.loss_resolution)
    return ranks.shared({"total": loss}, (compared != IGNORE_INDEX).sum().float())


def segmentation_loss(
    logits: Float[Tensor, "batch label h w"],
    masks: Tensor,
    loss_resolution: str,
    ignore_index: int = IGNORE_INDEX,
    align_corners: bool = False,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the pixels that are not ignored; 0, with zero gradient, if all are.

    Args:
        logits: at the resolution of the network.
        masks: (batch, H, W), indices.
        loss_resolution: "full" enlarges the logits to the masks, as the released code does; "network" takes the
            nearest mask value at each position of the logits.
        ignore_index: the value to ignore.
        align_corners: see `models.deeplab.enlarged`.
    """
    masks = _compared(logits, masks, loss_resolution)
    if loss_resolution == "full":
        logits = enlarged(logits, (masks.shape[-2], masks.shape[-1]), align_corners)
    total = functional.cross_entropy(logits, masks, ignore_index=ignore_index, reduction="sum")
    return total / (masks != ignore_index).sum().clamp(min=1)


def _compared(logits: Tensor, masks: Tensor, loss_resolution: str) -> Tensor:
    """The mask values that logits are compared with."""
    if loss_resolution == "full":
        return masks
    return functional.interpolate(masks[:, None].float(), size=logits.shape[-2:], mode="nearest-exact")[:, 0].long()
