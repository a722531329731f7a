"""Declaration of `average`: the maps of several classifiers in one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mcis_cli.config import AverageConfig, Config
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import UsageError, counted
from mcis_cli.stages.contents import fault_of_maps, maps_measured
from mcis_cli.stages.stage import Content, Described, MetaOfImages, Request, Stage, Work
from mcis_cli.store import Artifact, Recipe, Schema

SCHEMA: Schema = {"maps": ("float16", 3), "classes": ("int32", 1)}


def recipe(config: AverageConfig, maps: Collection[str]) -> Recipe:
    """The average of some maps, by their content ids; their order has no effect."""
    roles = ("maps", *(f"maps {number}" for number in range(2, len(maps) + 1)))
    return AVERAGE.recipe(config.recipe_settings(), dict(zip(roles, sorted(maps), strict=True)))


def refuse_too_few(maps: Sequence[Described]) -> None:
    """Check that there are two artifacts at least, each named once.

    Raises:
        UsageError: there are not.
    """
    distinct = {one.id for one in maps}
    if len(distinct) < max(2, len(maps)):
        raise UsageError(
            f"mcis average combines different maps, found {counted(len(distinct), 'artifact')} named "
            f"{counted(len(maps), 'time')}: give two or more; `mcis ls --stage cams` lists them"
        )


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[AverageConfig], Recipe]]:
    maps = (request.start, *request.more)
    refuse_too_few(maps)
    ids = [one.id for one in maps]
    return request.settings.average, request.images_of_start, lambda settled: recipe(settled, ids)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.average.run import run

    return run(*args)


def _facts(settings: Mapping[str, Any], artifact: Artifact) -> Sequence[str]:
    return (f"{settings.get('combine')} of {counted(len(artifact.inputs), 'artifact')}",)


AVERAGE = Stage(
    name="average",
    version=1,
    title="averaged maps",
    content=Content(
        kind="maps",
        schemas=(SCHEMA,),
        meta=MetaOfImages,
        fault_of=fault_of_maps,
        shown_as="averaged map",
        facts=_facts,
        measured=maps_measured,
    ),
    work=Work(
        command="average",
        section="average",
        run=_run,
        wanted=_wanted,
        roles={"maps": ("maps",)},
        starts_from=lambda settings: "maps",
        in_chain=lambda settings: False,
        follows=("`mcis pseudo {}` makes pseudo masks", "`mcis report {}` shows the maps"),
    ),
)
