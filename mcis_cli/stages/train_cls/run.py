"""`train-cls`: an image set with tags becomes a co-attention classifier (paper §3.1, §3.3)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcis_cli.config import AffinityWeights, RunOptions, TrainClsConfig
from mcis_cli.data.catalogue import Catalogue, count_domains
from mcis_cli.errors import UsageError
from mcis_cli.models.classifier import CoAttentionClassifier, Term
from mcis_cli.models.equivariance import SECOND_SCALE, equivariant_loss, second_view
from mcis_cli.models.losses import pair_loss
from mcis_cli.stages.engine.by_step import batch_of, settle, settled_precision, train, unless_done
from mcis_cli.stages.engine.evidence import heed_tags, learned_ids
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.engine.networks import backbone_of, build_classifier, describe_classifier, initialise, place
from mcis_cli.stages.engine.scratch import Scratch, folder_name
from mcis_cli.stages.engine.starting_weights import load_starting, starting_identity
from mcis_cli.stages.train_cls.declaration import affinity_weights as weights_of_pairs
from mcis_cli.stages.train_cls.declaration import learnt
from mcis_cli.stages.train_cls.declaration import recipe as recipe_of_training
from mcis_cli.stages.train_cls.pair_batches import PairBatch, Pairing
from mcis_cli.stages.train_cls.published_features import PublishedFeatures, refuse_changing_features
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.loop import Training
from mcis_cli.training.parameter_groups import ParameterGroup, parameter_groups, sgd
from mcis_cli.training.precision import autocast, choose_device, describe_machine
from mcis_cli.training.ranks import ALONE, Ranks
from mcis_cli.training.schedules import Schedule, milestones, poly

TERMS: Mapping[str, frozenset[Term]] = {
    "basic": frozenset({"basic"}),
    "co-attention": frozenset({"basic", "co_attention"}),
    "full": frozenset({"basic", "co_attention", "contrastive"}),
}
SMALLEST_VIEW = 32  # pixels, enough for every backbone


def run(config: TrainClsConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Train the classifier, or return the cached one.

    Args:
        config: settings; `precision = "auto"` is resolved here and recorded.
        inputs: `data`.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        DataError: no image of the training split has a tag.
        WeightsError: initial weights are missing or do not fit.
        UsageError: the training diverged, or its images are too small for a second view.
    """
    if config.equivariant and config.image_size * SECOND_SCALE < SMALLEST_VIEW:
        raise UsageError(
            f"train-cls.image_size is {config.image_size}: the second view of an equivariant training would have "
            f"{int(config.image_size * SECOND_SCALE)} pixels, expected {SMALLEST_VIEW} at least; give --set "
            f"train-cls.image_size={math.ceil(SMALLEST_VIEW / SECOND_SCALE)} or more"
        )
    data = inputs.data
    assert data is not None, "the command names the images"
    device = choose_device(options.device, options.local)
    catalogue = list_images(data, store)
    if data.tags_from_masks:
        options.reporter.warn("tags are taken from masks, so every result rests on pixel supervision")
    images = learnt(catalogue, data.train)
    heed_tags(images, options.reporter)
    weights = starting_identity(config.backbone, config.weights)

    def recipe_of(settled: TrainClsConfig) -> Recipe:
        return recipe_of_training(settled, images, weights)

    config = settle(config, recipe_of, store, options, device)
    recipe = recipe_of(config)
    return unless_done(
        recipe,
        store,
        options,
        processes=config.processes,
        device=device,
        work=lambda ranks: _train(recipe, config, catalogue, images, store, device, options, ranks),
    )


def _train(
    recipe: Recipe,
    config: TrainClsConfig,
    catalogue: Catalogue,
    images: Catalogue,
    store: Store,
    device: torch.device,
    options: RunOptions,
    ranks: Ranks,
) -> Artifact:
    late = [epoch for epoch in config.lr_milestones if epoch >= config.epochs]
    if late and config.lr_schedule == "milestones":
        options.reporter.warn(
            f"the learning rate would fall after epoch {', '.join(map(str, late))}, and the training ends with epoch "
            f"{config.epochs}: set lr_milestones to fit, as in --set train-cls.lr_milestones="
            f"{fitting_milestones(config)}"
        )
    tagged = learned_ids(images, options.reporter)
    affinity_weights = weights_of_pairs(config, images)
    _tell_domains(config, images, affinity_weights, options)
    initial = load_starting(config.backbone, config.weights)
    description = describe_classifier(config, catalogue.num_foreground, affinity_weights)

    def meta() -> dict[str, Any]:
        return {
            "dataset": catalogue.id,
            "split": images.split_name,
            "class_names": list(catalogue.class_names),
            "model": description,
            "image_size": config.image_size,
            "loss": config.loss,
            "initialisation": initial.source,
            **batch_of(config.processes, config.batch_pairs),
        }

    def prepare(scratch: Scratch | None) -> Training[PairBatch]:
        torch.manual_seed(config.seed)
        model = build_classifier(description)
        initialise(model, initial)
        return _training(model, config, images, tagged, device, options, ranks, scratch)

    if not config.keep_features:
        return train(recipe, lambda: prepare(None), meta, store, options, ranks)
    with Scratch(_scratch_folder(recipe, config, store, device), options.scratch_mb * 2**20) as scratch:
        return train(recipe, lambda: prepare(scratch), meta, store, options, ranks)


def _scratch_folder(recipe: Recipe, config: TrainClsConfig, store: Store, device: torch.device) -> Path:
    """The folder of features of the published layers that do not fit into memory, shared by all trainings on them."""
    layers = {"published": config.backbone, "output_stride": config.output_stride}
    machine = describe_machine(device, settled_precision(config))
    return store.scratch_folder / folder_name(layers, {"weights": recipe.inputs["weights"]}, machine)


def _tell_domains(
    config: TrainClsConfig, images: Catalogue, affinity_weights: AffinityWeights, options: RunOptions
) -> None:
    counts = count_domains(images)
    if counts.keys() > {"target"}:
        listed = ", ".join(f"{count} {domain}" for domain, count in counts.items())
        options.reporter.note(f"learns from images of {listed}; W_P is {affinity_weights}")
    if config.affinity_weights not in (None, affinity_weights):
        options.reporter.warn(
            "train-cls.affinity_weights has no effect without images of a single-label source; give --single-label PATH"
        )


def fitting_milestones(config: TrainClsConfig) -> list[int]:
    """Milestones at the same fractions of the training as in the preset `paper`: 6 and 12 of 15 epochs."""
    return sorted({epoch for part in (6, 12) if 0 < (epoch := config.epochs * part // 15) < config.epochs})


def _training(
    model: CoAttentionClassifier,
    config: TrainClsConfig,
    images: Catalogue,
    tagged: Sequence[str],
    device: torch.device,
    options: RunOptions,
    ranks: Ranks = ALONE,
    scratch: Scratch | None = None,
) -> Training[PairBatch]:
    backbone = backbone_of(model)
    backbone.freeze_stages(config.frozen_stages)
    place(model, device)
    features = None
    if scratch is not None:
        refuse_changing_features(backbone, config)
        budget, precision = options.cache_mb * 2**20, settled_precision(config)
        features = PublishedFeatures(backbone, device=device, precision=precision, budget=budget, scratch=scratch)

    pairing = Pairing(backbone, config, images, tagged, device, options.workers, ranks, features)

    def batches(epoch: int, first: int) -> Iterator[PairBatch]:
        if config.keep_epochs and epoch and not first:
            model.keep_epoch(epoch - 1)
        return pairing.batches(epoch, first)

    steps_per_epoch = math.ceil(len(tagged) / (ranks.count * config.batch_pairs))
    return Training(
        model=model,
        optimizer=sgd(
            learning_groups(model, config),
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        ),
        schedule=_schedule(config, steps_per_epoch),
        batches=batches,
        step_loss=lambda batch: ranks.shared(
            _step_loss(model, config, batch), torch.full((), float(batch.num_pairs), device=device)
        ),
        num_steps=config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        lr=config.lr,
        seed=config.seed,
        device=device,
        precision=settled_precision(config),
        images_of_step=ranks.count * config.batch_pairs * (1 if config.pairing == "rings" else 2),
    )


def _schedule(config: TrainClsConfig, steps_per_epoch: int) -> Schedule:
    if config.lr_schedule == "poly":
        return poly(config.epochs * steps_per_epoch, power=config.lr_power)
    return milestones([epoch * steps_per_epoch for epoch in config.lr_milestones], gamma=config.lr_gamma)


def learning_groups(model: CoAttentionClassifier, config: TrainClsConfig) -> list[ParameterGroup]:
    """The parameters by learning rate; W_P is a new layer, with a further factor (difference 6)."""
    return parameter_groups(
        model,
        new_parameters=model.new_parameters(),
        new_layer_lr=config.new_layer_lr,
        new_bias_lr=config.new_bias_lr,
        pretrained_bias_lr=config.pretrained_bias_lr,
        own_factors=dict.fromkeys(model.co_attention.affinity_parameters(), config.new_layer_lr * config.affinity_lr),
    )


def _step_loss(model: CoAttentionClassifier, config: TrainClsConfig, batch: PairBatch) -> dict[str, Tensor]:
    """Losses of one step (Eq. 10), with contrastive ones from `contrastive_from_epoch` on (difference 4)."""
    terms = TERMS[config.loss]
    if batch.epoch + 1 < config.contrastive_from_epoch:
        terms = terms - {"contrastive"}
    with autocast(batch.images.device, settled_precision(config)):
        if config.equivariant:
            features, embedding = model.features_and_embedding(batch.images)
        else:
            features, embedding = _features(model, config, batch.images), None
        features_m, features_n = features[batch.index_m], features[batch.index_n]
        result = model.pair_from_features(
            features_m, features_n, terms=terms, single_m=batch.single_m, single_n=batch.single_n
        )
        loss = pair_loss(
            result,
            batch.labels_m,
            batch.labels_n,
            weighting=config.loss_weighting,
            contrastive_rule=config.contrastive_rule,
            labels_of_step=batch.labels_of_step,
        )
        losses = {"total": loss.total, "basic": loss.basic}
        if "co_attention" in terms:
            losses["co_attention"] = loss.co_attention
        if "contrastive" in terms:
            losses["contrastive"] = loss.contrastive
        if config.self_pairs:
            of_itself = _self_pair_losses(model, config, batch, features_m)
            losses |= of_itself | {"total": losses["total"] + sum(of_itself.values())}
        if embedding is not None:
            equivariant = _equivariant_losses(model, batch, features, embedding)
            losses |= equivariant | {"total": losses["total"] + sum(equivariant.values())}
    return losses


def _features(model: CoAttentionClassifier, config: TrainClsConfig, views: Tensor) -> Tensor:
    """F of views: of pixels, or of kept features of the published layers."""
    return backbone_of(model).new_layers(views) if config.keep_features else model.features(views)


def _equivariant_losses(
    model: CoAttentionClassifier, batch: PairBatch, features: Tensor, embedding: Tensor
) -> dict[str, Tensor]:
    """SEAM's objective on the views of a step, a mean over both sides of its pairs.

    The paper does not say how it combines with Eq. 10 (§4.4). The plain reading is the sum of both objectives, on
    the same features and the same φ: so the views are classified by both.
    """
    labels = batch.labels_m.new_zeros(len(batch.images), batch.labels_m.shape[1])
    labels[batch.index_m], labels[batch.index_n] = batch.labels_m, batch.labels_n
    first = model.view_maps(features, embedding)
    second = model.view_maps(*model.features_and_embedding(second_view(batch.images)))
    loss = equivariant_loss(first, second, labels)
    sides = torch.cat([batch.index_m, batch.index_n])
    of_images = {
        "both_views": loss.classification,
        "suppression": loss.suppression,
        "equivariance": loss.equivariance,
        "cross_refinement": loss.cross_refinement,
    }
    return {name: term[sides].mean() for name, term in of_images.items()}


def _self_pair_losses(
    model: CoAttentionClassifier, config: TrainClsConfig, batch: PairBatch, features_m: Tensor
) -> dict[str, Tensor]:
    """Basic and co-attention loss of each first image with its own mirror, 0.75× and 2× view: all labels are common
    (difference 3)."""
    terms = TERMS[config.loss] - {"contrastive"}
    totals = dict.fromkeys((f"self_pairs_{term}" for term in sorted(terms)), features_m.new_zeros(()))
    for view in batch.self_views:
        result = model.pair_from_features(
            features_m, _features(model, config, view), terms=terms, single_m=batch.single_m, single_n=batch.single_m
        )
        loss = pair_loss(result, batch.labels_m, batch.labels_m, weighting=config.loss_weighting)
        for term in terms:
            totals[f"self_pairs_{term}"] = totals[f"self_pairs_{term}"] + getattr(loss, term)
    return totals
