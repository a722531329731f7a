"""The segmentation networks: DeepLab with a large field of view (LargeFOV), as in the paper's main setting, and
DeepLab-V3, as in its LID challenge setting (§4.4).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.models.layers import new_conv, num_features_of

HeadInit = Literal["gaussian", "released"]
_FULLY_CONNECTED = ("0.weight", "0.bias", "3.weight", "3.bias")  # of torchvision's `classifier`


class DeepLabLargeFOV(nn.Module):
    """A backbone, and a head with one widely dilated convolution.

    The head is that of the released code's ResNet-101 on every backbone: a dilated 3×3 convolution, ReLU, 1×1, ReLU,
    1×1 to the classes. On VGG-16 these are fc6, fc7 and fc8 of the original LargeFOV, which has pool5a before them,
    and dropout after the first two.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        head_channels: int,
        dilation: int,
        dropout: float = 0.0,
        bias: bool = True,
        init: HeadInit = "gaussian",
        smooth: bool = False,
        align_corners: bool = False,
        num_features: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Put the head on a backbone.

        Args:
            backbone: From images (B, 3, H, W) to features (B, C, H', W').
            num_classes: Classes with background.
            head_channels: Width of the head; 1024 in the released code.
            dilation: Distance of the 3×3 convolution's taps in cells; 12 there, for output stride 8.
            dropout: Fraction of values dropped after each ReLU in training; drawn from torch's own generator.
            bias: Whether the two layers before the scores have one; they have none in the released code.
            init: "gaussian" as `new_conv`, the scores with deviation 0.01; or as in the released code: the two layers
                uniform within ±√(3 / fan-in), the scores Gaussian with deviation √(2 / fan-in).
            smooth: Whether features are averaged over 3 × 3 cells first, as pool5a of LargeFOV on VGG-16 does.
            align_corners: How `enlarged` takes pixels.
            num_features: C; asked of the backbone where None.
            generator: Source of the head's weights; torch's own where None.
        """
        super().__init__()
        channels = num_features_of(backbone) if num_features is None else num_features
        self.backbone = backbone
        self.align_corners = align_corners
        self.pool5a = nn.AvgPool2d(3, stride=1, padding=1) if smooth else nn.Identity()
        self._pretrained: list[nn.Parameter] = []
        released = init == "released"
        bounds = ((3 / (9 * channels)) ** 0.5, (3 / head_channels) ** 0.5) if released else (None, None)
        first = partial(new_conv, channels, head_channels, kernel_size=3, dilation=dilation)
        self.head = nn.Sequential(
            first(bias=bias, bound=bounds[0], generator=generator),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            new_conv(head_channels, head_channels, bias=bias, bound=bounds[1], generator=generator),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            new_conv(head_channels, num_classes, std=None if released else 0.01, generator=generator),
        )

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch class h_out w_out"]:
        """Logits at network resolution, background first; the caller enlarges them.

        Args:
            images: Normalised images.

        Returns:
            One logit for each class and cell.
        """
        return self.head(self.pool5a(self.backbone(images)))  # type: ignore[no-any-return]

    def initialise_fully_connected(self, state: Mapping[str, Tensor]) -> bool:
        """Start the two layers before the scores from VGG-16's fully connected layers, decimated as DeepLab's authors
        did: evenly spaced outputs, and every third of the seven rows and columns of the first.

        Args:
            state: State dict of torchvision's VGG-16.

        Returns:
            Whether the state has these layers, and they are as wide as this head needs.
        """
        first, second = (layer for layer in self.head[:4] if isinstance(layer, nn.Conv2d))
        if first.bias is None or second.bias is None:
            return False
        weight_6, bias_6, weight_7, bias_7 = (state.get(f"classifier.{name}") for name in _FULLY_CONNECTED)
        if weight_6 is None or bias_6 is None or weight_7 is None or bias_7 is None:
            return False
        width = len(weight_6)
        shapes = weight_6.shape[1], weight_7.shape[1]
        if shapes != (first.in_channels * 49, width) or min(width, len(weight_7)) < first.out_channels:
            return False
        kept = torch.arange(first.out_channels) * width // first.out_channels
        outputs = torch.arange(second.out_channels) * len(weight_7) // second.out_channels
        with torch.no_grad():
            first.weight.copy_(weight_6.view(width, first.in_channels, 7, 7)[kept][:, :, ::3, ::3])
            first.bias.copy_(bias_6[kept])
            second.weight.copy_(weight_7[outputs][:, kept, None, None])
            second.bias.copy_(bias_7[outputs])
        self._pretrained = [*first.parameters(), *second.parameters()]
        return True

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters without published weights: those of the head, and of the backbone's new layers."""
        of_backbone: Callable[[], list[nn.Parameter]] = getattr(self.backbone, "new_parameters", list)
        filled = {id(parameter) for parameter in self._pretrained}
        return of_backbone() + [parameter for parameter in self.head.parameters() if id(parameter) not in filled]


def enlarged(
    logits: Float[Tensor, "batch class h w"], size: tuple[int, int], align_corners: bool
) -> Float[Tensor, "batch class height width"]:
    """Logits enlarged bilinearly to the size of images.

    Args:
        logits: At network resolution, at stride 8 or 16.
        size: Height and width of the images.
        align_corners: Whether the outer cells lie on the outer pixels, as in Caffe, which is exact for 8k + 1 pixels at
            stride 8; else pixels and cells are areas.
    """
    return functional.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


class DeepLabV3(nn.Module):
    """A backbone, and torchvision's head: atrous spatial pyramid pooling with image pooling, 3×3, 1×1 to the classes.

    Unlike that of the backbone, the batch norm of the head learns, and keeps running statistics.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        dilation: int,
        align_corners: bool = False,
        num_features: int | None = None,
    ) -> None:
        """Put the head on a backbone; its weights are drawn from torch's own generator.

        Args:
            backbone: From images (B, 3, H, W) to features (B, C, H', W').
            num_classes: Classes with background.
            dilation: Distance of the taps of the first of three 3×3 convolutions, in cells; the others have twice and
                three times it. 6 is for output stride 16, 12 for 8.
            align_corners: How `models.deeplab.enlarged` takes pixels.
            num_features: C; asked of the backbone where None.
        """
        from torchvision.models.segmentation.deeplabv3 import ASPPPooling, DeepLabHead

        super().__init__()
        channels = num_features_of(backbone) if num_features is None else num_features
        self.backbone = backbone
        self.align_corners = align_corners
        self.head = DeepLabHead(channels, num_classes, (dilation, 2 * dilation, 3 * dilation))
        self._pooled = [module for module in self.head.modules() if isinstance(module, ASPPPooling)]

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch class h_out w_out"]:
        """Logits at network resolution, background first; the caller enlarges them.

        A batch of one has only one value a channel after image pooling, which cannot be normalised by its own spread,
        so batch norm uses its running statistics there, also in training.
        """
        for module in self._pooled:
            module.train(self.training and len(images) > 1)
        return self.head(self.backbone(images))  # type: ignore[no-any-return]

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters without published weights: those of the head, and of the backbone's new layers."""
        of_backbone: Callable[[], list[nn.Parameter]] = getattr(self.backbone, "new_parameters", list)
        return of_backbone() + list(self.head.parameters())
