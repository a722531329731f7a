"""Tries networks of timm as backbones, and writes docs/reference/backbones.md: `python docs/scripts/backbones.py`.

Each is built with random weights at each output stride that it has, and makes one step of both trainings on two noisy
images of 64 × 96 pixels. Nothing is downloaded. With names behind it, it prints their rows and writes nothing.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from mcis_cli.errors import UsageError
from mcis_cli.models.backbones import Backbone, build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.deeplab import DeepLabLargeFOV
from mcis_cli.models.losses import pair_loss
from mcis_cli.stages.train_seg.run import segmentation_loss

PAGE = Path(__file__).parent.parent / "reference" / "backbones.md"
NAMES = (
    "resnet18",
    "resnet26d",
    "resnext50_32x4d",
    "seresnet50",
    "resnetv2_50",
    "convnext_tiny",
    "efficientnet_b0",
    "tf_efficientnetv2_b0",
    "mobilenetv2_100",
    "mnasnet_100",
    "regnety_004",
    "rexnet_100",
    "repvgg_a0",
    "nfnet_l0",
    "vit_tiny_patch16_224",
    "vit_small_patch8_224",
    "deit_small_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_base_patch16_clip_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "mobilenetv3_large_100",
)
HEIGHT, WIDTH, NUM_CLASSES = 64, 96, 3
HEAD = """# Backbones of timm

*Written by `docs/scripts/backbones.py`, which tries each network of this table; add names there.*

`--backbone timm:NAME` takes networks that [timm](https://huggingface.co/docs/timm) lists and that give a map of
features. [Use another backbone](../how-to/own-backbone.md) lists the exceptions. These were
tried with timm {version}, with random weights, at each output stride that they have: the shapes of all levels, and one
step of `train-cls` (full loss) and of `train-seg`, in which every weight that may learn gets a finite gradient. The
numbers are those at the last stride.

| `--backbone` | stride | million weights | features | lower taps | stages | features are | `train-cls` | `train-seg` |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Tried:
    """What was seen of a backbone."""

    name: str
    output_strides: tuple[int, ...]
    num_weights: int
    num_features: int
    tap_channels: tuple[int, ...]
    num_stages: int
    signed: bool
    classifier_steps: bool
    segmenter_steps: bool

    def row(self) -> str:
        """A line of the table."""
        cells = (
            f"`{self.name}`",
            ", ".join(map(str, self.output_strides)),
            f"{self.num_weights / 1e6:.1f}",
            f"{self.num_features:,}",
            ", ".join(map(str, self.tap_channels)),
            str(self.num_stages),
            "of either sign" if self.signed else "not negative",
            *("yes" if steps else "**no**" for steps in (self.classifier_steps, self.segmenter_steps)),
        )
        return f"| {' | '.join(cells)} |"


def try_backbone(name: str) -> Tried:
    """Build a backbone, look at its shapes, and make a step of both trainings.

    Raises:
        AssertionError: it is not what it says of itself.
        UsageError: it has none of the output strides.
    """
    torch.manual_seed(0)
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    signed = False
    backbones = _built(name)
    for backbone in backbones:
        output_stride = backbone.output_stride
        with torch.inference_mode():
            lower, middle, end = backbone.taps(images)
        signed = signed or bool(end.min() < 0)
        assert (lower.shape[1], middle.shape[1]) == backbone.tap_channels
        assert end.shape == (2, backbone.num_features, -(-HEIGHT // output_stride), -(-WIDTH // output_stride))
    return Tried(
        name=name,
        output_strides=tuple(backbone.output_stride for backbone in backbones),
        num_weights=sum(parameter.numel() for parameter in backbone.trunk.parameters()),
        num_features=backbone.num_features,
        tap_channels=backbone.tap_channels,
        num_stages=backbone.num_stages,
        signed=signed,
        classifier_steps=_classifier_steps(backbone, images),
        segmenter_steps=_segmenter_steps(
            build_backbone(name, output_stride=output_stride, role="segmentation"), images
        ),
    )


def _built(name: str) -> list[Backbone]:
    """A network at each output stride that it has."""
    built, refusal = [], None
    for output_stride in (8, 14, 16):
        try:
            built.append(build_backbone(name, output_stride=output_stride).eval())
        except UsageError as error:
            refusal = error
    if refusal and not built:
        raise refusal
    return built


def _classifier_steps(backbone: Backbone, images: Tensor) -> bool:
    model = CoAttentionClassifier(backbone, NUM_CLASSES, affinity_init="identity").train()
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    with torch.no_grad():  # attention that is no choice of one position, whatever the size of random features
        model.co_attention.affinity_weight.div_(backbone(images).square().sum(1).mean())
    return _steps(model, pair_loss(model(images[:1], images[1:]), labels[:1], labels[1:]).total)


def _segmenter_steps(backbone: Backbone, images: Tensor) -> bool:
    model = DeepLabLargeFOV(backbone, NUM_CLASSES + 1, head_channels=8, dilation=6).train()
    masks = torch.arange(HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH).expand(2, -1, -1) % (NUM_CLASSES + 1)
    return _steps(model, segmentation_loss(model(images), masks, "full"))


def _steps(model: nn.Module, loss: Tensor) -> bool:
    """Whether a loss moves every weight that may learn, and is finite after it."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(learning, lr=1e-3).step()
    return all(
        parameter.grad is not None and bool(torch.isfinite(parameter.grad).all() and torch.isfinite(parameter).all())
        for parameter in learning
    )


def main(names: list[str]) -> None:
    """Print rows, and where no names are given, write the page."""
    rows = []
    for name in names or [f"timm:{name}" for name in NAMES]:
        rows.append(try_backbone(name).row())
        sys.stdout.write(rows[-1] + "\n")
        sys.stdout.flush()
    if not names:
        PAGE.write_text(HEAD.format(version=timm.__version__) + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
