"""Presets: values that fit each other, under a name; settings that the user gives override them."""

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["paper", "released", "quick", "best", "lid20"]

# Of commands, files and `resolve` that name none: it runs on a fresh machine, without a download and on a CPU.
DEFAULT_PRESET: Preset = "best"

# The further networks of `quick` and `best`: small, and a few minutes for a thousand images on two CPU cores.
_SMALL_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "affinity": {
        "backbone": "lite0",
        "longest_side": 320,
        "crop": 224,
        "epochs": 4,
        "frozen_stages": 5,
        "object_power": 1.3,
        "background_power": 16.0,
        "walk_doublings": 4,
    },
    "train-seg": {
        "backbone": "lite0",
        "output_stride": 16,
        "head_channels": 256,
        "head_dilation": 6,
        "crop": 257,
        "epochs": 6,
        "batch_size": 8,
        "lr": 2e-3,
        "loss_resolution": "network",
        "frozen_stages": 3,
    },
}

# Where the paper says nothing, the preset `paper` uses the values of the authors' code.
_RELEASED_NEW_LAYERS: Mapping[str, Any] = {
    "new_layer_init": "released",
    "mask_bias": False,
    "new_layer_lr": 10.0,
    "new_bias_lr": 20.0,
    "pretrained_bias_lr": 2.0,
}
_RELEASED_SEGMENTATION: Mapping[str, Mapping[str, Any]] = {
    "pseudo": {"enlarging": "bicubic"},
    "train-seg": {
        "fully_connected": "imagenet",
        "head_bias": False,
        "head_init": "released",
        "align_corners": True,
        "scale_step": 0.1,
        "head_bias_lr": 20.0,
        "pretrained_bias_lr": 2.0,
    },
    "eval": {
        "enlarging": "bicubic",
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5),
        "flip": True,
        "window": 401,
        "pad": True,
        "resampling": "bicubic",
        "crf": True,
        "crf_settings": {"iterations": 1},
    },
}
_AFFINITY_MOMENTUM = 5e-4  # the published code passes the weight decay where SGD expects the momentum

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "paper": {
        "train-cls": _RELEASED_NEW_LAYERS,
        "affinity": {"momentum": _AFFINITY_MOMENTUM},
        **_RELEASED_SEGMENTATION,
    },
    "released": {
        "train-cls": {
            "heads": "separate",
            "self_pairs": True,
            "contrastive_from_epoch": 3,
            "contrastive_rule": "unshared",
            "loss_weighting": "mean",
            # 15 epochs are scheduled there, but maps are made from the weights after the 11th.
            "epochs": 11,
            "lr_milestones": (5, 10),
            "nesterov": True,
            "weight_decay": 5e-4,
            **_RELEASED_NEW_LAYERS,
        },
        "cams": {"localization": "released", "reference_replacement": True, "reference_self": True},
        "affinity": {"momentum": _AFFINITY_MOMENTUM},
        **_RELEASED_SEGMENTATION,
    },
    "quick": {
        "train-cls": {
            "backbone": "lite0",
            "output_stride": 16,
            "image_size": 224,
            "mirror": True,
            "epochs": 4,
            "batch_pairs": 8,
            "lr": 5e-3,
            "lr_milestones": (3,),
            "frozen_stages": 3,
            "affinity_init": "identity",
            "affinity_lr": 0.01,
        },
        "cams": {"image_size": 320},
        **_SMALL_NETWORKS,
    },
    # The best masks in docs/explanation/results.md, on a CPU: published features, compared by their direction alone.
    "best": {
        "train-cls": {
            "backbone": "lite0",
            "output_stride": 16,
            "loss": "basic",
            "image_size": 320,
            "mirror": True,
            "color_jitter": (0.0, 0.0, 0.0, 0.0),
            "epochs": 3,
            "batch_pairs": 8,
            "lr": 0.2,
            "lr_milestones": (2,),
            "frozen_stages": 5,
            "affinity_init": "identity",
            "affinity_scale": 45.0,
            "affinity_lr": 0.01,
        },
        "cams": {"image_size": 448, "refs": 10, "reference_choice": "nearest", "refs_without": 10},
        "pseudo": {
            "fusion": "soft",
            "normalization": "max",
            "background_score": 0.35,
            "background_threshold": 0.35,
            "saliency_weight": 1.0,
            "trusted_correlation": 0.6,
            "scales": (0.75, 1.0, 1.25, 1.5),
            "flip": True,
            "crf": True,
            "crf_settings": {
                "gaussian_weight": 3.0,
                "bilateral_xy": 50.0,
                "bilateral_rgb": 5.0,
                "bilateral_weight": 10.0,
            },
        },
        **_SMALL_NETWORKS,
        "eval": {"normalization": "max"},
    },
    # The setting of the LID challenge (§4.4), for which the paper only names SEAM; with SEAM's values.
    "lid20": {
        "train-cls": {
            "backbone": "resnet38",
            "equivariant": True,
            "affinity_init": "identity",
            "affinity_lr": 0.01,
            "image_size": 448,
            "long_side": (448, 768),
            "mirror": True,
            "batch_pairs": 4,
            "lr": 5e-3,
            "lr_schedule": "poly",
            "weight_decay": 5e-4,
            "new_layer_lr": 10.0,
            "new_bias_lr": 20.0,
            "pretrained_bias_lr": 2.0,
            "frozen_stages": 2,
        },
        "cams": {"refs": 0, "refine": True, "scales": (1.0, 0.5, 1.5, 2.0), "flip": True},
        "affinity": {"backbone": "resnet38", "frozen_stages": 2, "momentum": _AFFINITY_MOMENTUM},
        "pseudo": {"background": "affinity", "background_threshold": 0.2},
        # Four cards in the paper: twelve crops for each. Values on which it is silent (crop, scales, stride) are
        # torchvision's.
        "train-seg": {
            "network": "deeplabv3",
            "backbone": "resnet101",
            "output_stride": 16,
            "head_dilation": 6,
            "crop": 513,
            "scales": (0.5, 2.0),
            "epochs": 100,
            "batch_size": 48,
            "lr": 7e-3,
            "head_lr": 1.0,
            "weight_decay": 1e-4,
        },
        "eval": {"scales": (0.5, 0.75, 1.0, 1.25, 1.5), "flip": True, "crf": True},
    },
}
