"""EfficientNet-Lite: inverted bottlenecks with ReLU6 and without squeeze-and-excitation, for CPUs.

Widths and depths are those of the published variants (github.com/tensorflow/tpu, models/official/efficientnet/lite).
Layers have the names that timm gives them, and compute the same, bit for bit. timm itself is not imported, because that
takes about as long again as importing PyTorch.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

NUM_FEATURES = 1280
_STEM = 32
_KERNELS, _STRIDES = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
_EXPANSION = 6  # of all stages but the first, which does not expand


@dataclass(frozen=True)
class Variant:
    """What differs between the variants: the number of blocks in each stage, and their channels."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


VARIANTS = {
    "lite0": Variant((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "lite2": Variant((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME: as little as gives ⌈size / stride⌉ cells, more at the end.

    It is not dilated.
    """

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel_out h_out w_out"]:
        """Pad by the parity of the input, and convolve."""
        pads: list[int] = []
        for size, kernel, stride in zip(inputs.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(inputs, pads))


class _NormReLU6(nn.BatchNorm2d):
    inplace = True  # as of an activation

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.relu6(super().forward(inputs), inplace=self.inplace)


class _Block(nn.Sequential):
    """Layers that add to their input where its shape allows; the last of them is linear."""

    is_added = False

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
        return outputs + inputs if self.is_added else outputs


def lite_layers(variant: Variant, output_stride: int) -> OrderedDict[str, nn.Module]:
    """All layers before pooling: conv_stem, bn1, blocks (a sequence for each of seven stages), conv_head and bn2.

    Args:
        variant: One of `VARIANTS`.
        output_stride: Pixels for each cell, from 2 on; later strides are dropped, and the layers after them dilated.

    Returns:
        The layers by name, with random weights: Gaussian, of the deviation √(2 / fan-out).
    """
    stem = _conv(3, _STEM, kernel=3, stride=2)
    inputs, reached, dilation = _STEM, 2, 1
    stages: list[nn.Module] = []
    for depth, width, kernel, stride in zip(variant.depths, variant.widths, _KERNELS, _STRIDES, strict=True):
        kept = stride if reached * stride <= output_stride else 1
        blocks: list[nn.Module] = []
        for number in range(depth):
            expansion = _EXPANSION if stages else 1
            blocks.append(_block(inputs, width, kernel, 1 if number else kept, dilation, expansion))
            inputs = width
            dilation *= 1 if number else stride // kept
        reached *= kept
        stages.append(nn.Sequential(*blocks))
    return OrderedDict(
        conv_stem=stem,
        bn1=_norm(_STEM, is_linear=False),
        blocks=nn.Sequential(*stages),
        conv_head=_conv(inputs, NUM_FEATURES),
        bn2=_norm(NUM_FEATURES, is_linear=False),
    )


def _block(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int) -> _Block:
    """An inverted bottleneck; without expansion, a depthwise separable convolution."""
    wide = inputs * expansion
    convs = [("conv_dw", _conv(wide, wide, kernel=kernel, stride=stride, dilation=dilation, groups=wide))]
    if expansion == 1:
        convs.append(("conv_pw", _conv(wide, outputs)))
    else:
        convs = [("conv_pw", _conv(inputs, wide)), *convs, ("conv_pwl", _conv(wide, outputs))]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (name, conv) in enumerate(convs, 1):
        layers[name] = conv
        layers[f"bn{number}"] = _norm(conv.out_channels, is_linear=number == len(convs))
    block = _Block(layers)
    block.is_added = stride == 1 and inputs == outputs
    return block


def _norm(channels: int, *, is_linear: bool) -> nn.BatchNorm2d:
    return (nn.BatchNorm2d if is_linear else _NormReLU6)(channels, eps=1e-3)


def _conv(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    make = nn.Conv2d if stride == 1 else SameConv
    padding = dilation * (kernel // 2) if stride == 1 else 0
    conv = make(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    nn.init.normal_(conv.weight, 0, math.sqrt(2 * groups / (kernel**2 * outputs)))
    return conv


def timm_name(key: str, variant: Variant) -> str:
    """Name of a layer's parameter here and in timm, from that in EfficientNet-PyTorch; timm's own stay as they are."""
    layer, _, rest = key.partition(".")
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    if layer in outer:
        return f"{outer[layer]}.{rest}"
    if layer != "_blocks":
        return key
    number, _, rest = rest.partition(".")
    part, _, parameter = rest.partition(".")
    places = [(stage, block) for stage, count in enumerate(variant.depths) for block in range(count)]
    stage, block = places[int(number)] if int(number) < len(places) else (len(variant.depths), int(number))
    # the first block does not expand: it has one convolution and one norm fewer, and timm numbers only existing ones
    inner = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn1" if stage == 0 else "bn2",
        "_project_conv": "conv_pw" if stage == 0 else "conv_pwl",
        "_bn2": "bn2" if stage == 0 else "bn3",
    }
    return f"blocks.{stage}.{block}.{inner.get(part, part)}.{parameter}"
