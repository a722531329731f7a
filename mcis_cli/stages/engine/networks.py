"""Networks from the description that their artifact carries, and their tensors to and from NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mcis_cli.config import AffinityConfig, AffinityWeights, TrainClsConfig, TrainSegConfig
from mcis_cli.errors import DamagedError, WeightsError
from mcis_cli.models.backbones import Backbone, Role, build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.deeplab import DeepLabLargeFOV, DeepLabV3
from mcis_cli.models.pairwise_affinity import PairwiseAffinity
from mcis_cli.store import Artifact
from mcis_cli.training.initial_weights import InitialWeights

DeepLab = DeepLabLargeFOV | DeepLabV3
OnBackbone = CoAttentionClassifier | DeepLab | PairwiseAffinity


def describe_classifier(
    config: TrainClsConfig, num_foreground: int, affinity_weights: AffinityWeights = "shared"
) -> dict[str, Any]:
    """The arguments of `build_classifier`, as JSON; defaults are a shared W_P and Eq. 2."""
    return {
        "backbone": config.backbone,
        "output_stride": config.output_stride,
        "heads": config.heads,
        "affinity_init": config.affinity_init,
        "equivariant": config.equivariant,
        "num_foreground": num_foreground,
        **({} if affinity_weights == "shared" else {"affinity_weights": affinity_weights}),
        **({} if config.affinity_scale is None else {"affinity_scale": config.affinity_scale}),
        **({} if config.new_layer_init == "gaussian" else {"new_layer_init": config.new_layer_init}),
        **({} if config.mask_bias else {"mask_bias": False}),
        **({} if config.new_layers is None else {"new_layers": config.new_layers}),
        **({"kept_epochs": config.epochs - 1, "frozen_stages": config.frozen_stages} if config.keep_epochs else {}),
    }


def build_classifier(model: Mapping[str, Any]) -> CoAttentionClassifier:
    """An untrained co-attention classifier."""
    backbone = build_backbone(
        model["backbone"], output_stride=model["output_stride"], new_layers=model.get("new_layers")
    )
    classifier = CoAttentionClassifier(
        backbone,
        model["num_foreground"],
        heads=model["heads"],
        affinity_init=model["affinity_init"],
        equivariant=model.get("equivariant", False),
        affinity_weights=model.get("affinity_weights", "shared"),
        affinity_scale=model.get("affinity_scale"),
        new_layer_init=model.get("new_layer_init", "gaussian"),
        mask_bias=model.get("mask_bias", True),
    )
    if "kept_epochs" in model:
        backbone.freeze_stages(model["frozen_stages"])  # frozen weights are the same after every epoch
        classifier.keep_epochs(model["kept_epochs"])
    return classifier


# Defaults that the description of a segmentation network omits.
_OF_HEADS: Mapping[str, Any] = {
    "head_bias": True,
    "head_init": "gaussian",
    "fully_connected": "new",
    "align_corners": False,
}


def describe_segmenter(config: TrainSegConfig, num_classes: int) -> dict[str, Any]:
    """The arguments of `build_segmenter`, as JSON."""
    described = {
        "network": config.network,
        "backbone": config.backbone,
        "output_stride": config.output_stride,
        "head_channels": config.head_channels,
        "head_dilation": config.head_dilation,
        "num_classes": num_classes,
    }
    unused = config.unused()
    added = {name: getattr(config, name) for name in _OF_HEADS if getattr(config, name) != _OF_HEADS[name]}
    return {name: value for name, value in (described | added).items() if name not in unused}


def build_segmenter(model: Mapping[str, Any]) -> DeepLab:
    """An untrained segmentation network."""
    published = model.get("fully_connected") == "imagenet"
    role: Role = "largefov" if published else "segmentation"
    backbone = build_backbone(model["backbone"], output_stride=model["output_stride"], role=role)
    align_corners = model.get("align_corners", False)
    if model["network"] == "deeplabv3":
        return DeepLabV3(backbone, model["num_classes"], dilation=model["head_dilation"], align_corners=align_corners)
    return DeepLabLargeFOV(
        backbone,
        model["num_classes"],
        head_channels=model["head_channels"],
        dilation=model["head_dilation"],
        dropout=0.5 if published else 0.0,
        bias=model.get("head_bias", True),
        init=model.get("head_init", "gaussian"),
        smooth=published,
        align_corners=align_corners,
    )


def describe_affinity_net(config: AffinityConfig) -> dict[str, Any]:
    """The arguments of `build_affinity_net`, as JSON, and the radius of its pairs."""
    return {"backbone": config.backbone, "output_stride": config.output_stride, "radius": config.radius}


def build_affinity_net(model: Mapping[str, Any]) -> PairwiseAffinity:
    """An untrained affinity network; its backbone ends like those for segmentation."""
    return PairwiseAffinity(
        build_backbone(model["backbone"], output_stride=model["output_stride"], role="segmentation")
    )


def backbone_of(model: OnBackbone) -> Backbone:
    """The backbone of a network that was built here."""
    assert isinstance(model.backbone, Backbone)
    return model.backbone


def initialise(model: OnBackbone, initial: InitialWeights) -> None:
    """Start a network's backbone from published weights; also the pixel correlation if they are SEAM's, and VGG-16's
    fully connected layers if the network has them and the weights contain them.

    Raises:
        WeightsError: they belong to another network.
    """
    try:
        backbone_of(model).initialise(initial.state)
    except WeightsError as error:  # this error names the layers; the file's name is added here
        raise WeightsError(f"{initial.source}: {error}") from None
    if isinstance(model, CoAttentionClassifier) and model.pixel_correlation is not None:
        model.pixel_correlation.initialise(initial.state)
    if isinstance(model, DeepLabLargeFOV) and backbone_of(model).role == "largefov":
        model.initialise_fully_connected(initial.state)


def place(model: nn.Module, device: torch.device) -> None:
    """Move a network to a device, with weights in the fastest memory format for convolutions."""
    model.to(device).to(memory_format=torch.channels_last)


def tensors_of(model: nn.Module) -> dict[str, NDArray[Any]]:
    """All weights of a network as arrays."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}


def stored_classifier(artifact: Artifact) -> CoAttentionClassifier:
    """The classifier of an artifact; raises as `load_tensors` does."""
    with torch.device("meta"):  # draws no initial weights, since they would be replaced
        model = build_classifier(artifact.meta["model"])
    load_tensors(model, artifact)
    return model


def stored_segmenter(artifact: Artifact) -> DeepLab:
    """The segmentation network of an artifact; raises as `load_tensors` does."""
    with torch.device("meta"):
        model = build_segmenter(artifact.meta["model"])
    load_tensors(model, artifact)
    return model


def stored_affinity_net(artifact: Artifact) -> PairwiseAffinity:
    """The affinity network of an artifact; raises as `load_tensors` does."""
    with torch.device("meta"):
        model = build_affinity_net(artifact.meta["model"])
    load_tensors(model, artifact)
    return model


def load_tensors(model: nn.Module, artifact: Artifact) -> None:
    """Give a network the weights of an artifact.

    Raises:
        DamagedError: names or shapes are not the network's, or a value is not finite.
    """
    state: dict[str, Tensor] = {name: torch.from_numpy(np.array(array)) for name, array in artifact.tensors().items()}
    if strange := [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]:
        raise DamagedError(f"{artifact.path} has values that are not finite at {strange[0]!r:.80}, expected none")
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DamagedError(f"{artifact.path} does not fit its own description: {reason[:200]}") from error
