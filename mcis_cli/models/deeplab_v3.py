"""DeepLab-V3: the segmentation network of the paper's LID challenge setting (§4.4), with torchvision's head."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPPPooling, DeepLabHead

from mcis_cli.models.layers import num_features_of


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
        super().__init__()
        channels = num_features_of(backbone) if num_features is None else num_features
        self.backbone = backbone
        self.align_corners = align_corners
        self.head = DeepLabHead(channels, num_classes, (dilation, 2 * dilation, 3 * dilation))

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch class h_out w_out"]:
        """Logits at network resolution, background first; enlarging them is left to the caller.

        A batch of one has but one value a channel after image pooling, which cannot be normalised by its own spread:
        there batch norm takes its running statistics, also in training.
        """
        for module in self.head.modules():
            if isinstance(module, ASPPPooling):
                module.train(self.training and len(images) > 1)
        return self.head(self.backbone(images))  # type: ignore[no-any-return]

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that no published weights fill: those of the head, and of the backbone's new layers."""
        of_backbone: Callable[[], list[nn.Parameter]] = getattr(self.backbone, "new_parameters", list)
        return of_backbone() + list(self.head.parameters())
