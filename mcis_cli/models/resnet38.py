"""ResNet-38 ("Wider or Deeper", Wu, Shen and van den Hengel), in the form that weak supervision has used since PSA.

Blocks whose input passes batch norm and ReLU first, convolutions without bias, no pooling, output stride 8. Layers are
named as in the weights that the authors of PSA and SEAM publish.
"""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

STAGES = (  # names; channels in the middle and out, in multiples of the first layer's; stride of the first block
    (("b2", "b2_1", "b2_2"), 2, 2, 2),
    (("b3", "b3_1", "b3_2"), 4, 4, 2),
    (("b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"), 8, 8, 2),
    (("b5", "b5_1", "b5_2"), 8, 16, 1),
)
BOTTLENECKS = (("b6", 32, 0.3), ("b7", 64, 0.5))  # names; channels out; share of channels that are dropped
WIDTH = 64


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut. If the shape changes, the shortcut starts from the activated input."""

    def __init__(self, inputs: int, middle: int, outputs: int, *, stride: int, dilations: tuple[int, int]) -> None:
        """Lay out the block, with random weights.

        Args:
            inputs: Channels in.
            middle: Channels between the convolutions.
            outputs: Channels out.
            stride: Of the first convolution.
            dilations: Of both convolutions.
        """
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.relu_branch2a = nn.ReLU(inplace=True)
        self.conv_branch2a = _conv(inputs, middle, 3, stride=stride, dilation=dilations[0])
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.relu_branch2b1 = nn.ReLU(inplace=True)
        self.conv_branch2b1 = _conv(middle, outputs, 3, dilation=dilations[1])
        self.conv_branch1 = _conv(inputs, outputs, 1, stride=stride) if inputs != outputs else None

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel_out h_out w_out"]:
        """Shortcut and branch, added."""
        activated = self.relu_branch2a(self.bn_branch2a(inputs))
        shortcut = inputs if self.conv_branch1 is None else self.conv_branch1(activated)
        branch = self.relu_branch2b1(self.bn_branch2b1(self.conv_branch2a(activated)))
        return shortcut + self.conv_branch2b1(branch)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A residual block of 1×1, 3×3 (dilated by 4) and 1×1 convolutions; whole channels are dropped before the latter
    two in training.
    """

    def __init__(self, inputs: int, outputs: int, *, dropout: float) -> None:
        """Lay out the block, with random weights.

        Args:
            inputs: Channels in.
            outputs: Channels out; a quarter and a half of them between the convolutions.
            dropout: Share of the channels that are dropped, drawn from torch's own generator.
        """
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.relu_branch2a = nn.ReLU(inplace=True)
        self.conv_branch2a = _conv(inputs, outputs // 4, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.relu_branch2b1 = nn.ReLU(inplace=True)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv(outputs // 4, outputs // 2, 3, dilation=4)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.relu_branch2b2 = nn.ReLU(inplace=True)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _conv(outputs // 2, outputs, 1)
        self.conv_branch1 = _conv(inputs, outputs, 1)

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel_out h w"]:
        """Shortcut and branch, added."""
        activated = self.relu_branch2a(self.bn_branch2a(inputs))
        branch = self.relu_branch2b1(self.bn_branch2b1(self.conv_branch2a(activated)))
        branch = self.relu_branch2b2(self.bn_branch2b2(self.conv_branch2b1(self.dropout_2b1(branch))))
        branch = self.conv_branch2b2(self.dropout_2b2(branch))
        return self.conv_branch1(activated) + branch  # type: ignore[no-any-return]


def resnet38(width: int = WIDTH) -> "OrderedDict[str, nn.Module]":
    """The layers in the order in which they are computed, by their published names; random weights.

    Args:
        width: Channels of the first layer, of which those of the others are multiples; the published one has 64.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1a=_conv(3, width, 3))
    channels = width
    for names, middle, outputs, stride in STAGES:
        for number, name in enumerate(names):
            dilated = names[0] == "b5"
            layers[name] = Block(
                channels,
                width * middle,
                width * outputs,
                stride=1 if number else stride,
                dilations=(2 if dilated and number else 1, 2 if dilated else 1),
            )
            channels = width * outputs
    for name, outputs, dropout in BOTTLENECKS:
        layers[name] = Bottleneck(channels, width * outputs, dropout=dropout)
        channels = width * outputs
    layers["bn7"] = nn.BatchNorm2d(channels)
    layers["relu7"] = nn.ReLU(inplace=True)
    return layers


def _conv(inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel_size // 2)
    return nn.Conv2d(inputs, outputs, kernel_size, stride, padding=padding, dilation=dilation, bias=False)
