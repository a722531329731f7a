"""Declaration of `cams`: localization maps by a classifier."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mcis_cli.config import CamsConfig, Config, Domain
from mcis_cli.data.catalogue import TARGET, Catalogue
from mcis_cli.errors import counted
from mcis_cli.stages.contents import fault_of_maps, maps_measured
from mcis_cli.stages.stage import Content, Described, MetaOfImages, Request, Stage, Work
from mcis_cli.store import Artifact, Recipe, Schema

SCHEMA: Schema = {"maps": ("float16", 3), "classes": ("int32", 1), "references": ("uint8", 1)}


def recipe(config: CamsConfig, classifier: str, mapped: Catalogue, references: Catalogue) -> Recipe:
    """The maps: a classifier, the images to map, and those that references are drawn from."""
    inputs = {"classifier": classifier, "images": mapped.digest("images", "labels")}
    if config.refs:
        inputs["references"] = references.digest("images", "labels")
    settings = {**config.recipe_settings(), "split": mapped.split_name}
    return CAMS.recipe(settings, inputs, revision=int(config.localization == "released"))


def images_and_carriers(config: CamsConfig, catalogue: Catalogue, classifier: Described) -> tuple[Catalogue, Catalogue]:
    """The images to map, and those that references are drawn from; unlabelled images have no maps.

    Raises:
        DataError: there is no such split, or no image of it is labelled.
    """
    trained_on = classifier.meta["split"]
    mapped = catalogue.split(config.split or trained_on, config.domains)
    return mapped.labelled(), catalogue.split(trained_on, config.reference_domains)


def completed(config: CamsConfig, classifier: Described) -> CamsConfig:
    """The settings, with values that the classifier determines. Accumulated maps are single-round."""
    single_round = {"refs": 0, "refine": False} if config.localization == "accumulated" else {}
    image_size = config.image_size or classifier.meta["image_size"]
    return config.model_copy(update={"image_size": image_size, **single_round})


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[CamsConfig], Recipe]]:
    classifier = request.start
    mapped, carriers = images_and_carriers(request.settings.cams, request.catalogue, classifier)
    config = completed(request.settings.cams, classifier)
    return config, mapped, lambda settled: recipe(settled, classifier.id, mapped, carriers)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.cams.run import run

    return run(*args)


def _domains(recipe: Recipe, role: str) -> Collection[Domain]:
    setting = {"images": "domains", "references": "reference_domains"}.get(role, "")
    return tuple(recipe.config.get(setting, TARGET))


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    refs = settings.get("refs")
    if settings.get("localization") == "accumulated":
        return ("accumulated over epochs",)
    if not refs:
        return ("without references",)
    drawn = "nearest" if settings.get("reference_choice") == "nearest" else f"seed {settings.get('seed')}"
    without = int(settings.get("refs_without", 0))
    return counted(int(refs), "reference"), drawn, *([f"{without} without the class"] if without else [])


CAMS = Stage(
    name="cams",
    version=2,
    title="localization maps",
    content=Content(
        kind="maps",
        schemas=(SCHEMA,),
        meta=MetaOfImages,
        fault_of=fault_of_maps,
        shown_as="map",
        facts=_facts,
        measured=maps_measured,
    ),
    work=Work(
        command="cams",
        section="cams",
        run=_run,
        wanted=_wanted,
        roles={"classifier": ("classifier",)},
        starts_from=lambda settings: "classifier",
        reads=frozenset({"images", "labels"}),
        domains=_domains,
        follows=("`mcis pseudo {}` makes pseudo masks", "`mcis report {}` shows the maps"),
        less_memory="--cache-mb 256, --image-size 224 or --workers 1",
    ),
)
