"""Networks as they leave the house: photographs in RGB 0..255 go in, values at the photographs' size come out.

What a user without this package would have to do by hand is part of the network: normalising, enlarging, and the
functions that make probabilities of logits. The arithmetic is that of the stages.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from timm.layers import Conv2dSame  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import (
    affinity,
    attended_activations,
    contrastive_attention,
    query,
    weigh_activations,
)
from mcis_cli.models.layers import average


class Normalise(nn.Module):
    """From RGB 0..255 to what a backbone was trained on: (image / 255 - mean) / std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take mean and deviation of each channel, on the scale 0..1."""
        super().__init__()
        factor = torch.tensor([1 / (255 * deviation) for deviation in std])
        offset = torch.tensor([value / deviation for value, deviation in zip(mean, std, strict=True)])
        self.register_buffer("factor", factor[:, None, None])
        self.register_buffer("offset", offset[:, None, None])

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        """The normalised images."""
        return images * self.factor - self.offset  # type: ignore[operator]


class DeployedSegmenter(nn.Module):
    """A segmentation network, from images to probabilities of each label at each pixel."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a network that gives logits of normalised images."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch label h w"]:
        """Probabilities, background first; they sum to one over the labels."""
        logits = self.model(self.normalise(images))
        return _enlarged(logits, images, align_corners=bool(self.model.align_corners)).softmax(1)


class DeployedClassifier(nn.Module):
    """A classifier looking at single images: which classes they have, and where (Eq. 1)."""

    def __init__(self, model: CoAttentionClassifier, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a classifier."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Float[Tensor, "batch class"], Float[Tensor, "batch class h w"]]:
        """Probability of each class in [0, 1], and its activation map: logits, of any range."""
        activations = self.model.activation_maps(self.model.features(self.normalise(images)))
        return average(activations).sigmoid(), _enlarged(activations, images)


class DeployedPair(nn.Module):
    """A classifier looking at images beside one reference each: what they share, and what not (Eq. 2-9).

    Of three W_P it takes that of two images of the target, which are what maps are made of unless asked otherwise.
    """

    def __init__(self, model: CoAttentionClassifier, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a classifier."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch 3 h w"], references: Float[Tensor, "batch 3 h_r w_r"]
    ) -> tuple[Float[Tensor, "batch class h w"], Float[Tensor, "batch class h w"]]:
        """Co-attentive and contrastive maps of each class, on the grid of the images: logits, of any range."""
        model = self.model
        features, features_r = self._features(images, references)
        num_classes = model.class_head.out_channels
        said = torch.cat([model.activation_maps(features_r, co=True), model.co_attention.mask_conv(features_r)], 1)
        co = model.co_attention
        transformed = query(co.compared(features), co.affinity_weight)
        mixed = attended_activations(transformed, co.compared(features_r), said)
        common, mask_logit = mixed[:, :num_classes], mixed[:, num_classes:]
        unshared = contrastive_attention(mask_logit.sigmoid())
        bias = (model.co_class_head or model.class_head).bias
        contrastive = weigh_activations(model.activation_maps(features, co=True), unshared, bias)
        return _enlarged(common, images), _enlarged(contrastive, images)

    def affinity(
        self, images: Float[Tensor, "batch 3 h w"], references: Float[Tensor, "batch 3 h_r w_r"]
    ) -> Float[Tensor, "batch hw hw_r"]:
        """What the softmax is taken of (Eq. 2); unbounded."""
        co = self.model.co_attention
        compared, compared_r = map(co.compared, self._features(images, references))
        return affinity(compared.flatten(2), compared_r.flatten(2), co.affinity_weight)

    def _features(self, images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.features(self.normalise(images)), self.model.features(self.normalise(references))


def _enlarged(
    maps: Float[Tensor, "batch channel h_out w_out"], images: Float[Tensor, "batch 3 h w"], align_corners: bool = False
) -> Float[Tensor, "batch channel h w"]:
    return functional.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=align_corners)


class SameConv(nn.Module):
    """Stands for a convolution of lite0 that pads by the parity of its input, while ONNX is written.

    ONNX's own convolution pads so by an attribute. Written as arithmetic with sizes that are not known, it takes the
    exporter a minute, and whoever runs the graph a dozen nodes for each.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        """Take over weights and geometry."""
        super().__init__()
        self.conv = conv

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel_out h_out w_out"]:
        """A node of ONNX; has no values of its own."""
        conv = self.conv
        height, width = (
            (size + stride - 1) // stride for size, stride in zip(inputs.shape[2:], conv.stride, strict=True)
        )
        return torch.onnx.ops.symbolic(
            "Conv",
            (inputs, conv.weight) if conv.bias is None else (inputs, conv.weight, conv.bias),
            {
                "auto_pad": "SAME_UPPER",
                "dilations": list(conv.dilation),
                "group": conv.groups,
                "kernel_shape": list(conv.kernel_size),
                "strides": list(conv.stride),
            },
            dtype=inputs.dtype,
            shape=(inputs.shape[0], conv.out_channels, height, width),
        )


def for_onnx(network: nn.Module) -> nn.Module:
    """A copy of a network to be written as ONNX, in which `SameConv` stands where it is needed."""
    copy = deepcopy(network)
    for name, module in list(copy.named_modules()):
        if isinstance(module, Conv2dSame):
            copy.set_submodule(name, SameConv(module))
    return copy
