"""Declaration of `eval`: scores of a network, of maps, or of pseudo masks."""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from mcis_cli.config import Config, EvalConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.contents import lacking_truth
from mcis_cli.stages.stage import (
    SCORED,
    Content,
    Fields,
    Fraction,
    Kind,
    Meta,
    MetaOfImages,
    Request,
    Stage,
    Text,
    Work,
)
from mcis_cli.store import Artifact, Recipe, Schema
from mcis_cli.store.files import damaged

SCHEMA: Schema = {"counts": ("int64", 2)}
BEFORE_CRF = 1  # level of a network's counts that a CRF has not changed
OF_MAPS: tuple[Kind, ...] = ("maps", "walked maps")


class SettingsMeta(Meta):
    """The settings of scores that other code reads."""

    thresholds: Annotated[list[Fraction], Field(min_length=1, max_length=255)] = Field([0.0])
    scales: list[float] = Field([])
    flip: bool = False
    crf: bool = False


class EvalMeta(MetaOfImages):
    """The meta of scores."""

    subject: Text
    supervision: Literal["pseudo", "full"]
    settings: SettingsMeta


def recipe(config: EvalConfig, artifact: str, images: Catalogue, *, of: Kind) -> Recipe:
    """The recipe of scores: the scored artifact, the images and ground truth of the split; without settings of other
    subjects."""
    inputs = {"artifact": artifact, "images": images.digest("images"), "masks": images.digest("masks")}
    settings = {**config.recipe_settings(subject=of), "split": images.split_name}
    # With a CRF, pixels are counted before it too.
    return EVAL.recipe(settings, inputs, revision=int(bool(settings.get("crf"))))


def scored_images(catalogue: Catalogue, split: str, ids: Collection[str]) -> Catalogue:
    """The images of a split that maps or masks of these ids are scored on: only tagged and mapped ones."""
    images, made = catalogue.split(split), {*ids}
    scored = [entry.id for entry in images.entries if entry.is_labelled or entry.id in made]
    return images.only(scored, split) if scored else images


def _wanted(request: Request) -> tuple[Config, Catalogue, Callable[[EvalConfig], Recipe]]:
    config, subject, kind = request.settings.eval, request.start, request.kind
    assert kind is not None
    if kind == "network":
        images = request.catalogue.split(config.split or request.data.val)
    elif config.split is None:
        images = request.images_of_start
    else:
        images = scored_images(request.catalogue, config.split, subject.ids)
    return config, images, lambda settled: recipe(settled, subject.id, images, of=kind)


def _run(*args: Any) -> Artifact:
    from mcis_cli.stages.evaluate.run import run

    return run(*args)


def _check_sizes(artifact: Artifact, meta: EvalMeta) -> None:
    from mcis_cli.stages import names_of  # the list of images, of which this is an entry

    if meta.subject not in names_of(*SCORED):
        raise damaged(artifact.path, f"its meta has {meta.subject!r:.80} at subject", "a stage that is scored")
    needed = {"scales", "flip", "crf"} if meta.subject in names_of("network") else set()
    needed |= {"thresholds"} if meta.subject in names_of(*OF_MAPS) else set()
    if not needed <= meta.settings.model_fields_set:
        raise damaged(artifact.path, "its meta lacks settings", f"{', '.join(sorted(needed))}")


def _fault_of(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    counts = fields["counts"]
    settings = meta["settings"]
    num_levels = 1 + len(settings.get("thresholds", ())) + int(bool(settings.get("crf")))  # maps, networks
    if counts.shape[1] != 4:
        return f"counts of the shape {counts.shape}"
    limits = (num_levels, 256, 256, 2**40)
    return None if ((counts >= 0) & (counts < limits)).all() else "counts out of range"


EVAL = Stage(
    name="eval",
    version=2,
    title="scores",
    content=Content(kind="scores", schemas=(SCHEMA,), meta=EvalMeta, fault_of=_fault_of, check_sizes=_check_sizes),
    work=Work(
        command="eval",
        section="eval",
        run=_run,
        wanted=_wanted,
        roles={"artifact": ("network", "pseudo masks", "walked maps", "maps")},
        starts_from=lambda settings: "network",
        needs_truth=True,
        lacks=lambda request, images: lacking_truth(images),
        follows=("`mcis report {}` shows scores and images",),
        less_memory="--set eval.window=512, --scales 1 or --workers 1",
    ),
)
