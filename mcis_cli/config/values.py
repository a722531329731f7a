"""Types of settings beside plain numbers and words."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

BACKBONES = ("vgg16", "resnet50", "resnet101", "resnet38", "lite0", "lite2")
SUPERPIXELS = ("slic", "felzenszwalb")  # regions that scikit-image finds; others are brought along
Precision = Literal["auto", "fp32", "bf16"]
AffinityWeights = Literal["shared", "per-domain-pair"]
Domain = Literal["target", "single-label", "web"]
Normalization = Literal["minmax", "max"]
Enlarging = Literal["bilinear", "bicubic"]
MAX_SEED = 2**63 - 1


def _backbone(name: str) -> str:
    if name not in BACKBONES and not re.fullmatch(r"timm:[A-Za-z0-9_]{1,60}(\.[A-Za-z0-9_]{1,60})?", name):
        fitting = f"; did you mean timm:{name}?" if re.fullmatch(r"[A-Za-z0-9_.]{1,100}", name) else ""
        raise ValueError(f"{', '.join(BACKBONES)}, or timm:NAME with a name that timm lists{fitting}")
    return name


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("numbers that ascend")
    return values


def _smallest_first(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the smaller number first, then the larger")
    return values


def _in_order(domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
    return tuple(sorted(set(domains), key=get_args(Domain).index))


# TOML has lists, not tuples: strict=False accepts them, and does not relax the check of their members.
Backbone = Annotated[str, AfterValidator(_backbone)]
Strength = Annotated[float, Field(ge=0)]
ColorJitter = Annotated[tuple[Strength, Strength, Strength, Strength], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
Domains = Annotated[tuple[Domain, ...], Field(min_length=1, strict=False), AfterValidator(_in_order)]
Factor = Annotated[float, Field(gt=0, le=8)]
Scales = Annotated[tuple[Factor, ...], Field(min_length=1, strict=False)]
RegionScales = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, strict=False)]
Side = Annotated[int, Field(ge=32, le=2**14)]
SideRange = Annotated[tuple[Side, Side], Field(strict=False), AfterValidator(_smallest_first)]
ScaleRange = Annotated[tuple[Factor, Factor], Field(strict=False), AfterValidator(_smallest_first)]
Thresholds = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    Field(min_length=1, max_length=255, strict=False),  # levels between them are counted in one byte
    AfterValidator(_ascending),
]
