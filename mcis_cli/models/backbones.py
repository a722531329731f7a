"""Backbones as dense feature extractors: VGG-16 (paper §3.3), ResNet-50/101, ResNet-38 (§4.4), EfficientNet-Lite0 and
-Lite2 for CPUs, and networks of timm.

Each keeps the layer names of its published weights, which others find and read; `Backbone.initialise` takes the state.
Where a stride is dropped to reach the output stride, the layers after it are dilated instead, so the weights still fit.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcis_cli.errors import UsageError, WeightsError, counted
from mcis_cli.models import efficientnet_lite
from mcis_cli.models.depthwise import DepthwiseConv
from mcis_cli.models.layers import listed, misfits, new_conv
from mcis_cli.models.resnet38 import WIDTH, resnet38

Role = Literal["classification", "segmentation", "largefov"]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
LITE_MEAN: Triple = (127 / 255, 127 / 255, 127 / 255)
LITE_STD: Triple = (128 / 255, 128 / 255, 128 / 255)
NEW_CHANNELS = 512
PREFIX = "timm:"


@dataclass(frozen=True)
class _Trunk:
    """What differs between the backbones: published layers in stages, most of them five, and how to read their state.

    `dropped` are the name prefixes of published layers that a dense feature extractor does not have. `new_layers` is
    the usual number of new layers for classification. `taps` are the two layers whose outputs are the lower taps, with
    their channels.
    """

    layers: nn.Module
    stages: Sequence[Sequence[nn.Module | nn.Parameter]]
    num_features: int
    dropped: tuple[str, ...]
    new_layers: int = 0
    taps: Sequence[tuple[nn.Module, int]] = ()
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


class Backbone(nn.Module):
    """A dense feature extractor with the facts that its users need.

    Batch norm always stays as published: running statistics and affine parameters are frozen, also in training mode.

    Attributes:
        name: Which backbone it is.
        role: What its features are for; see `build_backbone`.
        num_features: Channels of the features.
        tap_channels: Channels of the two lower taps; see `taps`.
        output_stride: Pixels of the image for each cell of the features, in either direction.
        num_stages: How many parts can be kept from learning; see `freeze_stages`.
        mean, std: What images are normalised by, on the scale 0..1, red green blue.
    """

    def __init__(
        self, trunk: _Trunk, new_layers: nn.Sequential, *, name: str, output_stride: int, role: Role = "classification"
    ) -> None:
        """Compose the published layers with the new ones; see `build_backbone`."""
        super().__init__()
        self.name, self.role = name, role
        self.num_features = NEW_CHANNELS if new_layers else trunk.num_features
        self.output_stride = output_stride
        self.mean, self.std = trunk.mean, trunk.std
        self.trunk = trunk.layers
        self.new_layers = new_layers
        self.tap_channels = tuple(channels for _, channels in trunk.taps)
        self._tapped = [layer for layer, _ in trunk.taps]
        self._stages = trunk.stages
        self.num_stages = len(trunk.stages)
        self._dropped = trunk.dropped
        for norm in self._norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch channel h_out w_out"]:
        """Features of normalised images of any size from 32 × 32 on.

        Returns:
            The features; non-negative, except those of lite0 for segmentation (a linear bottleneck), and of networks of
            timm that do not end in a ReLU.
        """
        return self.new_layers(self.trunk(images))  # type: ignore[no-any-return]

    def taps(self, images: Float[Tensor, "batch 3 h w"]) -> list[Float[Tensor, "batch _channel _h _w"]]:
        """Features on three levels: what the published network makes before its last two halvings of resolution, or
        where those were (in ResNet-38, the activated inputs of stages 5 and 6; in transformers, the outputs of blocks
        after a third and two thirds), and the end, as `forward` gives it.

        Returns:
            The features, lower levels first; their heights and widths may differ.
        """
        found: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda *called: found.append(called[2])) for layer in self._tapped]
        try:
            end = self(images)
        finally:
            for hook in hooks:
                hook.remove()
        return [*found, end]

    def initialise(self, state: Mapping[str, Tensor]) -> None:
        """Take the published ImageNet weights; the classifier in them is left out.

        Args:
            state: State dict of torchvision's network, also as the backbone of one of its segmentation networks
                (difference 8), of EfficientNet-Lite0 as EfficientNet-PyTorch or timm name its layers, of ResNet-38 as
                PSA and SEAM do, or of a network of timm.

        Raises:
            WeightsError: A layer is missing, unknown, or of another shape: the state is of another network.
        """
        # Networks for segmentation (DeepLab trained on COCO, say) hold a backbone: its layers are taken, theirs left.
        inner = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
        state = inner or state
        own = self.trunk.state_dict()
        variant = efficientnet_lite.VARIANTS.get(self.name)
        names = {key: key if variant is None else efficientnet_lite.timm_name(key, variant) for key in state}
        published = {names[key]: value for key, value in state.items()}
        published = {key: value for key, value in published.items() if not key.startswith(self._dropped)}
        counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
        published = counters | published  # files from before PyTorch 0.4.1 have none, and frozen batch norm reads none
        if wrong := misfits(own, published):
            raise WeightsError(
                f"initial weights do not fit {self.name}: {counted(len(wrong), 'layer')} of another kind "
                f"({listed(wrong)}); give ImageNet weights of {self.name} with --weights "
                "FILE, or choose the network with --backbone"
            )
        self.trunk.load_state_dict(published)

    def freeze_stages(self, num_stages: int) -> None:
        """Exclude the first stages from training; a stage ends where the published network halves its resolution. A
        transformer has five: its embeddings, and four groups of blocks.

        Args:
            num_stages: 0 (none) to all, which are 5 but in some networks of timm.

        Raises:
            UsageError: There are not so many stages.
        """
        if not 0 <= num_stages <= self.num_stages:
            raise UsageError(
                f"cannot freeze {num_stages} stages of {self.name}: expected 0 to {self.num_stages}; "
                "lower the number, as in --set train-cls.frozen_stages=3"
            )
        for stage in self._stages[:num_stages]:
            for part in stage:
                part.requires_grad_(False)

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters of the layers that no published weights fill."""
        return list(self.new_layers.parameters())

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of all layers but batch norm, which stays in evaluation mode."""
        super().train(mode)
        for norm in self._norms():
            norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.trunk.modules() if isinstance(module, nn.BatchNorm2d)]


def build_backbone(
    name: str,
    *,
    output_stride: int = 8,
    role: Role = "classification",
    new_layers: int | None = None,
    generator: torch.Generator | None = None,
) -> Backbone:
    """A backbone with random weights; nothing is downloaded, see `Backbone.initialise`.

    For classification, VGG-16 ends in three new 3×3 convolutions with 512 channels in place of its fully connected
    layers (paper §3.3), and lite0 in its published 1×1 convolution to 1280 channels. For segmentation both end before.
    `new_layers` puts such new convolutions, each with a ReLU after it, on any network.
    ResNet-38 has output stride 8 alone. The role "largefov" is segmentation with VGG-16's pools as DeepLab-LargeFOV has
    them; other networks have no difference.

    Args:
        name: Which network; timm:NAME is one that timm lists.
        output_stride: 8 or 16 pixels for each cell; in a transformer of timm, the size of its patches, 14 too.
        role: What the features are for.
        new_layers: How many new convolutions it ends in; None for the usual number.
        generator: Source of the new layers' weights; torch's own where None.

    Returns:
        The backbone, in float32 on the CPU.

    Raises:
        UsageError: The name or the output stride is not one of those above.
    """
    build = _builder_of(name)
    strides = (8,) if name == "resnet38" else (8, 14, 16) if name.startswith(PREFIX) else (8, 16)
    if output_stride not in strides:
        raise UsageError(
            f"{name} does not support output stride {output_stride}: expected {' or '.join(map(str, strides))}; set it "
            f"with --set SECTION.output_stride={strides[0]}"
        )
    trunk = build(output_stride, role)
    count = trunk.new_layers if new_layers is None else new_layers
    added = _new_layers(trunk.num_features, count, generator)
    return Backbone(trunk, added, name=name, output_stride=output_stride, role=role)


def _builder_of(name: str) -> Callable[[int, Role], _Trunk]:
    """The function that makes the published layers, from output stride and role."""
    builders: dict[str, Callable[[int, Role], _Trunk]] = {
        "vgg16": _vgg16,
        "resnet50": partial(_resnet, "resnet50"),
        "resnet101": partial(_resnet, "resnet101"),
        "resnet38": _resnet38,
        **{name: partial(_lite, variant) for name, variant in efficientnet_lite.VARIANTS.items()},
    }
    if name.startswith(PREFIX):
        return partial(_timm, name.removeprefix(PREFIX))
    if name not in builders:
        raise UsageError(
            f"no backbone is called {name!r:.80}: expected {', '.join(builders)}, or {PREFIX}NAME; choose one with "
            "--backbone"
        )
    return builders[name]


def _new_layers(num_inputs: int, count: int, generator: torch.Generator | None) -> nn.Sequential:
    """3×3 convolutions with 512 channels, as the paper has them between VGG-16 and φ (§3.3)."""
    layers: list[nn.Module] = []
    for number in range(count):
        inputs = NEW_CHANNELS if number else num_inputs
        layers += [new_conv(inputs, NEW_CHANNELS, kernel_size=3, generator=generator), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _vgg16(output_stride: int, role: Role) -> _Trunk:
    """VGG-16 without pool 5: pool 4 at stride 1 and conv5 dilated by 2 for output stride 8 (paper §3.3).

    DeepLab keeps pool 5, at stride 1. Pools at stride 1 are 3×3, since 2×2 ones would shrink and shift the map. All
    pools of DeepLab-LargeFOV as published are 3×3 and padded, so that 8k + 1 pixels give k + 1 cells.
    """
    from torchvision.models import vgg16  # takes a second and more, which the backbones for CPUs do not need

    layers = list(vgg16(weights=None).features)
    smooth_pool = partial(nn.MaxPool2d, kernel_size=3, stride=1, padding=1)
    if output_stride == 8:
        layers[23] = smooth_pool()
        for conv in (layers[24], layers[26], layers[28]):
            conv.dilation = conv.padding = (2, 2)
    layers[30:] = [] if role == "classification" else [smooth_pool()]
    if role == "largefov":
        for place in (4, 9, 16, *((23,) if output_stride == 16 else ())):
            layers[place] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    return _Trunk(
        layers=nn.Sequential(OrderedDict(features=nn.Sequential(*layers))),
        stages=[layers[start:stop] for start, stop in ((0, 5), (5, 10), (10, 17), (17, 24), (24, 31))],
        num_features=512,
        dropped=("classifier.",),
        new_layers=3 if role == "classification" else 0,
        taps=((layers[16], 256), (layers[23], 512)),
    )


def _resnet(name: str, output_stride: int, role: Role) -> _Trunk:
    """A ResNet up to its last stage, dilated there (output stride 16), or in the last two (8); no new layers."""
    from torchvision.models import get_model  # type: ignore[attr-defined]

    network = get_model(name, weights=None, replace_stride_with_dilation=[False, output_stride == 8, True])
    layers = _parts(network, "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    modules = list(layers.values())
    return _Trunk(
        layers=nn.Sequential(layers),
        stages=[modules[:4], *([module] for module in modules[4:])],
        num_features=2048,
        dropped=("fc.",),
        taps=((layers["layer2"], 512), (layers["layer3"], 1024)),
    )


def _resnet38(output_stride: int, role: Role, *, width: int = WIDTH) -> _Trunk:
    """ResNet-38, which needs no change; what PSA and SEAM put on it is left out of their weights."""
    layers = resnet38(width)
    by_stage = [[layer for name, layer in layers.items() if name.startswith(f"b{stage}")] for stage in range(2, 5)]
    end = [layer for name, layer in layers.items() if name.startswith(("b5", "b6", "b7", "bn7"))]
    taps = [(layers[name].get_submodule("relu_branch2a"), part * width) for name, part in (("b5", 8), ("b6", 16))]
    return _Trunk(
        layers=nn.Sequential(layers),
        stages=[[layers["conv1a"]], *by_stage, end],
        num_features=64 * width,
        dropped=("fc8.", "f8_3.", "f8_4.", "f8_5.", "f9.", "linear1000."),
        taps=taps,
    )


def _lite(variant: efficientnet_lite.Variant, output_stride: int, role: Role) -> _Trunk:
    """EfficientNet-Lite, for segmentation without its last convolution, so that it ends in a linear bottleneck."""
    layers = efficientnet_lite.lite_layers(variant, output_stride)
    if role != "classification":
        layers = OrderedDict(list(layers.items())[:3])
    network, blocks = nn.Sequential(layers), list(layers["blocks"].children())
    _quicken(network)
    stem, end = list(layers.values())[:2], list(layers.values())[3:]
    return _Trunk(
        layers=network,
        stages=[[*stem, blocks[0]], [blocks[1]], [blocks[2]], blocks[3:5], [*blocks[5:], *end]],
        num_features=efficientnet_lite.NUM_FEATURES if end else variant.widths[-1],
        dropped=("classifier.",) if end else ("classifier.", "conv_head.", "bn2."),
        taps=((blocks[2], variant.widths[2]), (blocks[4], variant.widths[4])),
        mean=LITE_MEAN,
        std=LITE_STD,
    )


def _timm(name: str, output_stride: int, role: Role) -> _Trunk:
    """A network of timm up to where its features would be pooled, in both roles; no new layers."""
    from mcis_cli.models.timm_networks import build_timm_network

    found = build_timm_network(name, output_stride=output_stride)
    _quicken(found.network)
    return _Trunk(
        layers=found.network,
        stages=found.stages,
        num_features=found.num_features,
        dropped=found.dropped,
        taps=found.taps,
        mean=found.mean,
        std=found.std,
    )


def _quicken(network: nn.Module) -> None:
    """Put `DepthwiseConv` where it can stand."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and DepthwiseConv.can_replace(module):
            network.set_submodule(name, DepthwiseConv(module))


def _parts(network: nn.Module, *names: str) -> OrderedDict[str, nn.Module]:
    return OrderedDict((name, network.get_submodule(name)) for name in names)
