"""The recipe of every stage: what its result depends on, and nothing else.

Pure functions, free of torch, so that `mcis status` can say at once what is done and what is not. Raise the number of a
stage by hand when its results change for the same settings. The name of the split that was asked for is part of a
recipe, since results say which split they are of: two lists of equal images are two recipes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from mcis_cli.config import (
    AffinityConfig,
    AffinityWeights,
    CamsConfig,
    Config,
    Domain,
    EvalConfig,
    PseudoConfig,
    TrainClsConfig,
    TrainSegConfig,
)
from mcis_cli.data.catalogue import DOMAINS, TARGET, Catalogue
from mcis_cli.store import Artifact, Recipe, Store

Settled = TypeVar("Settled", bound=Config)

VERSIONS: Mapping[str, int] = {
    "dataset": 1,
    "train-cls": 3,
    "cams": 2,
    "affinity-labels": 1,
    "affinity-net": 2,
    "affinity": 1,
    "pseudo": 3,
    "train-seg": 2,
    "eval": 2,
}

IMPORT_VERSION = 1
SALIENCY_VERSION = 1

_OF_MAPS = ("normalization", "thresholds")
_OF_NETWORKS = ("scales", "flip", "window", "crf", "crf_labels", "crf_settings", "precision")
UNUSED_BY_EVAL: Mapping[str, tuple[str, ...]] = {
    "train-seg": _OF_MAPS,
    "cams": _OF_NETWORKS,
    "affinity": (*_OF_NETWORKS, "normalization"),
    "pseudo": (*_OF_MAPS, *_OF_NETWORKS),
}


_OF_PREDICTIONS = ("scales", "flip", "precision")
OF_NETWORKS_MASKS = ("min_confidence", *_OF_PREDICTIONS)

_OF_BACKGROUNDS: Mapping[str, frozenset[str]] = {
    "constant": frozenset({"normalization", "background_score"}),
    "power": frozenset({"normalization", "background_power"}),
    "affinity": frozenset({"background_threshold"}),  # walked maps keep their scale
    "saliency": frozenset({"normalization", "allow_missing_saliency"}),
}
_OF_FUSIONS: Mapping[str, frozenset[str]] = {
    "hard": frozenset({"crf_confidence"}),
    "soft": frozenset({"sharpness", "min_confidence"}),
}
_OF_SALIENCY: Mapping[str, frozenset[str]] = {
    "hard": frozenset(
        {"foreground_threshold", "conflict_threshold", "salient_threshold", "confident_threshold", "min_foreground"}
    ),
    "soft": frozenset({"background_score", "saliency_weight", "saliency_middle", "trusted_correlation"}),
}
OF_SECOND_ROUND = frozenset({"network_weight", *_OF_PREDICTIONS})
_OF_SOME_MASKS = OF_SECOND_ROUND.union(*_OF_BACKGROUNDS.values(), *_OF_FUSIONS.values(), *_OF_SALIENCY.values())

# What each of the three stages of `mcis affinity` looks at; the rest of its section is for the network's training.
_OF_SURE_REGIONS = ("longest_side", "normalization", "object_power", "background_power", "crf_settings")
_OF_WALK = ("longest_side", "normalization", "walk_power", "walk_doublings")
USED_BY_WALK = (*_OF_WALK, "precision")

UNUSED_WITHOUT_REFERENCES = (
    "seed",
    "reference_choice",
    "reference_domains",
    "reference_replacement",
    "reference_self",
    "with_contrastive",
)
UNUSED_BY_CHOICE: Mapping[str, tuple[str, ...]] = {  # what is not drawn takes no seed, and says nothing of how to draw
    "random": (),
    "nearest": ("seed", "reference_replacement", "reference_self"),
}

# What a loss has no term for. Not `heads` and `affinity_init`: they change the weights that are kept, used or not.
_OF_CONTRAST = ("contrastive_from_epoch", "contrastive_rule")
UNUSED_BY_LOSS: Mapping[str, tuple[str, ...]] = {
    "basic": ("affinity_lr", "self_pairs", *_OF_CONTRAST),
    "co-attention": _OF_CONTRAST,
    "full": (),
}
UNUSED_BY_SCHEDULE: Mapping[str, tuple[str, ...]] = {
    "milestones": ("lr_power",),
    "poly": ("lr_milestones", "lr_gamma"),
}


# What a recipe means that says nothing of a setting.
UNSAID: Mapping[str, Any] = {
    "processes": 1,
    "domains": ["target"],
    "reference_domains": ["target"],
    "reference_choice": "random",
    "affinity_scale": None,
    "fusion": "hard",
}


def unsaid(recipe: Recipe) -> dict[str, Any]:
    """What a recipe means by settings that it may leave out, without those that have no effect on what it makes."""
    idle = UNUSED_WITHOUT_REFERENCES if recipe.stage == "cams" and recipe.config.get("refs") == 0 else ()
    return {name: value for name, value in UNSAID.items() if name not in idle}


class Described(Protocol):
    """An artifact, or one that is not made yet: what its meta says."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What later stages read of it."""


def dataset(catalogue: Catalogue) -> Recipe:
    """The list of an image set: a function of what lies in its folder."""
    return _recipe("dataset", {}, {"files": catalogue.id})


def train_cls(config: TrainClsConfig, images: Catalogue, weights: str) -> Recipe:
    """The classifier: images and tags of the training split and of the sources, and the initial weights."""
    unused = (*UNUSED_BY_LOSS[config.loss], *UNUSED_BY_SCHEDULE[config.lr_schedule])
    settings = _settings(config, "weights", "affinity_weights", *unused)
    if "single-label" in images.domains:
        settings["affinity_weights"] = affinity_weights(config, images)
    settings["split"] = images.split_name
    return _recipe("train-cls", settings, {"images": images.digest("images", "labels"), "weights": weights})


def affinity_weights(config: TrainClsConfig, images: Catalogue) -> AffinityWeights:
    """One W_P or three: three where there are single-label images, if nothing else is asked for; one without them."""
    return (config.affinity_weights or "per-domain-pair") if "single-label" in images.domains else "shared"


def cams(config: CamsConfig, classifier: str, mapped: Catalogue, references: Catalogue) -> Recipe:
    """The maps: a classifier, the images to map, and those that references are drawn from."""
    inputs = {"classifier": classifier, "images": mapped.digest("images", "labels")}
    if config.refs:
        inputs["references"] = references.digest("images", "labels")
    return _recipe("cams", {**_settings(config, *unused_by_cams(config)), "split": mapped.split_name}, inputs)


def unused_by_cams(config: CamsConfig) -> tuple[str, ...]:
    """The settings that maps with so many references, chosen so, do not depend on."""
    return UNUSED_BY_CHOICE[config.reference_choice] if config.refs else UNUSED_WITHOUT_REFERENCES


def learnt(catalogue: Catalogue, split: str) -> Catalogue:
    """The images that a classifier learns from: those of the split, and all of the sources."""
    return catalogue.split(split, DOMAINS)


def domains_of(recipe: Recipe, role: str) -> Collection[Domain]:
    """The domains of the images that a recipe reads in some role, beside the splits of the target."""
    if recipe.stage in ("dataset", "train-cls"):
        return DOMAINS
    named = {"images": "domains", "references": "reference_domains"}.get(role, "")
    return tuple(recipe.config.get(named, TARGET)) if recipe.stage == "cams" else TARGET


def cams_images(config: CamsConfig, catalogue: Catalogue, classifier: Described) -> tuple[Catalogue, Catalogue]:
    """The images to map, and those that references are drawn from."""
    trained_on = classifier.meta["split"]
    mapped = catalogue.split(config.split or trained_on, config.domains)
    return mapped, catalogue.split(trained_on, config.reference_domains)


def settled_cams(config: CamsConfig, classifier: Described) -> CamsConfig:
    """The settings with what they leave to the classifier filled in."""
    return config.model_copy(update={"image_size": config.image_size or classifier.meta["image_size"]})


def affinity_labels(config: AffinityConfig, maps: str, images: Catalogue) -> Recipe:
    """The confident regions of maps: labels of positions, for the network of affinities to learn from."""
    settings = config.model_dump(mode="json", include=set(_OF_SURE_REGIONS))
    return _recipe("affinity-labels", settings, {"maps": maps, "images": images.digest("images")})


def affinity_net(config: AffinityConfig, labels: str, images: Catalogue, weights: str) -> Recipe:
    """The network of affinities: images, their labels, and the initial weights."""
    settings = _settings(config, *_OF_SURE_REGIONS, *_OF_WALK, "weights")
    return _recipe("affinity-net", settings, {"labels": labels, "images": images.digest("images"), "weights": weights})


def affinity(config: AffinityConfig, maps: str, network: str, images: Catalogue) -> Recipe:
    """The maps after their random walk: by the affinities that the network finds in the images."""
    settings = config.model_dump(mode="json", include=set(USED_BY_WALK))
    return _recipe("affinity", settings, {"maps": maps, "network": network, "images": images.digest("images")})


def pseudo(
    config: PseudoConfig, maps: str, images: Catalogue, saliency: str | None = None, network: str | None = None
) -> Recipe:
    """The pseudo masks: maps, the images' sizes (and pixels, for a CRF or a network), and saliency and a segmentation
    network where they are used."""
    inputs = {"maps": maps, "images": images.digest("images")}
    if config.background == "saliency":
        inputs["saliency"] = saliency or images.digest("saliency")
    if network is not None:
        inputs["network"] = network
    without_effect = (*unused_by_pseudo(config, network is not None), *unused_by_crf(config.crf))
    return _recipe("pseudo", _settings(config, *without_effect), inputs)


def unused_by_pseudo(config: PseudoConfig, has_network: bool = False) -> frozenset[str]:
    """The settings that masks of maps do not use, with their background and fusion, and a network or none."""
    used = _OF_BACKGROUNDS[config.background] | _OF_FUSIONS[config.fusion]
    used |= OF_SECOND_ROUND if has_network else frozenset()
    return _OF_SOME_MASKS - used - (_OF_SALIENCY[config.fusion] if config.background == "saliency" else frozenset())


def second_round(config: PseudoConfig, network: str, images: Catalogue) -> Recipe:
    """Pseudo masks of a second round without maps: a segmentation network, the images it looks at, and their tags."""
    used = {*OF_NETWORKS_MASKS, "crf", *(("crf_settings",) if config.crf else ())}
    settings = {**config.model_dump(mode="json", include=used), "split": images.split_name}
    return _recipe("pseudo", settings, {"network": network, "images": images.digest("images", "labels")})


def imported(stage: str, what: Mapping[str, Any], **inputs: str) -> Recipe:
    """What was imported: what it was taken for, and the digests of its files and of what they were read for."""
    return Recipe(stage=stage, version=IMPORT_VERSION, config={"imported": True, **what}, inputs=inputs)


def saliency(model: str, images: Catalogue) -> Recipe:
    """Saliency maps: the digest of the model's file, and the images. What else they depend on is in the version."""
    return Recipe("saliency", SALIENCY_VERSION, {}, {"model": model, "images": images.digest("images")})


UNUSED_BY_NETWORK: Mapping[str, tuple[str, ...]] = {"deeplab-largefov": (), "deeplabv3": ("head_channels",)}


def train_seg(config: TrainSegConfig, masks: str, images: Catalogue, weights: str) -> Recipe:
    """The segmentation network: images, their masks (an artifact's id, or the digest of the ground truth), weights."""
    inputs = {"masks": masks, "images": images.digest("images"), "weights": weights}
    without_effect = ["weights", *UNUSED_BY_NETWORK[config.network]]
    if config.epochs:
        without_effect.append("iterations")
    settings = _settings(config, *without_effect)
    if config.supervision == "full":  # pseudo masks say themselves which split they are of
        settings["split"] = images.split_name
    return _recipe("train-seg", settings, inputs)


def evaluate(config: EvalConfig, artifact: str, images: Catalogue, *, of_stage: str) -> Recipe:
    """The scores: what is scored, and the images and ground truth of the split; settings of other subjects left out."""
    inputs = {"artifact": artifact, "images": images.digest("images"), "masks": images.digest("masks")}
    without_effect = (*UNUSED_BY_EVAL[of_stage], *unused_by_crf(config.crf))
    return _recipe("eval", {**_settings(config, *without_effect), "split": images.split_name}, inputs)


def settled(config: Settled) -> Iterator[Settled]:
    """The settings with each precision that "auto" may turn out to be, on this machine or on another."""
    if getattr(config, "precision", None) != "auto":
        yield config
        return
    for precision in ("bf16", "fp32"):
        yield config.model_copy(update={"precision": precision})


def find(store: Store, config: Settled, recipe_of: Callable[[Settled], Recipe]) -> Artifact | None:
    """The artifact of settings that are done. Where the precision is "auto", it may have any: what is there counts."""
    return next(filter(None, (store.find(recipe_of(one)) for one in settled(config))), None)


def _recipe(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> Recipe:
    return Recipe(stage=stage, version=VERSIONS[stage], config=config, inputs=inputs)


def _settings(config: Config, *without_effect: str) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude=set(without_effect))
    return {name: value for name, value in settings.items() if name not in UNSAID or value != UNSAID[name]}


def unused_by_crf(crf: bool) -> tuple[str, ...]:
    """The settings of a CRF, where there is none."""
    return () if crf else ("crf_settings", "crf_confidence", "crf_labels")
