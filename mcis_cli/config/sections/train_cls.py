"""The classifier."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from mcis_cli.config.sections.common import COUNT, FROZEN, ONE_BACKBONE, PRECISION, WEIGHTS, WEIGHTS_FILE
from mcis_cli.config.setting import Config, setting, unless, when
from mcis_cli.config.values import MAX_SEED, AffinityWeights, Backbone, ColorJitter, Epochs, Precision, SideRange

# Settings of terms that a loss may lack. Not `heads` and `affinity_init`, which always change the weights.
_PAIRS_COUNT = unless(loss="basic")
_CONTRAST_COUNTS = when(loss="full")


class TrainClsConfig(Config):
    """The co-attention classifier and its training (paper §3.1, §3.3)."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "sources": {
            "single-label": "with images of a single-label source",
            "none": "without images of a single-label source; give --single-label PATH",
        }
    }

    seed: int = setting(0, "for everything random in the stage", ge=0, le=MAX_SEED, flag=COUNT, changes_cost=False)
    backbone: Backbone = setting("vgg16", "network below the new layers", flag=ONE_BACKBONE)
    output_stride: Literal[8, 14, 16] = setting(8, "pixels of the image per position of the features")
    new_layers: int | None = setting(
        None,
        "3×3 convolutions of 512 channels between published layers and φ; else 3 on vgg16 and none on others [18]",
        ge=0,
        le=8,
        omitted_at=None,
    )
    loss: Literal["basic", "co-attention", "full"] = setting("full", "Eq. 1; Eq. 1 and 5; Eq. 1, 5 and 9", flag=True)
    heads: Literal["shared", "separate"] = setting("shared", "one φ for all features, or two [1]")
    new_layer_init: Literal["gaussian", "released"] = setting(
        "gaussian",
        "how heads and W_B start: deviation 0.01, or as in the released code [1]",
        omitted_at="gaussian",
        changes_cost=False,
    )
    mask_bias: bool = setting(True, "give W_B a bias [1]", omitted_at=True, changes_cost=False)
    affinity_init: Literal["uniform", "identity"] = setting(
        "uniform", "how W_P starts: at random, or as a similarity of features", changes_cost=False
    )
    affinity_weights: AffinityWeights | None = setting(
        None,
        "one W_P, or three; else three if there are single-label images",
        flag=True,
        used=when(sources="single-label"),
    )
    affinity_scale: float | None = setting(
        None,
        "factor on the affinity of unit-length features; unset: Eq. 2 as written [11]",
        gt=0,
        le=1e4,
        omitted_at=None,
    )
    affinity_lr: float = setting(
        1.0,
        "further factor for W_P, whose gradient grows with its channels",
        ge=0,
        used=_PAIRS_COUNT,
        changes_cost=False,
    )
    equivariant: bool = setting(
        False, "add SEAM's second, smaller view of each image, and maps refined by similarity (LID20)", flag=True
    )
    pairing: Literal["independent", "rings"] = setting(
        "independent", "draw each partner, or let an image serve two pairs"
    )
    self_pairs: bool = setting(
        False,
        "also pair an image with its mirror, 0.75× and 2× views [3]",
        used=_PAIRS_COUNT | when(self_pairs=True),  # these pairs have a basic loss too
    )
    contrastive_from_epoch: int = setting(
        1, "epoch from which the contrastive loss counts [4]", ge=1, used=_CONTRAST_COUNTS, changes_cost=False
    )
    contrastive_rule: Literal["always", "unshared"] = setting(
        "always",
        "whether the contrastive loss includes images without unshared labels [4]",
        used=_CONTRAST_COUNTS,
        changes_cost=False,
    )
    loss_weighting: Literal["sum", "mean"] = setting(
        "sum", "how the losses of m and n are combined [5]", changes_cost=False
    )
    image_size: int = setting(256, "side of the square that images are warped to, pixels", ge=32, le=2**14)
    long_side: SideRange | None = setting(
        None, "crop squares out of images whose long side is drawn from this range; else warp images"
    )
    mirror: bool = setting(False, "mirror half of the images", changes_cost=False)
    color_jitter: ColorJitter = setting(
        (0.3, 0.3, 0.3, 0.1), "strengths of brightness, contrast, saturation, hue", changes_cost=False
    )
    epochs: int = setting(
        15, "passes over the images, each once as first of a pair", ge=1, flag=COUNT, changes_cost=False
    )
    batch_pairs: int = setting(5, "pairs of a step, for each process", ge=1)
    processes: int = setting(1, "processes that train together; torchrun sets it", ge=1, omitted_at=1)
    lr: float = setting(1e-3, "learning rate", gt=0, changes_cost=False)
    lr_schedule: Literal["milestones", "poly"] = setting("milestones", "how lr falls", changes_cost=False)
    lr_power: float = setting(
        0.9,
        "lr falls with (1 − step / steps) to this power",
        ge=0,
        used=when(lr_schedule="poly"),
        changes_cost=False,
    )
    lr_milestones: Epochs = setting(
        (6, 12),
        "epochs after which lr is multiplied by lr_gamma [6]",
        used=when(lr_schedule="milestones"),
        changes_cost=False,
    )
    lr_gamma: float = setting(
        0.1, "see lr_milestones", gt=0, le=1, used=when(lr_schedule="milestones"), changes_cost=False
    )
    momentum: float = setting(0.9, "of SGD", ge=0, lt=1, changes_cost=False)
    nesterov: bool = setting(False, "Nesterov's momentum [6]", changes_cost=False)
    weight_decay: float = setting(2e-4, "L2 penalty, of biases too [6]", ge=0, changes_cost=False)
    new_layer_lr: float = setting(1.0, "factor on lr for the new layers' weights [6]", gt=0, changes_cost=False)
    new_bias_lr: float = setting(1.0, "factor on lr for their biases [6]", gt=0, changes_cost=False)
    pretrained_bias_lr: float = setting(1.0, "factor on lr for the backbone's biases [6]", gt=0, changes_cost=False)
    frozen_stages: int = setting(0, FROZEN, ge=0)
    keep_features: bool = setting(
        False,
        "if the backbone is fully frozen, compute its features once and keep them for all epochs",
        omitted_at=False,
    )
    keep_epochs: bool = setting(
        False, "keep the trained weights of each epoch, for accumulated maps [17]", omitted_at=False
    )
    precision: Precision = setting("auto", PRECISION, flag=True)
    weights: str | None = setting(None, WEIGHTS, flag=WEIGHTS_FILE, in_recipe="never")
