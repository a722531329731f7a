"""DeepLab with a large field of view (LargeFOV): the segmentation network of the paper's main setting."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcis_cli.models.layers import new_conv, num_features_of


class DeepLabLargeFOV(nn.Module):
    """A backbone, and a head with one widely dilated convolution.

    The head is that of the released code's ResNet-101 on every backbone: a dilated 3×3 convolution, ReLU, 1×1, ReLU,
    1×1 to the classes. On VGG-16 these are fc6, fc7 and fc8 of the original LargeFOV, which has dropout after the
    first two.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        head_channels: int,
        dilation: int,
        dropout: float = 0.0,
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
            num_features: C; asked of the backbone where None.
            generator: Source of the head's weights; torch's own where None.
        """
        super().__init__()
        channels = num_features_of(backbone) if num_features is None else num_features
        self.backbone = backbone
        self.head = nn.Sequential(
            new_conv(channels, head_channels, kernel_size=3, dilation=dilation, generator=generator),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            new_conv(head_channels, head_channels, generator=generator),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            new_conv(head_channels, num_classes, std=0.01, generator=generator),
        )

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch class h_out w_out"]:
        """Logits at network resolution, background first; enlarging them is left to the caller.

        Args:
            images: Normalised images.

        Returns:
            One logit for each class and cell.
        """
        return self.head(self.backbone(images))  # type: ignore[no-any-return]

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that no published weights fill: those of the head, and of the backbone's new layers."""
        of_backbone: Callable[[], list[nn.Parameter]] = getattr(self.backbone, "new_parameters", list)
        return of_backbone() + list(self.head.parameters())
