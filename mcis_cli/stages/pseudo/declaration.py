"""Declaration of `pseudo`: pseudo masks of maps, of a segmentation network, or of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from mcis_cli.config import SUPERPIXELS, Config, PseudoConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import first_few, percent
from mcis_cli.stages.contents import ascend, fault_of_mask
from mcis_cli.stages.stage import Content, Fields, Kind, Lack, MetaOfImages, Request, Stage, Text, Work
from mcis_cli.store import Artifact, Recipe, Schema
from mcis_cli.store.artifact import ID_DIGITS


class PseudoMeta(MetaOfImages):
    """The meta of pseudo masks."""

    corrected: list[Text] = Field([])  # the images whose mask people corrected


SCHEMA: Schema = {"mask": ("uint8", 2), "classes": ("int32", 1)}


def recipe(
    config: PseudoConfig,
    maps: str,
    images: Catalogue,
    saliency: str | None = None,
    network: str | None = None,
    regions: str | None = None,
) -> Recipe:
    """The pseudo masks of maps: the maps, the images' sizes (and pixels, for a CRF, a network or regions of them), and
    saliency, a segmentation network and files of regions if they are used."""
    inputs = {"maps": maps, "images": images.digest("images")}
    if config.background == "saliency":
        inputs["saliency"] = saliency or images.digest("saliency")
    if network is not None:
        inputs["network"] = network
    settings, of_regions = _with_regions(config, "maps" if network is None else "maps and network", regions)
    has_negatives = any(entry.is_negative for entry in images.entries)  # version 3 fused these like other images
    return PSEUDO.recipe(settings, {**inputs, **of_regions}, revision=int(has_negatives))


def network_recipe(config: PseudoConfig, network: str, images: Catalogue, regions: str | None = None) -> Recipe:
    """The pseudo masks of a segmentation network alone: the network, the images, their tags, and files of regions."""
    settings, of_regions = _with_regions(config, "network", regions)
    inputs = {"network": network, "images": images.digest("images", "labels"), **of_regions}
    return PSEUDO.recipe({**settings, "split": images.split_name}, inputs)


def with_corrected(recipe: Recipe, corrected: str | None) -> Recipe:
    """The recipe of masks of which corrected ones override some."""
    return recipe if corrected is None else replace(recipe, inputs={**recipe.inputs, "corrected": corrected})


def _with_regions(config: PseudoConfig, evidence: str, regions: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings for a recipe, and files of regions as an input by their digest, in place of the folder's name."""
    if regions is None:
        return config.recipe_settings(evidence=evidence), {}
    unnamed = config.model_copy(update={"regions": None})
    return unnamed.recipe_settings(evidence=evidence), {"regions": regions}


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[PseudoConfig], Recipe]]:
    config, start = request.settings.pseudo, request.start
    of_network_alone = request.kind == "network"
    given = request.catalogue.split(start.meta["split"]) if of_network_alone else request.images_of_start
    images, network = given.labelled(), request.network.id if request.network else None
    regions = _digest_of_regions(config, images)

    def recipe_of(settled: PseudoConfig) -> Recipe:
        if of_network_alone:
            made = network_recipe(settled, start.id, images, regions)
        else:
            made = recipe(settled, start.id, images, request.saliency, network, regions)
        return with_corrected(made, request.corrected)

    return config, images, recipe_of


def _digest_of_regions(config: PseudoConfig, images: Catalogue) -> str | None:
    if config.regions is None or config.regions in SUPERPIXELS:
        return None
    from mcis_cli.stages.pseudo.regions.files import list_files

    return list_files(Path(config.regions), images, None).digest


def _lacks(request: Request, images: Catalogue) -> Lack | None:
    config = request.settings.pseudo
    if lack := lacking_package(config):
        return Lack(lack)
    uses = config.background == "saliency" and not config.allow_missing_saliency and request.kind != "network"
    if not uses or request.saliency is not None:
        return None
    absent = [entry.id for entry in images.entries if entry.saliency is None]
    return Lack(missing_maps(absent, len(images))) if absent else None


def lacking_package(config: PseudoConfig) -> str | None:
    """The error for regions whose package is not installed."""
    if config.regions not in SUPERPIXELS or find_spec("skimage") is not None:
        return None
    return (
        f"the package scikit-image, which finds regions by {config.regions}, is not installed; pip install "
        "'mcis[regions]', or give regions of another tool with --regions FOLDER"
    )


def missing_maps(absent: Sequence[str], count: int) -> str:
    """The error for images without a saliency map."""
    return (
        f"saliency missing for {len(absent)} of {count} images ({first_few(absent)}): expected a map each; give "
        "--background otsu, --saliency FOLDER, or --allow-missing-saliency to ignore these images; "
        "`mcis saliency` makes maps"
    )


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.pseudo.run import run

    return run(*args)


def _fault_of(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    if not ascend(fields["classes"], len(meta["class_names"])):
        return "classes that are unknown or repeated"
    return fault_of_mask(fields, meta)


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    network = artifact.inputs.get("network", "")[:ID_DIGITS]
    of_network_alone = artifact.meta.get("background") == "network"
    first = f"of network {network}" if of_network_alone else f"background {settings.get('background')}"
    further = {
        "soft": settings.get("fusion") == "soft",
        f"regions {settings.get('regions', 'of files')}": "regions" in settings or "regions" in artifact.inputs,
        "CRF": settings.get("crf"),
        f"asked {network}": network and not of_network_alone,
        f"{len(artifact.meta.get('corrected', ()))} corrected": artifact.meta.get("corrected"),
    }
    return first, *(word for word, holds in further.items() if holds)


def _measured(metrics: Mapping[str, Any]) -> Sequence[str]:
    labelled = f"{percent(metrics['coverage'])} % of the pixels labelled, ignored ones count as missed"
    return labelled, f"{percent(metrics['mean_iou_covered'])} % on labelled pixels alone"


def _starts_from(settings: Settings) -> Kind:
    return "walked maps" if settings.pseudo.background == "affinity" else "maps"


PSEUDO = Stage(
    name="pseudo",
    version=3,
    title="pseudo masks",
    content=Content(
        kind="pseudo masks",
        schemas=(SCHEMA,),
        meta=PseudoMeta,
        fault_of=_fault_of,
        shown_as="pseudo mask",
        facts=_facts,
        measured=_measured,
    ),
    work=Work(
        command="pseudo",
        section="pseudo",
        run=_run,
        wanted=_wanted,
        roles={
            "maps": ("maps", "walked maps", "network"),
            "network": ("network",),
            "corrected": ("corrected masks",),
        },
        starts_from=_starts_from,
        lacks=_lacks,
        follows=(
            "`mcis report {}` shows the masks",
            "`mcis export {} --voc -o masks` writes them",
            "`mcis train-seg {}` trains a network",
        ),
        less_memory="--workers 1 or --no-crf",
    ),
)
