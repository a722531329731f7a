"""A stage is one declaration, which all other parts of the program read.

A declaration is in the room of its stage, imports no torch and computes nothing; `run` imports the work when it is
called. `mcis_cli.stages` lists the declarations.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcis_cli.config import Config, DataConfig, Domain, Settings
from mcis_cli.data.catalogue import TARGET, Catalogue, Part
from mcis_cli.data.layouts.listing import MAX_CLASSES
from mcis_cli.errors import counted
from mcis_cli.store import SEGMENT_SIZE, Artifact, Begun, Recipe, Schema, Store, segments_of
from mcis_cli.store.files import damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

StageName = Literal[
    "dataset",
    "train-cls",
    "cams",
    "average",
    "affinity-labels",
    "affinity-net",
    "affinity",
    "pseudo",
    "review",
    "train-seg",
    "eval",
    "saliency",
    "weights",
    "corrected",
]
Kind = Literal[
    "image list",
    "saliency maps",
    "weights",
    "corrected masks",
    "classifier",
    "maps",
    "sure regions",
    "affinities",
    "walked maps",
    "pseudo masks",
    "reviews",
    "network",
    "scores",
]
SCORED: tuple[Kind, ...] = ("maps", "walked maps", "pseudo masks", "network")  # by `mcis eval`, in order
Fields = Mapping[str, "NDArray[Any]"]
IGNORE_INDEX = 255
IMPORT_VERSION = 1
AnyConfig = TypeVar("AnyConfig", bound=Config)

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1000)]
Side = Annotated[int, Field(ge=32, le=2**14)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Meta(BaseModel):
    """The part of an artifact's meta that later stages read; it may hold more."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class MetaOfClasses(Meta):
    """The meta of an artifact that knows the classes."""

    class_names: Annotated[list[Text], Field(min_length=1, max_length=MAX_CLASSES)]


class MetaOfImages(MetaOfClasses):
    """The meta of an artifact that was made from images."""

    dataset: Hex
    split: Text
    initialisation: Text


@dataclass(frozen=True)
class Expected:
    """An artifact that does not exist yet, with the facts that later stages need.

    Attributes:
        stage: the name of the stage that will make it.
        id: words in place of the unknown content id, different for different recipes.
        meta: the part of the meta that is known beforehand.
        ids: the ids of its records.
    """

    stage: str
    id: str
    meta: Mapping[str, Any]
    ids: tuple[str, ...]


class Described(Protocol):
    """An artifact, existing or future: its id and meta."""

    @property
    def id(self) -> str:
        """The content id, or words in its place."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """The facts that later stages read."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to a stage: its inputs, before anything is computed.

    Attributes:
        settings: the settings of all stages.
        data: where the images are.
        catalogue: all images.
        upstream: the artifact of the stage before; None for stages that start from images.
        kind: the kind of the upstream artifact.
        network: a network that is used beside the upstream artifact.
        more: further artifacts of the same kind as the upstream artifact.
        saliency: the content id of saliency maps in place of those of the image set.
        corrected: the content id of corrected masks.
    """

    settings: Settings
    data: DataConfig
    catalogue: Catalogue
    upstream: Artifact | Expected | None = None
    kind: Kind | None = None
    network: Artifact | Expected | None = None
    more: tuple[Artifact, ...] = ()
    saliency: str | None = None
    corrected: str | None = None

    @property
    def start(self) -> Artifact | Expected:
        """The upstream artifact of a stage that has one."""
        assert self.upstream is not None, "a stage is not asked before its upstream artifact is known"
        return self.upstream

    @property
    def images_of_start(self) -> Catalogue:
        """The images that the upstream artifact has records of."""
        return self.catalogue.only(self.start.ids, self.start.meta.get("split"))


def _no_fault(fields: Fields, meta: Mapping[str, Any]) -> str | None:
    return None


def _any_size(artifact: Artifact, meta: Meta) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Content:
    """The content of a stage's artifacts, checked before use, since anybody may have made an artifact.

    A digest shows that a file is as it was written, not that a stage wrote it. So the schema, the meta and the values
    of each record are compared with what the stage writes; sizes first, before anything is built.

    Attributes:
        kind: the kind of artifact, as other stages name it.
        schemas: the fields of its records; an artifact has one of these. None stands for tensors.
        meta: the required part of its meta.
        fault_of: the fault of the fields of a record, or None.
        check_sizes: raises DamagedError for a meta that would build something larger than the file holds.
        shown_as: title of a record beside its photograph; empty if it is not shown.
        facts: from an artifact's settings and the artifact to its most important facts, in a few words each.
        measured: from the metrics of its scores to how they were measured, in a few words each.
    """

    kind: Kind
    schemas: tuple[Schema | None, ...]
    meta: type[Meta] = Meta
    fault_of: Callable[[Fields, Mapping[str, Any]], str | None] = _no_fault
    check_sizes: Callable[[Artifact, Any], None] = _any_size
    shown_as: str = ""
    facts: Callable[[Mapping[str, Any], Artifact], Sequence[str]] = lambda settings, artifact: ()
    measured: Callable[[Mapping[str, Any]], Sequence[str]] = lambda metrics: ()


@dataclass(frozen=True)
class Lack:
    """Something that a stage lacks, as far as that is known before it runs.

    Attributes:
        words: the missing thing and the remedy, as in an error.
        stops: whether the stage cannot run without it; otherwise it tries to download it.
    """

    words: str
    stops: bool = True


@dataclass(frozen=True, kw_only=True)
class Work:
    """How the artifacts of a stage are made.

    Attributes:
        command: the command that runs the stage.
        section: the name of its section, an attribute of `Settings`.
        run: makes the artifact or returns the cached one, from the section, `Inputs`, a store and
            `RunOptions` to the artifact.
        wanted: from a request to its recipes.
        roles: the artifacts that it starts from, by their role in the recipe, each with the kinds that it can be.
            The first role is the upstream artifact. Further artifacts beside it have its role and a number; one in
            the role "network" is used beside it.
        starts_from: from settings to the kind of artifact that it starts from in a chain; None for images.
        in_chain: whether it is in the chain of given settings.
        by_image: whether it works in segments of images, which shards divide; otherwise in steps of a training.
        ranks: whether several processes of torchrun can train it together.
        num_steps: of a training, from settings and the number of images to the number of steps.
        needs_truth: whether it reads ground truth; a chain leaves it out if images lack that.
        lacks: from a request and the images to missing things, without computing anything.
        foresees: from settings and recipe to the meta of the future artifact, except the split.
        reads: the parts of the image set that it reads in the role "images".
        domains: the domains of the images that a recipe reads in a role, beside the split.
        less_memory: flags with which it needs less memory.
        follows: commands that use its artifact, each with what it does; {} stands for the artifact.
    """

    command: str
    section: str
    run: Callable[..., Artifact]
    wanted: Callable[[Request], tuple[Config, Catalogue, Callable[[Any], Recipe]]]
    roles: Mapping[str, tuple[Kind, ...]]
    starts_from: Callable[[Settings], Kind | None]
    in_chain: Callable[[Settings], bool] = lambda settings: True
    by_image: bool = True
    ranks: bool = False
    num_steps: Callable[[Mapping[str, Any], Catalogue], int] = lambda settings, images: 0
    needs_truth: bool = False
    lacks: Callable[[Request, Catalogue], Lack | None] = lambda request, images: None
    foresees: Callable[[Any, Recipe], Mapping[str, Any]] = lambda config, recipe: {}
    reads: frozenset[Part] = frozenset({"images"})
    domains: Callable[[Recipe, str], Collection[Domain]] = lambda recipe, role: TARGET
    less_memory: str = "--workers 1"
    follows: tuple[str, ...] = ()

    def config(self, settings: Settings) -> Config:
        """Its section of the settings."""
        config = getattr(settings, self.section)
        assert isinstance(config, Config)
        return config


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage: its name, the version of its algorithm, its artifacts, and how they are made.

    Attributes:
        name: in recipes and in names of files.
        version: a number to raise by hand when results change for the same settings.
        title: its artifacts, in words.
        content: of its artifacts.
        work: how they are made; None if separate commands make them.
    """

    name: StageName
    version: int
    title: str
    content: Content
    work: Work | None = None

    @property
    def section(self) -> type[Config] | None:
        """The type of its settings; None for a stage without."""
        found = None if self.work is None else Settings.model_fields[self.work.section].annotation
        if found is None:
            return None
        assert isinstance(found, type)
        assert issubclass(found, Config)
        return found

    def recipe(self, config: Mapping[str, Any], inputs: Mapping[str, str], *, revision: int = 0) -> Recipe:
        """The recipe of an artifact of this stage, from the settings and the inputs that it depends on.

        Args:
            config: the settings.
            inputs: content ids or digests by role.
            revision: added to the version, for settings whose results have changed while those of all others have not,
                so that the other keys stay.
        """
        return Recipe(stage=self.name, version=self.version + revision, config=config, inputs=inputs)

    def imported(self, what: Mapping[str, Any], **inputs: str) -> Recipe:
        """The recipe of an imported artifact: how files were read, and their digests."""
        return Recipe(stage=self.name, version=IMPORT_VERSION, config={"imported": True, **what}, inputs=inputs)

    def ask(self, request: Request) -> "Wanted":
        """The request of a configuration to the stage."""
        assert self.work is not None, "commands of their own make these"
        config, images, recipe_of = self.work.wanted(request)
        return Wanted(self, tuple(map(recipe_of, settled(config))), images)

    def check(self, artifact: Artifact) -> None:
        """Check the meta of an artifact of this stage.

        Raises:
            DamagedError: the stage does not write such artifacts.
        """
        schema = artifact.manifest.get("schema")
        if schema not in [_as_json(one) for one in self.content.schemas]:
            raise damaged(artifact.path, "its records have other fields", f"those of {self.name}")
        try:
            meta = self.content.meta.model_validate(artifact.meta)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise damaged(artifact.path, f"its meta has {first['input']!r:.80} at {place}", first["msg"]) from None
        self.content.check_sizes(artifact, meta)


@dataclass(frozen=True)
class Wanted:
    """A request of a configuration to a stage.

    Attributes:
        of: the stage.
        recipes: any of these counts, since the machine that runs the stage resolves a precision of "auto".
        images: the images that it reads.
    """

    of: Stage
    recipes: tuple[Recipe, ...]
    images: Catalogue

    @property
    def stage(self) -> str:
        """The name of the stage."""
        return self.of.name

    @property
    def num_segments(self) -> int | None:
        """The number of segments; None for trainings."""
        return len(segments_of(self.images.ids)) if self._work.by_image else None

    @property
    def num_steps(self) -> int:
        """The number of steps of a training."""
        return self._work.num_steps(self.recipes[0].config, self.images)

    @property
    def _work(self) -> Work:
        assert self.of.work is not None, "commands of their own make these"
        return self.of.work

    def found(self, store: Store) -> Artifact | None:
        """Its artifact, if it is in the store."""
        return next(filter(None, map(store.find, self.recipes)), None)

    def begun(self, store: Store) -> Begun | None:
        """Its unfinished work, if any is in the store."""
        return next(filter(None, map(store.begun, self.recipes)), None)

    def num_left(self, begun: Begun | None) -> int:
        """The number of images, or of steps of a training, that are left to do."""
        if self.num_segments is None:
            return max(0, self.num_steps - ((begun and begun.step) or 0))
        return max(0, len(self.images) - SEGMENT_SIZE * (begun.num_segments if begun else 0))

    def resumes(self, begun: Begun) -> str:
        """The point at which it would resume, in words."""
        if self.num_segments is None:
            return f"resumes from step {begun.step} of {self.num_steps}"
        return f"resumes from {begun.num_segments} of {counted(self.num_segments, 'segment')}"

    def expected(self, settings: Settings) -> Expected:
        """The facts of its artifact that are known beforehand."""
        recipe = self.recipes[0]
        words = f"the result of `mcis {self._work.command}`, not made yet ({recipe.key[:8]})"
        meta = {"split": self.images.split_name, **self._work.foresees(self._work.config(settings), recipe)}
        return Expected(self.stage, words, meta, self.images.ids)


def further_inputs(recipe: Recipe) -> list[str]:
    """The ids of further artifacts beside the upstream one: those whose role has a number."""
    return [digest for role, digest in sorted(recipe.inputs.items()) if " " in role]


def settled(config: AnyConfig) -> Iterator[AnyConfig]:
    """The settings with each precision that "auto" may become, on this machine or another."""
    if getattr(config, "precision", None) != "auto":
        yield config
        return
    for precision in ("bf16", "fp32"):
        yield config.model_copy(update={"precision": precision})


def find(store: Store, config: AnyConfig, recipe_of: Callable[[AnyConfig], Recipe]) -> Artifact | None:
    """The artifact of these settings, if it is in the store; "auto" accepts any precision."""
    return next(filter(None, (store.find(recipe_of(one)) for one in settled(config))), None)


def _as_json(schema: Schema | None) -> dict[str, list[str | int]] | None:
    """A schema as a manifest has it."""
    return None if schema is None else {name: list(field) for name, field in schema.items()}
