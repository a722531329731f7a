"""Scores."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from mcis_cli.config.sections.common import (
    COUNT,
    CRF,
    ENLARGING,
    FACTORS,
    NORMALIZATION,
    ONE_SPLIT,
    PRECISION,
    CrfConfig,
)
from mcis_cli.config.setting import Config, setting, unless, when
from mcis_cli.config.values import Enlarging, Normalization, Precision, Scales, Thresholds

_OF_PREDICTIONS = when(subject="network")


class EvalConfig(Config):
    """Mean IoU of a network, of localization maps, or of pseudo masks."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "subject": {
            "network": "on scores of a network",
            "maps": "on scores of localization maps",
            "walked maps": "on scores of maps after their walk",
            "pseudo masks": "on scores of pseudo masks",
        }
    }

    split: str | None = setting(
        None,
        "images to score; else the val split of [data] for networks, and every image of maps and masks",
        flag=ONE_SPLIT,
        changes_cost=False,
    )
    scales: Scales = setting(
        (1.0,), "factors on the size; probabilities are averaged over them", flag=FACTORS, used=_OF_PREDICTIONS
    )
    flip: bool = setting(False, "average over the mirrored image too", flag=True, used=_OF_PREDICTIONS)
    window: int | None = setting(
        1024,
        "longest side of one forward pass; larger images are cut into overlapping windows",
        ge=32,
        flag=COUNT,
        used=_OF_PREDICTIONS,
    )
    pad: bool = setting(
        False,
        "extend smaller images to one window, with the mean colour [15]",
        used=_OF_PREDICTIONS & unless(window=None),
        omitted_at=False,
    )
    resampling: Enlarging = setting(
        "bilinear",
        "how images are resized for the network, and probabilities back [15]",
        used=_OF_PREDICTIONS,
        omitted_at="bilinear",
    )
    crf: bool = setting(False, "refine a network's predictions with a dense CRF", flag=True, used=_OF_PREDICTIONS)
    crf_labels: Literal["all", "present"] = setting(
        "all",
        "labels that the CRF considers; only the present ones is several times faster",
        used=when(crf=True) & _OF_PREDICTIONS,
    )
    crf_settings: CrfConfig = setting(CrfConfig(), CRF, used=when(crf=True) & _OF_PREDICTIONS)
    normalization: Normalization = setting("minmax", NORMALIZATION, used=when(subject="maps"), changes_cost=False)
    enlarging: Enlarging = setting(
        "bilinear", ENLARGING, used=when(subject="maps"), omitted_at="bilinear", changes_cost=False
    )
    thresholds: Thresholds = setting(
        tuple(round(0.05 * step, 2) for step in range(1, 20)),
        "background thresholds of maps; the best counts",
        used=when(subject=("maps", "walked maps")),
        changes_cost=False,
    )
    precision: Precision = setting("auto", PRECISION, flag=True, used=_OF_PREDICTIONS)
