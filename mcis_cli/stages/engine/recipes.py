"""The recipe of every stage: what its result depends on, and nothing else.

Pure functions, free of torch, so that `mcis status` can say at once what is done and what is not. Raise the number of a
stage by hand when its results change for the same settings. The name of the split that was asked for is part of a
recipe, since results say which split they are of: two lists of equal images are two recipes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from mcis_cli.config import (
    SECTIONS,
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

# What the scores of each stage's results are scores of, as EvalConfig.FACTS names it.
SUBJECTS: Mapping[str, str] = {"train-seg": "network", "cams": "maps", "affinity": "walked maps", "pseudo": "masks"}
_SECTIONS: Mapping[str, str] = {"affinity-labels": "affinity", "affinity-net": "affinity"}


def unsaid(recipe: Recipe) -> dict[str, Any]:
    """The settings that a recipe omits since they have their first default, without those that have no effect."""
    section = SECTIONS.get(_SECTIONS.get(recipe.stage, recipe.stage))
    return section.implied_by(recipe.config) if section is not None else {}


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
    settled = config.model_copy(update={"affinity_weights": affinity_weights(config, images)})
    sources = "single-label" if "single-label" in images.domains else "none"
    settings = {**settled.recipe_settings(sources=sources), "split": images.split_name}
    inputs = {"images": images.digest("images", "labels"), "weights": weights}
    return _recipe("train-cls", settings, inputs, revision=int(config.self_pairs))


def affinity_weights(config: TrainClsConfig, images: Catalogue) -> AffinityWeights:
    """One W_P or three: three where there are single-label images, if nothing else is asked for; one without them."""
    return (config.affinity_weights or "per-domain-pair") if "single-label" in images.domains else "shared"


def cams(config: CamsConfig, classifier: str, mapped: Catalogue, references: Catalogue) -> Recipe:
    """The maps: a classifier, the images to map, and those that references are drawn from."""
    inputs = {"classifier": classifier, "images": mapped.digest("images", "labels")}
    if config.refs:
        inputs["references"] = references.digest("images", "labels")
    settings = {**config.recipe_settings(), "split": mapped.split_name}
    return _recipe("cams", settings, inputs, revision=int(config.localization == "released"))


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
    settings = config.recipe_settings(part="regions")
    return _recipe("affinity-labels", settings, {"maps": maps, "images": images.digest("images")})


def affinity_net(config: AffinityConfig, labels: str, images: Catalogue, weights: str) -> Recipe:
    """The network of affinities: images, their labels, and the initial weights."""
    settings = config.recipe_settings(part="training")
    return _recipe("affinity-net", settings, {"labels": labels, "images": images.digest("images"), "weights": weights})


def affinity(config: AffinityConfig, maps: str, network: str, images: Catalogue) -> Recipe:
    """The maps after their random walk: by the affinities that the network finds in the images."""
    settings = config.recipe_settings(part="walk")
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
    evidence = "maps" if network is None else "maps and network"
    return _recipe("pseudo", config.recipe_settings(evidence=evidence), inputs)


def second_round(config: PseudoConfig, network: str, images: Catalogue) -> Recipe:
    """Pseudo masks of a second round without maps: a segmentation network, the images it looks at, and their tags."""
    settings = {**config.recipe_settings(evidence="network"), "split": images.split_name}
    return _recipe("pseudo", settings, {"network": network, "images": images.digest("images", "labels")})


def imported(stage: str, what: Mapping[str, Any], **inputs: str) -> Recipe:
    """What was imported: what it was taken for, and the digests of its files and of what they were read for."""
    return Recipe(stage=stage, version=IMPORT_VERSION, config={"imported": True, **what}, inputs=inputs)


def saliency(model: str, images: Catalogue) -> Recipe:
    """Saliency maps: the digest of the model's file, and the images. What else they depend on is in the version."""
    return Recipe("saliency", SALIENCY_VERSION, {}, {"model": model, "images": images.digest("images")})


def train_seg(config: TrainSegConfig, masks: str, images: Catalogue, weights: str) -> Recipe:
    """The segmentation network: images, their masks (an artifact's id, or the digest of the ground truth), weights."""
    inputs = {"masks": masks, "images": images.digest("images"), "weights": weights}
    settings = config.recipe_settings()
    if config.supervision == "full":  # pseudo masks say themselves which split they are of
        settings["split"] = images.split_name
    return _recipe("train-seg", settings, inputs)


def evaluate(config: EvalConfig, artifact: str, images: Catalogue, *, of_stage: str) -> Recipe:
    """The scores: what is scored, and the images and ground truth of the split; settings of other subjects left out."""
    inputs = {"artifact": artifact, "images": images.digest("images"), "masks": images.digest("masks")}
    settings = config.recipe_settings(subject=SUBJECTS[of_stage])
    return _recipe("eval", {**settings, "split": images.split_name}, inputs)


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


def _recipe(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str], *, revision: int = 0) -> Recipe:
    """A recipe of the current version. `revision` is added to it for settings whose results have changed while those of
    all other settings have not, so that the other keys stay."""
    return Recipe(stage=stage, version=VERSIONS[stage] + revision, config=config, inputs=inputs)
