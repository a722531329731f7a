"""Settings of every stage: frozen, validated, and hashed into the recipe of the stage.

The comment of a field is its description in docs/reference/configuration.md; [n] names the n-th difference of
docs/explanation/differences-from-the-paper.md.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

BACKBONES = ("vgg16", "resnet50", "resnet101", "resnet38", "lite0")
Precision = Literal["auto", "fp32", "bf16"]
AffinityWeights = Literal["shared", "per-domain-pair"]
Domain = Literal["target", "single-label", "web"]
MAX_SEED = 2**63 - 1


def _backbone(name: str) -> str:
    if name not in BACKBONES and not re.fullmatch(r"timm:[A-Za-z0-9_]{1,60}(\.[A-Za-z0-9_]{1,60})?", name):
        raise ValueError(f"{', '.join(BACKBONES)}, or timm:NAME with a name that timm lists")
    return name


Backbone = Annotated[str, AfterValidator(_backbone)]

# Lists of TOML are lists, no tuples: strict=False lets them in, and is not about what is in them.
Strength = Annotated[float, Field(ge=0)]
ColorJitter = Annotated[tuple[Strength, Strength, Strength, Strength], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("numbers that ascend")
    return values


def _least_first(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the least number first, then the greatest")
    return values


def _sorted(domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
    return tuple(sorted(set(domains), key=get_args(Domain).index))


Domains = Annotated[tuple[Domain, ...], Field(min_length=1, strict=False), AfterValidator(_sorted)]
Factor = Annotated[float, Field(gt=0, le=8)]
Scales = Annotated[tuple[Factor, ...], Field(min_length=1, strict=False)]
SideRange = Annotated[
    tuple[Annotated[int, Field(ge=32, le=2**14)], Annotated[int, Field(ge=32, le=2**14)]],
    Field(strict=False),
    AfterValidator(_least_first),
]
ScaleRange = Annotated[tuple[Factor, Factor], Field(strict=False), AfterValidator(_least_first)]
Thresholds = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    Field(min_length=1, max_length=255, strict=False),  # levels between them are counted in one byte
    AfterValidator(_ascending),
]


class Config(BaseModel):
    """Base of all settings: frozen, strict about unknown names and about types; an integer is a number too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SourceConfig(Config):
    """Further images, of the classes of `[data]`: a table `[[data.sources]]` for each place."""

    root: str  # folder, table, or list of lines `path tag`; relative as the root of [data] is
    domain: Domain  # what it is: more of the target, images with one label each, or what a search of the web found
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*$")  # ids begin with it; else the domain, numbered
    layout: Literal["auto", "list", "voc", "coco", "table", "folders"] = "auto"  # as in [data]; a .txt file is a list
    tags: str | None = None  # file of tags, as in [data]
    list_tags: Literal["one", "first", "all"] = "one"  # of a list's line; further ones: an error, not read, or taken
    saliency: str | None = None  # folder of saliency maps, as in [data]


def _named_apart(sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    names = [source.name for source in sources if source.name is not None]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"sources of different names, found two called {twice[0]!r}")
    return sources


Sources = Annotated[tuple[SourceConfig, ...], Field(strict=False), AfterValidator(_named_apart)]


class DataConfig(Config):
    """Where the images, tags, masks and saliency maps are. Paths are relative to `root`."""

    root: str = "."  # folder of the image set, or its table; relative to mcis.toml, or with --set to where you are
    layout: Literal["auto", "voc", "coco", "table", "folders"] = "auto"  # how the folder is read; auto looks for itself
    tags: str | None = None  # file of tags: ID class class … (voc), the table, COCO's .json, or 0 and 1 in .npy
    tags_from_masks: bool = False  # take the classes in the masks for tags: that is pixel supervision
    classes: Names | None = None  # foreground classes; else those of classes.txt, else of the tags
    masks: str | None = None  # folder of ground truth; else SegmentationClass (voc) or masks
    saliency: str | None = None  # folder of saliency maps, ID.png or ID.jpg
    train: str = "train"  # split to learn from
    val: str = "val"  # split to score networks on
    sources: Sources = ()  # further images, to learn from: [[data.sources]]


class CrfConfig(Config):
    """Dense CRF: mean-field steps, and the two pairwise terms (widths in pixels and grey levels)."""

    iterations: int = Field(10, ge=1)  # mean-field steps [9]
    gaussian_xy: float = Field(3, gt=0)  # width of the smoothness term, pixels
    gaussian_weight: float = Field(1, ge=0)  # weight of the smoothness term
    bilateral_xy: float = Field(80, gt=0)  # width of the appearance term, pixels
    bilateral_rgb: float = Field(4, gt=0)  # width of the appearance term, grey levels
    bilateral_weight: float = Field(3, ge=0)  # weight of the appearance term


class SureCrfConfig(CrfConfig):
    """Dense CRF of the regions that maps are sure of; stronger than that of predictions."""

    gaussian_weight: float = Field(3, ge=0)  # weight of the smoothness term
    bilateral_rgb: float = Field(13, gt=0)  # width of the appearance term, grey levels
    bilateral_weight: float = Field(10, ge=0)  # weight of the appearance term


class TrainClsConfig(Config):
    """The co-attention classifier and its training (paper §3.1, §3.3)."""

    seed: int = Field(0, ge=0, le=MAX_SEED)  # of everything random in the stage
    backbone: Backbone = "vgg16"  # network under the new layers
    output_stride: Literal[8, 16] = 8  # pixels of the image to one position of the features
    loss: Literal["basic", "co-attention", "full"] = "full"  # Eq. 1; Eq. 1 and 5; Eq. 1, 5 and 9
    heads: Literal["shared", "separate"] = "shared"  # one φ for all features, or two [1]
    affinity_init: Literal["uniform", "identity"] = "uniform"  # how W_P starts: at random, or as likeness
    affinity_weights: AffinityWeights | None = None  # one W_P, or three; else three if there are single-label images
    affinity_scale: float | None = Field(None, gt=0, le=1e4)  # P of unit features, times this; else as in Eq. 2 [11]
    affinity_lr: float = Field(1.0, ge=0)  # further factor for W_P, whose gradient grows with its channels
    equivariant: bool = False  # SEAM too: a second, smaller view of each image, and maps refined by likeness (LID20)
    pairing: Literal["independent", "rings"] = "independent"  # draw each partner, or let an image serve two pairs
    self_pairs: bool = False  # also pair an image with its mirror, 0.75× and 2× views [3]
    contrastive_from_epoch: int = Field(1, ge=1)  # the contrastive loss counts from this epoch on [4]
    contrastive_rule: Literal["always", "unshared"] = "always"  # sides without unshared labels count, or not [4]
    loss_weighting: Literal["sum", "mean"] = "sum"  # of the losses of m and n [5]
    image_size: int = Field(256, ge=32)  # side of the square that images are warped to, pixels
    long_side: SideRange | None = None  # cut squares out of images whose long side is drawn from here; else warp them
    mirror: bool = False  # mirror half of the images
    color_jitter: ColorJitter = (0.3, 0.3, 0.3, 0.1)  # strengths of brightness, contrast, saturation, hue
    epochs: int = Field(15, ge=1)  # passes over the images, each once as first of a pair
    batch_pairs: int = Field(5, ge=1)  # pairs of a step, for each process
    processes: int = Field(1, ge=1)  # that train together; torchrun sets it
    lr: float = Field(1e-3, gt=0)  # learning rate
    lr_schedule: Literal["milestones", "poly"] = "milestones"  # how lr falls
    lr_power: float = Field(0.9, ge=0)  # poly: lr falls with (1 − step / steps) to this power
    lr_milestones: Epochs = (6, 12)  # epochs after which lr is multiplied by lr_gamma [6]
    lr_gamma: float = Field(0.1, gt=0, le=1)  # see lr_milestones
    momentum: float = Field(0.9, ge=0, lt=1)  # of SGD
    nesterov: bool = False  # Nesterov's momentum [6]
    weight_decay: float = Field(2e-4, ge=0)  # L2 penalty, of biases too [6]
    new_layer_lr: float = Field(1.0, gt=0)  # factor on lr for the new layers' weights [6]
    new_bias_lr: float = Field(1.0, gt=0)  # factor on lr for their biases [6]
    pretrained_bias_lr: float = Field(1.0, gt=0)  # factor on lr for the backbone's biases [6]
    frozen_stages: int = Field(0, ge=0)  # first stages of the backbone that do not learn, 0 to 5
    precision: Precision = "auto"  # of matrix products; auto takes bf16 where the hardware has it
    weights: str | None = None  # a file of initial weights; its content is hashed, not its name


class CamsConfig(Config):
    """Localization maps, single-round and multi-round (paper §3.2)."""

    seed: int = Field(0, ge=0, le=MAX_SEED)  # of the draw of references
    refs: int = Field(3, ge=0)  # references for each map and class; 0 is single-round
    localization: Literal["references", "released"] = "references"  # or the released code's five maps [2]
    reference_choice: Literal["random", "nearest"] = "random"  # drawn, or those of the class most like the image [10]
    reference_replacement: bool = False  # draw references with replacement [7]
    reference_self: bool = False  # an image may draw itself as its reference [7]
    refine: bool = False  # let positions that look alike share their scores; of an equivariant classifier
    with_contrastive: bool = False  # average contrastive maps in (Table 2)
    split: str | None = None  # what to map; else the split that the classifier was trained on
    domains: Domains = ("target",)  # what to map of a set with sources; images of sources are in every split
    reference_domains: Domains = ("target",)  # where references are taken from
    image_size: int | None = Field(None, ge=32)  # else that of the training
    scales: Scales = (1.0,)  # factors on image_size; maps are averaged over them, on the grid of the first
    flip: bool = False  # average over the mirrored image too
    precision: Precision = "auto"  # of matrix products


class AffinityConfig(Config):
    """AffinityNet on confident regions of localization maps, and the random walk of the maps (paper §4.4)."""

    seed: int = Field(0, ge=0, le=MAX_SEED)  # of everything random in the training
    longest_side: int = Field(512, ge=32)  # images with a longer side are shrunk to it, pixels
    normalization: Literal["minmax", "max"] = "max"  # of each map: (m − min) / (max − min), or m / max
    object_power: float = Field(4.0, gt=0)  # sure objects: stronger than background (1 − max over the maps) to it
    background_power: float = Field(32.0, gt=0)  # sure background: so strong that it wins with this power
    crf_settings: SureCrfConfig = SureCrfConfig()  # of both
    backbone: Backbone = "vgg16"  # network under the new layers
    output_stride: Literal[8, 16] = 8  # pixels of the image to one position of the walk
    crop: int = Field(448, ge=32)  # side of the square that is cut out, pixels
    mirror: bool = True  # mirror half of the images
    color_jitter: ColorJitter = (0.3, 0.3, 0.3, 0.1)  # strengths of brightness, contrast, saturation, hue
    radius: int = Field(5, ge=2)  # positions nearer than this are pairs
    epochs: int = Field(8, ge=1)  # passes over the images
    batch_size: int = Field(8, ge=1)  # crops of a step
    lr: float = Field(0.1, gt=0)  # learning rate
    lr_power: float = Field(0.9, ge=0)  # lr falls with (1 − step / steps) to this power
    new_layer_lr: float = Field(10.0, gt=0)  # factor on lr for the new layers
    momentum: float = Field(0.9, ge=0, lt=1)  # of SGD
    weight_decay: float = Field(5e-4, ge=0)  # L2 penalty
    frozen_stages: int = Field(0, ge=0)  # first stages of the backbone that do not learn, 0 to 5
    precision: Precision = "auto"  # of matrix products; auto takes bf16 where the hardware has it
    weights: str | None = None  # a file of initial weights; its content is hashed, not its name
    walk_power: float = Field(8.0, gt=0)  # affinities to it are what the walk goes by
    walk_doublings: int = Field(8, ge=0, le=16)  # the walk takes 2 to this power steps


class PseudoConfig(Config):
    """From localization maps, or from what a segmentation network predicts, to pseudo masks.

    Every score and threshold is in [0, 1].
    """

    background: Literal["saliency", "constant", "power", "affinity"] = "saliency"  # what tells background
    normalization: Literal["minmax", "max"] = "minmax"  # of each map: (m − min) / (max − min), or m / max
    fusion: Literal["hard", "soft"] = "hard"  # the highest score wins; or scores become probabilities [12]
    foreground_threshold: float = Field(0.3, ge=0, le=1)  # saliency: class scores under it do not count
    conflict_threshold: float = Field(0.99, ge=0, le=1)  # saliency: two scores over it, ignored
    salient_threshold: float = Field(32 / 255, ge=0, le=1)  # saliency: background that is so salient, ignored
    confident_threshold: float = Field(0.95, ge=0, le=1)  # saliency: background with a map over it, ignored
    min_foreground: float = Field(0.01, ge=0, le=1)  # saliency: images with a smaller share of it, wholly ignored
    background_score: float = Field(0.2, ge=0, le=1)  # constant, and soft with saliency: background scores it
    background_power: float = Field(4.0, gt=0)  # power: background scores (1 − max over the maps) to it
    background_threshold: float = Field(0.2, ge=0, le=1)  # affinity: classes that walk to less are background
    sharpness: float = Field(8.0, gt=0, le=1e4)  # soft: probabilities are the softmax of the scores times this
    saliency_weight: float = Field(0.75, ge=0, le=1e4)  # soft, saliency: what background loses from saliency 0 to 1
    saliency_middle: float = Field(0.3, ge=0, le=1)  # soft, saliency: where background neither gains nor loses
    trusted_correlation: float = Field(0.0, ge=0, le=1)  # soft, saliency: correlation for full trust; 0: any [14]
    allow_missing_saliency: bool = False  # saliency: images without a map are wholly ignored, not an error
    crf: bool = False  # refine the masks with a dense CRF over the labels that are present
    crf_confidence: float = Field(0.7, gt=0.5, lt=1)  # hard: that a pixel's label is right, before the CRF
    crf_settings: CrfConfig = CrfConfig()  # see CRF
    min_confidence: float = Field(0.0, ge=0, lt=1)  # soft, network: pixels whose label is less probable, ignored
    network_weight: float = Field(1.0, gt=0, le=1e4)  # maps and network: the power of the network's probabilities [13]
    scales: Scales = (1.0,)  # network: factors on the size; probabilities are averaged over them
    flip: bool = False  # network: average over the mirrored image too
    precision: Precision = "auto"  # network: of matrix products


class TrainSegConfig(Config):
    """DeepLab on pseudo masks, or on ground truth (`supervision = "full"`, the upper bound)."""

    seed: int = Field(0, ge=0, le=MAX_SEED)  # of everything random in the stage
    supervision: Literal["pseudo", "full"] = "pseudo"  # pseudo masks, or ground truth
    network: Literal["deeplab-largefov", "deeplabv3"] = "deeplab-largefov"  # which head: one wide layer, or ASPP
    backbone: Backbone = "resnet101"  # network under the head
    output_stride: Literal[8, 16] = 8  # pixels of the image to one position of the features
    head_channels: int = Field(1024, ge=1)  # deeplab-largefov: of the two layers before the scores
    head_dilation: int = Field(12, ge=1)  # of the 3×3 convolution; of deeplabv3's first, then twice and three times it
    crop: int = Field(321, ge=32)  # side of the square that is cut out, pixels
    scales: ScaleRange = (0.7, 1.3)  # least and greatest factor on the size, drawn evenly
    mirror: bool = True  # mirror half of the images
    iterations: int = Field(16_000, ge=1)  # steps
    epochs: int | None = Field(None, ge=1)  # passes over the images; where set, replaces iterations
    batch_size: int = Field(10, ge=1)  # crops of a step, for each process
    processes: int = Field(1, ge=1)  # that train together; torchrun sets it
    lr: float = Field(1e-3, gt=0)  # learning rate
    lr_power: float = Field(0.9, ge=0)  # lr falls with (1 − step / steps) to this power
    head_lr: float = Field(10.0, gt=0)  # factor on lr for the head
    momentum: float = Field(0.9, ge=0, lt=1)  # of SGD
    weight_decay: float = Field(5e-4, ge=0)  # L2 penalty, of biases too
    loss_resolution: Literal["full", "network"] = "full"  # enlarge scores, or reduce masks
    frozen_stages: int = Field(0, ge=0)  # first stages of the backbone that do not learn, 0 to 5
    precision: Precision = "auto"  # of matrix products; auto takes bf16 where the hardware has it
    weights: str | None = None  # a file of initial weights; its content is hashed, not its name


class EvalConfig(Config):
    """Mean IoU of a network, of localization maps, or of pseudo masks."""

    split: str | None = None  # networks: the val split of [data]; maps and masks: every image they hold
    scales: Scales = (1.0,)  # factors on the size; probabilities are averaged over them
    flip: bool = False  # average over the mirrored image too
    window: int | None = Field(1024, ge=32)  # longest side of one forward pass; larger images go in overlapping windows
    crf: bool = False  # refine a network's predictions with a dense CRF
    crf_labels: Literal["all", "present"] = "all"  # the labels that are present alone: several times quicker
    crf_settings: CrfConfig = CrfConfig()  # see CRF
    normalization: Literal["minmax", "max"] = "minmax"  # of each map, as in [pseudo]
    thresholds: Thresholds = tuple(round(0.05 * step, 2) for step in range(1, 20))  # of background in maps; best counts
    precision: Precision = "auto"  # of matrix products


class Settings(Config):
    """Everything that `mcis.toml` may hold, a section for each stage."""

    data: DataConfig = DataConfig()
    train_cls: TrainClsConfig = Field(TrainClsConfig(), alias="train-cls")
    cams: CamsConfig = CamsConfig()
    affinity: AffinityConfig = AffinityConfig()
    pseudo: PseudoConfig = PseudoConfig()
    train_seg: TrainSegConfig = Field(TrainSegConfig(), alias="train-seg")
    eval: EvalConfig = EvalConfig()


SECTIONS: Mapping[str, type[Config]] = {
    "data": DataConfig,
    "train-cls": TrainClsConfig,
    "cams": CamsConfig,
    "affinity": AffinityConfig,
    "pseudo": PseudoConfig,
    "train-seg": TrainSegConfig,
    "eval": EvalConfig,
}


def descriptions(section: type[Config]) -> dict[str, str]:
    """The comment behind each setting of a section, those of its parents included."""
    parents = [kind for kind in reversed(section.__mro__) if issubclass(kind, Config)]
    sources = "\n".join(inspect.getsource(kind) for kind in parents)
    lines = re.finditer(r"^    (\w+): .*?  # (.+)$", sources, re.MULTILINE)
    return {line[1]: line[2] for line in lines}
