"""Declaration of `review`: how far pseudo masks agree with other evidence of their images."""

from collections.abc import Callable, Mapping
from typing import Any

from mcis_cli.config import Config, ReviewConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DataError, UsageError
from mcis_cli.stages.stage import IGNORE_INDEX, Content, Described, Fields, MetaOfImages, Request, Stage, Work
from mcis_cli.store import Artifact, Recipe, Schema

# A record holds the mask values of background and of the tags, and for each value its share of the mask, and its
# agreement with the mask of the maps alone and with the network's; and the terms of the image as a whole.
SCHEMA: Schema = {"values": ("int32", 1), "by_value": ("float32", 2), "of_image": ("float32", 1)}
BY_VALUE = ("share", "maps", "network")
OF_IMAGE = ("certainty", "interior", "saliency")
ABSENT = -1.0  # for a network or saliency that was not given


def recipe(
    config: ReviewConfig, masks: str, images: Catalogue, network: str | None, saliency: str | None = None
) -> Recipe:
    """The review of pseudo masks: masks, images with tags, saliency if all images have it, and a network.

    Args:
        config: settings.
        masks: the id of the masks.
        images: those that are reviewed.
        network: the id of the network, if any.
        saliency: the id of saliency maps that the masks were made with, in place of those of the image set.
    """
    evidence = "maps" if network is None else "maps and network"
    inputs = {"masks": masks, "images": images.digest("images", "labels")}
    if saliency is not None or uses_saliency(images):
        inputs["saliency"] = saliency or images.digest("saliency")
    if network is not None:
        inputs["network"] = network
    return REVIEW.recipe(config.recipe_settings(evidence=evidence), inputs)


def uses_saliency(images: Catalogue) -> bool:
    """Whether all images have a saliency map."""
    return all(entry.saliency is not None for entry in images.entries)


def saliency_of(masks: Described, given: Catalogue) -> str | None:
    """The id of the saliency maps that masks of these images were made with; None for those of the image set."""
    own = masks.inputs.get("saliency") if isinstance(masks, Artifact) else None
    return None if own == given.labelled().digest("saliency") else own


def reviewed_images(catalogue: Catalogue, masks: Described, ids: tuple[str, ...]) -> Catalogue:
    """The images whose mask may be wrong: with tags, and not corrected.

    Raises:
        DataError: there are none.
    """
    given = catalogue.only(ids, masks.meta["split"])
    done = {*masks.meta.get("corrected", ())}
    left = [entry.id for entry in given.entries if entry.labels and entry.id not in done]
    if not left:
        raise DataError("no mask to review: expected images with tags whose mask was not corrected")
    return given.only(left, given.split_name)


def require_maps(masks: Described) -> None:
    """Check that masks were made from maps.

    Raises:
        UsageError: they were made from a network alone.
    """
    if masks.meta.get("background") == "network":
        raise UsageError(
            f"{masks.id[:12]} was made from a network alone: expected pseudo masks of maps, to compare the masks with; "
            "review the masks of the first round"
        )


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[ReviewConfig], Recipe]]:
    masks, network = request.start, request.network.id if request.network else None
    require_maps(masks)
    images = reviewed_images(request.catalogue, masks, masks.ids)
    saliency = saliency_of(masks, request.images_of_start)
    return request.settings.review, images, lambda settled: recipe(settled, masks.id, images, network, saliency)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.review.run import run

    return run(*args)


def _fault_of(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    values, by_value, of_image = fields["values"], fields["by_value"], fields["of_image"]
    if by_value.shape != (len(values), len(BY_VALUE)) or of_image.shape != (len(OF_IMAGE),):
        return f"terms of the shapes {by_value.shape} and {of_image.shape}"
    num_classes = min(len(meta["class_names"]) + 1, IGNORE_INDEX)
    if not (len(values) and values[0] == 0 and (values[1:] > values[:-1]).all() and values[-1] < num_classes):
        return "values that are no classes"
    valid = (((terms >= 0) & (terms <= 1)) | (terms == ABSENT) for terms in (by_value, of_image))
    return None if all(one.all() for one in valid) else "terms out of range"


REVIEW = Stage(
    name="review",
    version=1,
    title="review of pseudo masks",
    content=Content(kind="reviews", schemas=(SCHEMA,), meta=MetaOfImages, fault_of=_fault_of),
    work=Work(
        command="review",
        section="review",
        run=_run,
        wanted=_wanted,
        roles={"masks": ("pseudo masks",), "network": ("network",)},
        starts_from=lambda settings: "pseudo masks",
        in_chain=lambda settings: False,
    ),
)
