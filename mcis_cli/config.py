"""Settings of every stage, their presets, and the file `mcis.toml`.

Two kinds, two types: a `*Config` is frozen, validated, and hashed into the recipe of its stage; `RunOptions` (device,
workers, progress) never changes a result and is never hashed. Comments name the difference of the paper and its
released code by the numbers of docs/explanation/differences-from-the-paper.md.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mcis_cli.errors import UsageError

Backbone = Literal["vgg16", "resnet50", "resnet101", "lite0"]
Precision = Literal["auto", "fp32", "bf16"]
Preset = Literal["paper", "released", "quick"]
Scales = Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(min_length=1)]


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("numbers that ascend")
    return values


Thresholds = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    Field(min_length=1, max_length=255),  # levels between them are counted in one byte
    AfterValidator(_ascending),
]


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


class CrfConfig(Config):
    """Dense CRF: mean-field steps, and the two pairwise terms (widths in pixels and grey levels)."""

    iterations: int = Field(10, ge=1)  # 9
    gaussian_xy: float = Field(3, gt=0)
    gaussian_weight: float = Field(1, ge=0)
    bilateral_xy: float = Field(80, gt=0)
    bilateral_rgb: float = Field(4, gt=0)
    bilateral_weight: float = Field(3, ge=0)


class TrainClsConfig(Config):
    """The co-attention classifier and its training (paper §3.1, §3.3)."""

    seed: int = Field(0, ge=0)
    backbone: Backbone = "vgg16"
    output_stride: Literal[8, 16] = 8
    loss: Literal["basic", "co-attention", "full"] = "full"
    heads: Literal["shared", "separate"] = "shared"  # 1
    affinity_init: Literal["uniform", "identity"] = "uniform"
    affinity_features: Literal["plain", "unit"] = "plain"  # unit: of unit length at each position, ours
    affinity_lr: float = Field(1.0, ge=0)  # factor on lr for W_P, whose gradient grows with the number of channels
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
    weights: str | None = None  # a file of initial weights; its content is hashed, not its name


class CamsConfig(Config):
    """Localization maps, single-round and multi-round (paper §3.2)."""

    seed: int = Field(0, ge=0)
    refs: int = Field(3, ge=0)
    localization: Literal["references", "released"] = "references"  # 2
    reference_replacement: bool = False  # 7
    reference_self: bool = False  # 7
    with_contrastive: bool = False
    split: str | None = None  # what to map; else the split that the classifier was trained on
    image_size: int | None = Field(None, ge=32)  # else that of the training
    scales: Scales = (1.0,)
    flip: bool = False
    precision: Precision = "auto"


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
    crf: bool = False
    crf_confidence: float = Field(0.7, gt=0.5, lt=1)  # that a pixel's label is right, before the CRF
    crf_settings: CrfConfig = CrfConfig()


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
    weights: str | None = None


class EvalConfig(Config):
    """Mean IoU of a network, of localization maps, or of pseudo masks."""

    split: str | None = None  # networks: the val split of [data]; maps and masks: every image they hold
    scales: Scales = (1.0,)
    flip: bool = False
    window: int | None = Field(None, ge=32)  # longest side of one forward pass; larger images go in overlapping windows
    crf: bool = False
    crf_labels: Literal["all", "present"] = "all"  # the labels that are present alone: several times quicker
    crf_settings: CrfConfig = CrfConfig()
    normalization: Literal["minmax", "max"] = "minmax"
    thresholds: Thresholds = tuple(round(0.05 * step, 2) for step in range(1, 20))
    precision: Precision = "auto"


class Settings(Config):
    """Everything that `mcis.toml` may hold, a section for each stage."""

    data: DataConfig = DataConfig()
    train_cls: TrainClsConfig = Field(TrainClsConfig(), alias="train-cls")
    cams: CamsConfig = CamsConfig()
    pseudo: PseudoConfig = PseudoConfig()
    train_seg: TrainSegConfig = Field(TrainSegConfig(), alias="train-seg")
    eval: EvalConfig = EvalConfig()


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "paper": {},
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
            "new_layer_lr": 10.0,
            "new_bias_lr": 20.0,
            "pretrained_bias_lr": 2.0,
        },
        "cams": {"localization": "released", "reference_replacement": True, "reference_self": True},
        "eval": {"scales": (0.5, 0.75, 1.0, 1.25, 1.5), "flip": True, "crf_settings": {"iterations": 1}},
    },
    "quick": {
        "train-cls": {
            "backbone": "lite0",
            "output_stride": 16,
            "image_size": 224,
            "mirror": True,
            "epochs": 4,
            "batch_pairs": 8,
            "lr": 0.01,
            "lr_milestones": (3,),
            "frozen_stages": 3,
            "affinity_init": "identity",
            "affinity_features": "unit",
        },
        "cams": {"image_size": 320},
        "train-seg": {
            "backbone": "lite0",
            "output_stride": 16,
            "head_channels": 256,
            "head_dilation": 6,
            "crop": 257,
            "epochs": 6,
            "batch_size": 8,
            "lr": 5e-3,
            "loss_resolution": "network",
            "frozen_stages": 3,
        },
    },
}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, tables merged key by key; neither is modified."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        UsageError: the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name another file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}; `mcis init` writes one that is") from error


def parse_assignment(text: str) -> dict[str, Any]:
    """`section.field=value` of `--set` as nested tables; a value that is no TOML is taken as a string.

    Raises:
        UsageError: there is no `=`, or no section.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise UsageError(
            f"--set {text!r} is not understood: expected section.field=value, as in --set train-cls.lr=0.01"
        )
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return dict(parsed)


def resolve(tables: Mapping[str, Any], preset: Preset | None = None) -> Settings:
    """Settings from the tables of a file and of flags, over a preset.

    Args:
        tables: sections as in `mcis.toml`; its own `preset` is used where the argument is None.
        preset: `paper` where neither names one.

    Raises:
        UsageError: a name is unknown (with a suggestion), or a value is out of its range.
    """
    given = dict(tables)
    named = given.pop("preset", "paper")
    chosen = preset or named
    if chosen not in list(PRESETS):  # a file may hold anything there, lists too
        raise UsageError(f"preset {chosen!r} is not known: expected one of {', '.join(PRESETS)}; set it with --preset")
    try:
        return Settings.model_validate(merge(PRESETS[chosen], given))
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        reason = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        return f"{'.'.join(place)} = {first['input']!r} is not accepted: expected {reason}"
    known = _names(place[:-1])
    near = difflib.get_close_matches(place[-1].replace("-", "_"), known, n=1) or difflib.get_close_matches(
        place[-1], known, n=1
    )
    hint = f"did you mean {near[0]}?" if near else f"known there: {', '.join(known)}"
    return f"setting {'.'.join(place)} is not known; {hint}"


def _names(section: list[str]) -> list[str]:
    if not section:
        return ["preset", *(field.alias or name for name, field in Settings.model_fields.items())]
    model: type[BaseModel] = SECTIONS.get(section[0], CrfConfig)
    return list(CrfConfig.model_fields if section[1:] else model.model_fields)


SECTIONS: Mapping[str, type[Config]] = {
    "data": DataConfig,
    "train-cls": TrainClsConfig,
    "cams": CamsConfig,
    "pseudo": PseudoConfig,
    "train-seg": TrainSegConfig,
    "eval": EvalConfig,
}


class Reporter(Protocol):
    """Who hears of progress. Stages never print."""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A piece of work of `total` units begins, `done` of them found finished."""

    def advance(self, count: int = 1, **facts: float) -> None:
        """`count` more units are done; `facts` (loss terms, say) are worth showing."""

    def note(self, text: str) -> None:
        """Something that a reader should know."""

    def warn(self, text: str) -> None:
        """Something that a reader may have to act on."""


class Silent:
    """A reporter that says nothing."""

    def start(self, title: str, total: int, done: int = 0) -> None: ...
    def advance(self, count: int = 1, **facts: float) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a stage runs on this machine; never part of a recipe, never changes a result."""

    device: str = "auto"
    workers: int = os.cpu_count() or 1
    cache_mb: int = 2048
    checkpoint_seconds: float = 300.0
    preset: Preset | None = None
    reporter: Reporter = field(default_factory=Silent)
