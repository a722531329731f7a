"""Affinities and the random walk of maps."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from mcis_cli.config.sections.common import (
    COUNT,
    FROZEN,
    NORMALIZATION,
    ONE_BACKBONE,
    PRECISION,
    WEIGHTS,
    WEIGHTS_FILE,
    SureCrfConfig,
)
from mcis_cli.config.setting import Config, setting, when
from mcis_cli.config.values import MAX_SEED, Backbone, ColorJitter, Normalization, Precision

# Three stages share this section.
_OF_REGIONS = when(part="regions")
_OF_TRAINING = when(part="training")
_OF_WALK = when(part="walk")


class AffinityConfig(Config):
    """AffinityNet on confident regions of localization maps, and the random walk of the maps (paper §4.4)."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "part": {
            "regions": "on confident regions",
            "training": "on the training",
            "walk": "with --network: nothing is trained",
        }
    }

    seed: int = setting(
        0,
        "for everything random in the training",
        ge=0,
        le=MAX_SEED,
        flag=COUNT,
        used=_OF_TRAINING,
        changes_cost=False,
    )
    longest_side: int = setting(
        512, "images with a longer side are shrunk to it, pixels", ge=32, le=2**14, used=_OF_REGIONS | _OF_WALK
    )
    normalization: Normalization = setting("max", NORMALIZATION, used=_OF_REGIONS | _OF_WALK, changes_cost=False)
    object_power: float = setting(
        4.0,
        "confident objects: stronger than background (1 − max over the maps) to this power",
        gt=0,
        used=_OF_REGIONS,
        changes_cost=False,
    )
    background_power: float = setting(
        32.0,
        "confident background: stronger than all objects with this power",
        gt=0,
        used=_OF_REGIONS,
        changes_cost=False,
    )
    crf_settings: SureCrfConfig = setting(SureCrfConfig(), "parameters of the dense CRF of both", used=_OF_REGIONS)
    backbone: Backbone = setting("vgg16", "network below the new layers", flag=ONE_BACKBONE, used=_OF_TRAINING)
    output_stride: Literal[8, 14, 16] = setting(8, "pixels of the image per position of the walk", used=_OF_TRAINING)
    crop: int = setting(448, "side of the square that is cropped, pixels", ge=32, le=2**14, used=_OF_TRAINING)
    mirror: bool = setting(True, "mirror half of the images", used=_OF_TRAINING, changes_cost=False)
    color_jitter: ColorJitter = setting(
        (0.3, 0.3, 0.3, 0.1),
        "strengths of brightness, contrast, saturation, hue",
        used=_OF_TRAINING,
        changes_cost=False,
    )
    radius: int = setting(5, "positions nearer than this are pairs", ge=2, used=_OF_TRAINING)
    epochs: int = setting(8, "passes over the images", ge=1, flag=COUNT, used=_OF_TRAINING, changes_cost=False)
    batch_size: int = setting(8, "crops of a step", ge=1, used=_OF_TRAINING)
    lr: float = setting(0.1, "learning rate", gt=0, used=_OF_TRAINING, changes_cost=False)
    lr_power: float = setting(
        0.9, "lr falls with (1 − step / steps) to this power", ge=0, used=_OF_TRAINING, changes_cost=False
    )
    new_layer_lr: float = setting(10.0, "factor on lr for the new layers", gt=0, used=_OF_TRAINING, changes_cost=False)
    momentum: float = setting(0.9, "of SGD", ge=0, lt=1, used=_OF_TRAINING, changes_cost=False)
    weight_decay: float = setting(5e-4, "L2 penalty", ge=0, used=_OF_TRAINING, changes_cost=False)
    frozen_stages: int = setting(0, FROZEN, ge=0, used=_OF_TRAINING)
    precision: Precision = setting("auto", PRECISION, flag=True, used=_OF_TRAINING | _OF_WALK)
    weights: str | None = setting(None, WEIGHTS, flag=WEIGHTS_FILE, used=_OF_TRAINING, in_recipe="never")
    walk_power: float = setting(
        8.0, "power of the affinities that the walk follows", gt=0, used=_OF_WALK, changes_cost=False
    )
    walk_doublings: int = setting(8, "the number of steps of the walk is 2 to this power", ge=0, le=16, used=_OF_WALK)
