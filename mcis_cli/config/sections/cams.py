"""Localization maps."""

from typing import Literal

from mcis_cli.config.sections.common import COUNT, FACTORS, ONE_SPLIT, PRECISION
from mcis_cli.config.setting import Config, Flag, setting, unless, when
from mcis_cli.config.values import MAX_SEED, Domains, Precision, Scales

_WITH_REFERENCES = unless(refs=0) & unless(localization="accumulated")
_DRAWN_REFERENCES = _WITH_REFERENCES & when(reference_choice="random")
_NEAREST_REFERENCES = _WITH_REFERENCES & when(reference_choice="nearest")
_NOT_RELEASED = unless(localization="released")


class CamsConfig(Config):
    """Localization maps, single-round and multi-round (paper §3.2)."""

    seed: int = setting(
        0,
        "for drawing references",
        ge=0,
        le=MAX_SEED,
        flag=COUNT,
        used=_DRAWN_REFERENCES,
        changes_cost=False,
    )
    refs: int = setting(
        3,
        "references for each map and class; 0 is single-round; several numbers share one pass and give maps each",
        ge=0,
        flag=Flag(metavar="N[,N…]", several=True),
        used=unless(localization="accumulated"),
    )
    localization: Literal["references", "released", "accumulated"] = setting(
        "references",
        "mean over references, the released code's five maps [2], or OAA's maps accumulated over the epochs [17]",
    )
    reference_choice: Literal["random", "nearest"] = setting(
        "random",
        "draw references, or take those of the class that are most similar to the image [10]",
        flag=True,
        used=_WITH_REFERENCES,
        omitted_at="random",
    )
    refs_without: int = setting(
        0,
        "further references: the most similar images without the class, whose evidence for it is subtracted [20]",
        ge=0,
        flag=COUNT,
        used=_NEAREST_REFERENCES,
        omitted_at=0,
    )
    weight_without: float = setting(
        0.5,
        "weight of what is subtracted",
        gt=0,
        le=1e4,
        used=_NEAREST_REFERENCES & unless(refs_without=0),
        changes_cost=False,
    )
    reference_replacement: bool = setting(
        False, "draw references with replacement [7]", used=_DRAWN_REFERENCES, changes_cost=False
    )
    reference_self: bool = setting(
        False, "an image may draw itself as its reference [7]", used=_DRAWN_REFERENCES, changes_cost=False
    )
    refine: bool = setting(
        False,
        "let similar positions share their scores; needs an equivariant classifier",
        used=when(localization="references"),
        in_recipe="always",
    )
    with_contrastive: bool = setting(
        False,
        "average contrastive maps in (Table 2)",
        flag=Flag(off="no-contrastive"),
        used=_WITH_REFERENCES,
    )
    split: str | None = setting(
        None, "split to make maps of; else the one that the classifier was trained on", flag=ONE_SPLIT
    )
    domains: Domains = setting(
        ("target",),
        "what to map of a set with sources; images of sources are in every split",
        flag=Flag(metavar="NAME[,NAME…]"),
        omitted_at=["target"],
    )
    reference_domains: Domains = setting(
        ("target",),
        "where references are taken from",
        flag=Flag(metavar="NAME[,NAME…]"),
        used=_WITH_REFERENCES,
        omitted_at=["target"],
    )
    image_size: int | None = setting(
        None, "side of the square that images are warped to; else that of the training", ge=32, le=2**14, flag=COUNT
    )
    scales: Scales = setting(
        (1.0,),
        "factors on image_size; maps are averaged over them, on the grid of the first",
        flag=FACTORS,
        used=_NOT_RELEASED,
        in_recipe="always",
    )
    flip: bool = setting(
        False, "average over the mirrored image too", flag=True, used=_NOT_RELEASED, in_recipe="always"
    )
    precision: Precision = setting("auto", PRECISION, flag=True)
