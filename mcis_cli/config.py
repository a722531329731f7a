"""Settings of every stage, their presets, and the file `mcis.toml`.

Two kinds, two types: a `*Config` is frozen, validated, and hashed into the recipe of its stage; `RunOptions` (device,
workers, progress) never changes a result and is never hashed. Comments name the difference of the paper and its
released code by the numbers of docs/explanation/differences-from-the-paper.md.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcis_cli.errors import UsageError

Backbone = Literal["vgg16", "resnet50", "resnet101", "lite0"]
Precision = Literal["auto", "fp32", "bf16"]
Positive = Field(gt=0)
NonNegative = Field(ge=0)
Fraction = Field(ge=0, le=1)


class Config(BaseModel):
    """Base of all settings: frozen, strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Config):
    """Where the images, tags, masks and saliency maps are. Paths are relative to `root`."""

    root: str = "."
    layout: Literal["auto", "voc", "table", "folders"] = "auto"
    tags: str | None = None
    classes: tuple[str, ...] | None = None
    masks: str | None = None
    saliency: str | None = None
    train: str = "train"
    val: str = "val"


class TrainClsConfig(Config):
    """The co-attention classifier and its training (paper §3.1, §3.3)."""

    seed: int = Field(0, ge=0)
    backbone: Backbone = "vgg16"
    output_stride: Literal[8, 16] = 8
    loss: Literal["basic", "co-attention", "full"] = "full"
    heads: Literal["shared", "separate"] = "shared"  # 1
    affinity_init: Literal["uniform", "identity"] = "uniform"
    self_pairs: bool = False  # 3
    contrastive_from_epoch: int = Field(1, ge=1)  # 4
    contrastive_rule: Literal["always", "unshared"] = "always"  # 4
    loss_weighting: Literal["sum", "mean"] = "sum"  # 5
    image_size: int = Field(256, ge=32)
    mirror: bool = False
    color_jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.1)
    epochs: int = Field(15, ge=1)
    batch_pairs: int = Field(5, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_milestones: tuple[int, ...] = (6, 12)  # 6
    lr_gamma: float = Field(0.1, gt=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False  # 6
    weight_decay: float = Field(2e-4, ge=0)  # 6
    new_layer_lr: float = Field(1.0, gt=0)  # 6, factor on lr
    new_bias_lr: float = Field(1.0, gt=0)  # 6
    pretrained_bias_lr: float = Field(1.0, gt=0)  # 6
    frozen_stages: int = Field(0, ge=0)
    precision: Precision = "auto"


class CamsConfig(Config):
    """Localization maps, single-round and multi-round (paper §3.2)."""

    seed: int = Field(0, ge=0)
    refs: int = Field(3, ge=0)
    localization: Literal["references", "released"] = "references"  # 2
    reference_replacement: bool = False  # 7
    reference_self: bool = False  # 7
    with_contrastive: bool = False
    image_size: int | None = Field(None, ge=32)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    precision: Precision = "auto"


class CrfConfig(Config):
    """Dense CRF: mean-field steps, and the two pairwise terms (widths in pixels and grey levels)."""

    iterations: int = Field(10, ge=1)  # 9
    gaussian_xy: float = Field(3, gt=0)
    gaussian_weight: float = Field(1, ge=0)
    bilateral_xy: float = Field(80, gt=0)
    bilateral_rgb: float = Field(4, gt=0)
    bilateral_weight: float = Field(3, ge=0)


class PseudoConfig(Config):
    """From localization maps to pseudo masks. Every score and threshold is in [0, 1]."""

    background: Literal["saliency", "constant", "power"] = "saliency"
    normalization: Literal["minmax", "max"] = "minmax"
    foreground_threshold: float = Field(0.3, ge=0, le=1)
    conflict_threshold: float = Field(0.99, ge=0, le=1)
    salient_threshold: float = Field(32 / 255, ge=0, le=1)
    confident_threshold: float = Field(0.95, ge=0, le=1)
    min_foreground: float = Field(0.01, ge=0, le=1)
    background_score: float = Field(0.2, ge=0, le=1)
    background_power: float = Field(4.0, gt=0)
    allow_missing_saliency: bool = False
    crf: CrfConfig | None = None


class TrainSegConfig(Config):
    """DeepLab-LargeFOV on pseudo masks, or on ground truth (`supervision = "full"`, the upper bound)."""

    seed: int = Field(0, ge=0)
    supervision: Literal["pseudo", "full"] = "pseudo"
    network: Literal["deeplab-largefov"] = "deeplab-largefov"
    backbone: Backbone = "resnet101"
    output_stride: Literal[8, 16] = 8
    head_channels: int = Field(1024, ge=1)
    head_dilation: int = Field(12, ge=1)
    crop: int = Field(321, ge=32)
    scales: tuple[float, float] = (0.7, 1.3)
    mirror: bool = True
    iterations: int = Field(16_000, ge=1)
    epochs: int | None = Field(None, ge=1)  # where set, replaces iterations
    batch_size: int = Field(10, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_power: float = Field(0.9, ge=0)
    head_lr: float = Field(10.0, gt=0)  # factor on lr
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    loss_resolution: Literal["full", "network"] = "full"
    frozen_stages: int = Field(0, ge=0)
    precision: Precision = "auto"


class EvalConfig(Config):
    """Mean IoU of a network, of localization maps, or of pseudo masks."""

    split: str | None = None  # networks: the val split of [data]; maps and masks: every image they hold
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: int | None = Field(None, ge=32)
    crf: CrfConfig | None = None
    normalization: Literal["minmax", "max"] = "minmax"
    thresholds: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
    precision: Precision = "auto"


SECTIONS: Mapping[str, type[Config]] = {
    "data": DataConfig,
    "train-cls": TrainClsConfig,
    "cams": CamsConfig,
    "pseudo": PseudoConfig,
    "train-seg": TrainSegConfig,
    "eval": EvalConfig,
}
