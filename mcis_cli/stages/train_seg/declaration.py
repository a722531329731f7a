"""Declaration of `train-seg`, the training of the segmentation network."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcis_cli.config import Backbone, Config, Settings, TrainSegConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import percent
from mcis_cli.stages.contents import lacking_truth, refuse_unlisted
from mcis_cli.stages.engine.starting_weights import lacking_weights, starting_identity
from mcis_cli.stages.stage import Content, Kind, Lack, Meta, MetaOfImages, Request, Stage, Work
from mcis_cli.store import Artifact, Recipe
from mcis_cli.store.files import damaged

ASPP_CHANNELS = 256  # of torchvision's head of DeepLab-V3
NUM_BRANCHES = 5  # the head concatenates them


class SegmenterMeta(Meta):
    """The description that a segmentation network is built from."""

    network: Literal["deeplab-largefov", "deeplabv3"]
    backbone: Backbone
    output_stride: Literal[8, 14, 16]
    head_channels: Annotated[int, Field(ge=1)] = ASPP_CHANNELS
    head_dilation: Annotated[int, Field(ge=1, le=2**14)]
    head_bias: bool = True
    head_init: Literal["gaussian", "released"] = "gaussian"
    fully_connected: Literal["new", "imagenet"] = "new"
    align_corners: bool = False
    num_classes: int


class TrainSegMeta(MetaOfImages):
    """The meta of a segmentation network."""

    model: SegmenterMeta
    supervision: Literal["pseudo", "full"]


def recipe(
    config: TrainSegConfig, masks: str, images: Catalogue, weights: str, *, has_corrected: bool = False
) -> Recipe:
    """The segmentation network: images, their masks (an artifact's id, or the digest of the ground truth), weights; and
    whether some of the masks were corrected, by which settings have an effect or not."""
    settings = config.recipe_settings(masks="corrected" if has_corrected else "made")
    if config.supervision == "full":  # pseudo masks record their split
        settings["split"] = images.split_name
    return TRAIN_SEG.recipe(settings, {"masks": masks, "images": images.digest("images"), "weights": weights})


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[TrainSegConfig], Recipe]]:
    config = request.settings.train_seg
    weights = starting_identity(config.backbone, config.weights)
    if config.supervision == "full":
        images = request.catalogue.split(request.data.train)
        return config, images, lambda settled: recipe(settled, images.digest("masks"), images, weights)
    masks, of_masks = request.start, request.images_of_start
    has_corrected = bool(masks.meta.get("corrected"))
    return config, of_masks, lambda settled: recipe(settled, masks.id, of_masks, weights, has_corrected=has_corrected)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.train_seg.run import run

    return run(*args)


def _lacks(request: Request, images: Catalogue) -> Lack | None:
    config = request.settings.train_seg
    truth = lacking_truth(images) if config.supervision == "full" else None
    return truth or lacking_weights(config.backbone, config.weights)


def _check_sizes(artifact: Artifact, meta: TrainSegMeta) -> None:
    refuse_unlisted(artifact, meta.model.backbone)
    num_classes = len(meta.class_names) + 1
    if meta.model.num_classes != num_classes:
        raise damaged(artifact.path, f"its network has {meta.model.num_classes} classes", f"{num_classes}")
    channels = meta.model.head_channels
    listed = artifact.manifest.get("tensors")
    entries = listed if isinstance(listed, list) else []
    shapes = [entry[2] for entry in entries if isinstance(entry, list) and len(entry) == 3]
    joined = NUM_BRANCHES if meta.model.network == "deeplabv3" else 1
    if [channels, joined * channels, 1, 1] not in shapes:
        raise damaged(artifact.path, f"its head has {channels} channels by its meta", "tensors of that size")


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    return f"{settings.get('backbone')}", f"seed {settings.get('seed')}"


def _measured(metrics: Mapping[str, Any]) -> Sequence[str]:
    before = metrics.get("mean_iou_before_crf")
    without = "" if before is None else f" ({percent(before)} % without it)"
    return (
        f"trained on {'ground truth' if metrics['supervision'] == 'full' else 'pseudo masks'}",
        f"with CRF{without}" if metrics["crf"] else "without CRF",
        f"scales {', '.join(f'{scale:g}' for scale in metrics['scales'])}",
        "with mirror" if metrics["flip"] else "without mirror",
    )


def _num_steps(settings: Mapping[str, Any], images: Catalogue) -> int:
    """The steps, if no mask is wholly ignored."""
    steps_per_epoch = math.ceil(len(images) / (settings["batch_size"] * settings.get("processes", 1)))
    return int(settings["epochs"] * steps_per_epoch if settings.get("epochs") else settings["iterations"])


def _foresees(config: TrainSegConfig, recipe: Recipe) -> Mapping[str, Any]:
    return {"model": {name: recipe.config.get(name) for name in ("network", "backbone", "output_stride")}}


def _starts_from(settings: Settings) -> Kind | None:
    return None if settings.train_seg.supervision == "full" else "pseudo masks"


TRAIN_SEG = Stage(
    name="train-seg",
    version=2,
    title="segmentation network",
    content=Content(
        kind="network",
        schemas=(None,),
        meta=TrainSegMeta,
        check_sizes=_check_sizes,
        shown_as="prediction",
        facts=_facts,
        measured=_measured,
    ),
    work=Work(
        command="train-seg",
        section="train_seg",
        run=_run,
        wanted=_wanted,
        roles={"masks": ("pseudo masks",)},
        starts_from=_starts_from,
        by_image=False,
        ranks=True,
        num_steps=_num_steps,
        lacks=_lacks,
        foresees=_foresees,
        follows=("`mcis predict {} photos/` writes masks of photographs", "`mcis eval {}` scores the network"),
        less_memory="--set train-seg.batch_size=4, --set train-seg.crop=257 or --workers 1",
    ),
)
