"""The segmentation network."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from mcis_cli.config.sections.common import COUNT, FROZEN, ONE_BACKBONE, PRECISION, WEIGHTS, WEIGHTS_FILE
from mcis_cli.config.setting import Config, Flag, setting, unless, when
from mcis_cli.config.values import MAX_SEED, Backbone, Precision, ScaleRange

_LARGE_FOV = when(network="deeplab-largefov")


class TrainSegConfig(Config):
    """DeepLab on pseudo masks, or on ground truth (`supervision = "full"`, the upper bound)."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "masks": {"corrected": "on masks with corrections", "made": "on masks without corrections"}
    }

    seed: int = setting(0, "for everything random in the stage", ge=0, le=MAX_SEED, flag=COUNT, changes_cost=False)
    supervision: Literal["pseudo", "full"] = setting(
        "pseudo", "pseudo masks, or ground truth: the upper bound", flag=True, changes_cost=False
    )
    corrected_weight: int = setting(
        1,
        "times that a pass over the images takes each one with a corrected mask",
        ge=1,
        le=100,
        flag=COUNT,
        used=when(supervision="pseudo", masks="corrected"),
        omitted_at=1,
        changes_cost=False,
    )
    network: Literal["deeplab-largefov", "deeplabv3"] = setting(
        "deeplab-largefov",
        "architecture: a head of one wide layer (deeplab-largefov), or ASPP (deeplabv3)",
        flag=Flag(name="architecture"),
    )
    backbone: Backbone = setting("resnet101", "network below the head", flag=ONE_BACKBONE)
    output_stride: Literal[8, 14, 16] = setting(8, "pixels of the image per position of the features")
    head_channels: int = setting(1024, "channels of the two layers before the scores", ge=1, used=_LARGE_FOV)
    head_bias: bool = setting(
        True,
        "give the two layers before the scores a bias [15]",
        used=_LARGE_FOV & (unless(fully_connected="imagenet") | unless(backbone="vgg16")),
        omitted_at=True,
        changes_cost=False,
    )
    head_init: Literal["gaussian", "released"] = setting(
        "gaussian",
        "how the head's layers start [15]",
        used=_LARGE_FOV,
        omitted_at="gaussian",
        changes_cost=False,
    )
    fully_connected: Literal["new", "imagenet"] = setting(
        "new",
        "on vgg16: new layers before the scores, or ImageNet's fully connected ones with their pools and dropout [15]",
        used=_LARGE_FOV & when(backbone="vgg16"),
        omitted_at="new",
    )
    align_corners: bool = setting(False, "enlarge scores with aligned corners, as Caffe does [15]", omitted_at=False)
    head_dilation: int = setting(
        12, "dilation of the 3×3 convolution; of deeplabv3's first, the others have twice and three times it", ge=1
    )
    crop: int = setting(321, "side of the square that is cropped, pixels", ge=32, le=2**14)
    scales: ScaleRange = setting(
        (0.7, 1.3), "smallest and largest factor on the size, drawn uniformly", changes_cost=False
    )
    scale_step: float | None = setting(
        None,
        "step between the possible factors, from the smallest to the largest; else any factor [15]",
        gt=0,
        omitted_at=None,
        changes_cost=False,
    )
    mirror: bool = setting(True, "mirror half of the images", changes_cost=False)
    iterations: int = setting(16_000, "steps", ge=1, used=when(epochs=None), changes_cost=False)
    epochs: int | None = setting(
        None, "passes over the images; replaces iterations", ge=1, flag=COUNT, changes_cost=False
    )
    batch_size: int = setting(10, "crops of a step, for each process", ge=1)
    processes: int = setting(1, "processes that train together; torchrun sets it", ge=1, omitted_at=1)
    lr: float = setting(1e-3, "learning rate", gt=0, changes_cost=False)
    lr_power: float = setting(0.9, "lr falls with (1 − step / steps) to this power", ge=0, changes_cost=False)
    head_lr: float = setting(10.0, "factor on lr for the head", gt=0, changes_cost=False)
    head_bias_lr: float | None = setting(
        None, "factor on lr for the head's biases; else head_lr [15]", gt=0, omitted_at=None, changes_cost=False
    )
    pretrained_bias_lr: float = setting(
        1.0, "factor on lr for pretrained biases [15]", gt=0, omitted_at=1.0, changes_cost=False
    )
    momentum: float = setting(0.9, "of SGD", ge=0, lt=1, changes_cost=False)
    weight_decay: float = setting(5e-4, "L2 penalty, of biases too", ge=0, changes_cost=False)
    loss_resolution: Literal["full", "network"] = setting("full", "enlarge scores, or reduce masks")
    frozen_stages: int = setting(0, FROZEN, ge=0)
    precision: Precision = setting("auto", PRECISION, flag=True)
    weights: str | None = setting(None, WEIGHTS, flag=WEIGHTS_FILE, in_recipe="never")
