"""Pseudo masks."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from mcis_cli.config.sections.common import CRF, ENLARGING, FACTORS, NORMALIZATION, ONE_NUMBER, PRECISION, CrfConfig
from mcis_cli.config.setting import Config, Flag, setting, unless, when
from mcis_cli.config.values import SUPERPIXELS, Enlarging, Factor, Normalization, Precision, RegionScales, Scales

# Masks are made of maps, of maps and a network (second round), or of a network alone.
_OF_MAPS = when(evidence=("maps", "maps and network"))
_OF_NETWORK = when(evidence=("maps and network", "network"))
_HARD_SALIENCY = _OF_MAPS & when(background="saliency", fusion="hard")
_SOFT_SALIENCY = _OF_MAPS & when(background="saliency", fusion="soft")


class SlicConfig(Config):
    """Superpixels by SLIC."""

    segments: int = setting(300, "about how many in an image", ge=1)
    compactness: float = setting(10.0, "weight of place beside colour", gt=0)


class FelzenszwalbConfig(Config):
    """Regions by Felzenszwalb and Huttenlocher."""

    scales: RegionScales = setting(
        (50.0, 200.0, 800.0), "larger values make larger regions; the regions of all scales vote together"
    )
    sigma: float = setting(0.8, "width of the smoothing before, pixels", ge=0)
    min_size: int = setting(20, "pixels of the smallest region", ge=1)


class PseudoConfig(Config):
    """Turn localization maps or network predictions into pseudo masks.

    Every score and threshold is in [0, 1].
    """

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "evidence": {
            "maps": "on masks of maps without --network",
            "maps and network": "on masks of maps",
            "network": "on masks of a network",
        }
    }

    background: Literal["saliency", "otsu", "constant", "power", "affinity"] = setting(
        "saliency", "what separates background from objects", flag=True, used=_OF_MAPS
    )
    normalization: Normalization = setting(
        "minmax", NORMALIZATION, used=_OF_MAPS & unless(background="affinity"), changes_cost=False
    )
    enlarging: Enlarging = setting(
        "bilinear",
        ENLARGING,
        used=_OF_MAPS & unless(background="affinity"),
        omitted_at="bilinear",
        changes_cost=False,
    )
    fusion: Literal["hard", "soft"] = setting(
        "hard",
        "the highest score wins; or scores become probabilities, from which a CRF starts [12]",
        flag=True,
        used=_OF_MAPS,
        omitted_at="hard",
    )
    foreground_threshold: float = setting(
        0.3,
        "class scores below it do not count",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_HARD_SALIENCY,
        changes_cost=False,
    )
    conflict_threshold: float = setting(
        0.99,
        "pixels with two scores above it are ignored",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_HARD_SALIENCY,
        changes_cost=False,
    )
    salient_threshold: float = setting(
        32 / 255,
        "background that is more salient than this is ignored",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_HARD_SALIENCY,
        changes_cost=False,
    )
    confident_threshold: float = setting(
        0.95,
        "background where a map is above it is ignored",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_HARD_SALIENCY,
        changes_cost=False,
    )
    min_foreground: float = setting(
        0.01,
        "images with a smaller share of foreground are ignored as a whole",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_HARD_SALIENCY,
        changes_cost=False,
    )
    background_score: float = setting(
        0.2,
        "score of background",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=(_OF_MAPS & when(background="constant")) | _SOFT_SALIENCY,
        changes_cost=False,
    )
    otsu_factor: float = setting(
        0.9,
        "background scores Otsu's threshold of the image's maps times this [21]",
        gt=0,
        le=2,
        flag=ONE_NUMBER,
        used=_OF_MAPS & when(background="otsu"),
        changes_cost=False,
    )
    background_power: float = setting(
        4.0,
        "background scores (1 − max over the maps) to this power",
        gt=0,
        flag=ONE_NUMBER,
        used=_OF_MAPS & when(background="power"),
        changes_cost=False,
    )
    background_threshold: float = setting(
        0.2,
        "classes with a smaller score after their walk are background",
        ge=0,
        le=1,
        flag=ONE_NUMBER,
        used=_OF_MAPS & when(background="affinity"),
        changes_cost=False,
    )
    sharpness: float = setting(
        8.0,
        "probabilities are the softmax of the scores times this",
        gt=0,
        le=1e4,
        used=_OF_MAPS & when(fusion="soft"),
        changes_cost=False,
    )
    saliency_weight: float = setting(
        0.75,
        "fall of the background score from saliency 0 to 1",
        ge=0,
        le=1e4,
        used=_SOFT_SALIENCY,
        changes_cost=False,
    )
    saliency_middle: float = setting(
        0.3, "saliency at which background neither gains nor loses", ge=0, le=1, used=_SOFT_SALIENCY, changes_cost=False
    )
    trusted_correlation: float = setting(
        0.0,
        "correlation of a class's maps with saliency for full trust in saliency; 0 trusts it always [14]",
        ge=0,
        le=1,
        used=_SOFT_SALIENCY,
        changes_cost=False,
    )
    class_weights: dict[str, Factor] = setting(
        {},
        "factors on the maps of some classes, beside background and other classes; as in { person = 1.2 } [22]",
        used=_OF_MAPS & when(fusion="soft"),
        omitted_at={},
        changes_cost=False,
    )
    regions: str | None = setting(
        None,
        "average scores in each region of the image: slic, felzenszwalb, or a folder of regions [19]",
        flag=Flag(metavar="slic|felzenszwalb|PATH", offers=SUPERPIXELS, path="folder or name"),
        omitted_at=None,
    )
    slic: SlicConfig = setting(SlicConfig(), "parameters of SLIC", used=when(regions="slic"))
    felzenszwalb: FelzenszwalbConfig = setting(
        FelzenszwalbConfig(),
        "parameters of the regions by Felzenszwalb and Huttenlocher",
        used=when(regions="felzenszwalb"),
    )
    allow_missing_saliency: bool = setting(
        False,
        "ignore images without a saliency map as a whole, instead of failing",
        flag=True,
        used=_OF_MAPS & when(background="saliency"),
        changes_cost=False,
    )
    crf: bool = setting(False, "refine the masks with a dense CRF over the labels that are present", flag=True)
    crf_confidence: float = setting(
        0.7,
        "probability that a pixel's label is right before the CRF",
        gt=0.5,
        lt=1,
        used=when(crf=True) & _OF_MAPS & when(fusion="hard"),
        changes_cost=False,
    )
    crf_settings: CrfConfig = setting(CrfConfig(), CRF, used=when(crf=True))
    min_confidence: float = setting(
        0.0,
        "pixels whose label is less probable are ignored",
        ge=0,
        lt=1,
        flag=ONE_NUMBER,
        used=(_OF_MAPS & when(fusion="soft")) | when(evidence="network"),
        changes_cost=False,
    )
    network_weight: float = setting(
        1.0,
        "power of the network's probabilities beside those of the maps [13]",
        gt=0,
        le=1e4,
        used=when(evidence="maps and network"),
        changes_cost=False,
    )
    scales: Scales = setting(
        (1.0,), "factors on the size; a network's probabilities are averaged over them", flag=FACTORS, used=_OF_NETWORK
    )
    flip: bool = setting(False, "average a network over the mirrored image too", flag=True, used=_OF_NETWORK)
    precision: Precision = setting("auto", PRECISION, flag=True, used=_OF_NETWORK)
