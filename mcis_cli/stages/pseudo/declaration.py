"""Declaration of `pseudo`: pseudo masks of maps, of a segmentation network, or of both."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcis_cli.config import Config, PseudoConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import first_few, percent
from mcis_cli.stages.contents import ascend
from mcis_cli.stages.stage import IGNORE_INDEX, Content, Fields, Kind, Lack, MetaOfImages, Request, Stage, Work
from mcis_cli.store import Artifact, Recipe, Schema
from mcis_cli.store.artifact import ID_DIGITS

SCHEMA: Schema = {"mask": ("uint8", 2), "classes": ("int32", 1)}


def recipe(
    config: PseudoConfig, maps: str, images: Catalogue, saliency: str | None = None, network: str | None = None
) -> Recipe:
    """The pseudo masks of maps: the maps, the images' sizes (and pixels, for a CRF or a network), and saliency and a
    segmentation network if they are used."""
    inputs = {"maps": maps, "images": images.digest("images")}
    if config.background == "saliency":
        inputs["saliency"] = saliency or images.digest("saliency")
    if network is not None:
        inputs["network"] = network
    evidence = "maps" if network is None else "maps and network"
    has_negatives = any(entry.is_negative for entry in images.entries)  # version 3 fused these like other images
    return PSEUDO.recipe(config.recipe_settings(evidence=evidence), inputs, revision=int(has_negatives))


def network_recipe(config: PseudoConfig, network: str, images: Catalogue) -> Recipe:
    """The pseudo masks of a segmentation network alone: the network, the images, and their tags."""
    settings = {**config.recipe_settings(evidence="network"), "split": images.split_name}
    return PSEUDO.recipe(settings, {"network": network, "images": images.digest("images", "labels")})


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[PseudoConfig], Recipe]]:
    config, start = request.settings.pseudo, request.start
    if request.kind == "network":
        of_split = request.catalogue.split(start.meta["split"]).labelled()
        return config, of_split, lambda settled: network_recipe(settled, start.id, of_split)
    images, network = request.images_of_start.labelled(), request.network.id if request.network else None
    return config, images, lambda settled: recipe(settled, start.id, images, request.saliency, network)


def _lacks(request: Request, images: Catalogue) -> Lack | None:
    config = request.settings.pseudo
    uses = config.background == "saliency" and not config.allow_missing_saliency and request.kind != "network"
    if not uses or request.saliency is not None:
        return None
    absent = [entry.id for entry in images.entries if entry.saliency is None]
    return Lack(missing_maps(absent, len(images))) if absent else None


def missing_maps(absent: Sequence[str], count: int) -> str:
    """The error for images without a saliency map."""
    return (
        f"saliency missing for {len(absent)} of {count} images ({first_few(absent)}): expected a map each; give "
        "--background constant, --saliency FOLDER, or --allow-missing-saliency to ignore these images; "
        "`mcis saliency` makes maps"
    )


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.pseudo.run import run

    return run(*args)


def _fault_of(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    mask, classes = fields["mask"], fields["classes"]
    num_foreground = len(meta["class_names"])
    if not ascend(classes, num_foreground):
        return "classes that are unknown or repeated"
    return None if ((mask <= num_foreground) | (mask == IGNORE_INDEX)).all() else "a value that is no class"


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    network = artifact.inputs.get("network", "")[:ID_DIGITS]
    of_network_alone = artifact.meta.get("background") == "network"
    first = f"of network {network}" if of_network_alone else f"background {settings.get('background')}"
    further = {
        "soft": settings.get("fusion") == "soft",
        "CRF": settings.get("crf"),
        f"asked {network}": network and not of_network_alone,
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
        meta=MetaOfImages,
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
        roles={"maps": ("maps", "walked maps", "network"), "network": ("network",)},
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
