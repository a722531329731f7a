"""Inputs that no stage of a chain makes: the list of an image set, saliency maps, initial weights, corrected masks."""

from mcis_cli.config import Backbone
from mcis_cli.data import records
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.contents import fault_of_mask, refuse_unlisted
from mcis_cli.stages.stage import Content, Hex, Meta, MetaOfClasses, Stage, Text
from mcis_cli.store import Artifact, Recipe


class WeightsMeta(Meta):
    """The meta of imported weights."""

    backbone: Backbone
    source: Text


class CorrectedMeta(MetaOfClasses):
    """The meta of corrected masks: the images are those of the masks that were corrected."""

    dataset: Hex
    split: Text
    note: Text


def _check_weights(artifact: Artifact, meta: WeightsMeta) -> None:
    refuse_unlisted(artifact, meta.backbone)


DATASET = Stage(
    name="dataset",
    version=1,
    title="image set",
    content=Content(
        kind="image list",
        schemas=(records.SCHEMA, records.SCHEMA_WITH_SOURCES),
        meta=MetaOfClasses,
    ),
)
SALIENCY = Stage(
    name="saliency",
    version=1,
    title="saliency maps",
    content=Content(kind="saliency maps", schemas=({"saliency": ("uint8", 2)},)),
)
WEIGHTS = Stage(
    name="weights",
    version=1,
    title="initial weights",
    content=Content(kind="weights", schemas=(None,), meta=WeightsMeta, check_sizes=_check_weights),
)


CORRECTED = Stage(
    name="corrected",
    version=1,
    title="corrected masks",
    content=Content(
        kind="corrected masks",
        schemas=({"mask": ("uint8", 2)},),
        meta=CorrectedMeta,
        fault_of=fault_of_mask,
        shown_as="corrected mask",
    ),
)


def dataset_recipe(catalogue: Catalogue) -> Recipe:
    """The list of an image set: a function of the files in its folder."""
    return DATASET.recipe({}, {"files": catalogue.id})


def saliency_recipe(model: str, images: Catalogue) -> Recipe:
    """Saliency maps: the digest of the model's file, and the images. The version covers all other dependencies."""
    return SALIENCY.recipe({}, {"model": model, "images": images.digest("images")})


def corrected_recipe(masks: str, corrected: str, note: str) -> Recipe:
    """Corrected masks: the masks that they correct, the digest of their pixels, and a note on who made them."""
    return CORRECTED.imported({"note": note}, masks=masks, corrected=corrected)
