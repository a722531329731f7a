"""The inputs of a stage, and the images behind an artifact.

Artifacts name their data set by content; the store remembers its folder on this machine. Every stage lists that folder
again (unchanged files are not read again), so masks or saliency maps that are added later are seen, and changed images
are noticed.
"""

from dataclasses import dataclass

from mcis_cli.config import DataConfig, Reporter
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.places import resolved
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.stages import check, command_of, names_of
from mcis_cli.stages.materials import dataset_recipe
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact, StatCache, Store, segments_of


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a stage.

    Attributes:
        upstream: the artifact of the stage before.
        data: where the images are; None for the folder in which the upstream artifact's images were listed.
        saliency: saliency maps that were made or imported; None for those of the image set.
        network: the affinity network of the walk, or a segmentation network whose predictions are used beside maps.
        more: further artifacts of the same kind as the upstream artifact.
        corrected: corrected masks, which override those that are made.
    """

    upstream: Artifact | None = None
    data: DataConfig | None = None
    saliency: Artifact | None = None
    network: Artifact | None = None
    more: tuple[Artifact, ...] = ()
    corrected: Artifact | None = None

    def expect(self, *kinds: Kind) -> Artifact:
        """The upstream artifact, which must be of one of these kinds.

        Raises:
            MissingError: there is none.
            UsageError: it is of another kind.
            DamagedError: it is not what its stage writes.
        """
        stages = names_of(*kinds)
        wanted = " or ".join(stages)
        if self.upstream is None:
            raise MissingError(
                f"nothing to work on: expected an artifact of {wanted}; run `mcis {command_of(stages[0])}` first"
            )
        if self.upstream.stage not in stages:
            raise UsageError(
                f"{self.upstream.path.name} was made by {self.upstream.stage}: expected an artifact of {wanted}; "
                f"`mcis ls` lists all"
            )
        check(self.upstream)
        return self.upstream


def look_at_images(data: DataConfig, store: Store) -> Catalogue:
    """The image set in a folder, for commands that write nothing, not even remembered facts of its files.

    Raises:
        DataError: the folder holds no image set, or a broken one.
    """
    with StatCache(store.index_path, read_only=True) as cache:
        return read_catalogue(data, cache)


def list_images(data: DataConfig, store: Store) -> Catalogue:
    """The image set in a folder, sealed as a `dataset` artifact and its place remembered.

    Raises:
        DataError: the folder holds no image set, or a broken one.
    """
    with StatCache(store.index_path) as cache:
        catalogue = read_catalogue(data, cache)
    recipe = dataset_recipe(catalogue)
    listed = store.find(recipe)
    if listed is None:
        from mcis_cli.data.records import as_records, meta, schema_of

        with store.begin(recipe) as partial:
            segments, schema = segments_of(catalogue.ids), schema_of(catalogue)
            for index, ids in enumerate(segments):
                partial.write_segment(index, schema, as_records(catalogue.only(ids), schema))
            listed = partial.seal(schema, len(segments), meta(catalogue), {})
    store.keep(listed)  # no recipe names it
    store.set_location(catalogue.id, _resolved(data).model_dump(mode="json"))
    return catalogue


def _resolved(data: DataConfig) -> DataConfig:
    """The same place, wherever a command is run."""
    sources = tuple(source.model_copy(update={"root": resolved(source.root)}) for source in data.sources)
    return data.model_copy(update={"root": resolved(data.root), "sources": sources})


def images_of(artifact: Artifact, data: DataConfig | None, store: Store) -> Catalogue:
    """All images of the data set that an artifact was made from (or of `data`, if given).

    Raises:
        MissingError: the place of the data set is unknown.
        DataError: its classes have changed, so the artifact's classes would be read as others.
    """
    catalogue = list_images(data or place_of(artifact, store), store)
    _refuse_other_classes(artifact, catalogue)
    return catalogue


def look_behind(artifact: Artifact, data: DataConfig | None, store: Store) -> Catalogue:
    """As `images_of`, without writing anything."""
    catalogue = look_at_images(data or place_of(artifact, store), store)
    _refuse_other_classes(artifact, catalogue)
    return catalogue


def place_of(artifact: Artifact, store: Store) -> DataConfig:
    """The last known folder of the images behind an artifact.

    Raises:
        MissingError: it is unknown.
    """
    place = DataConfig.remembered(store.location(artifact.meta["dataset"]))
    if place is None:
        raise MissingError(
            f"the images behind {artifact.path.name} are not known in this store; name their folder with --data"
        )
    return place


def _refuse_other_classes(artifact: Artifact, catalogue: Catalogue) -> None:
    expected, found = list(artifact.meta["class_names"]), list(catalogue.class_names)
    if found != expected:
        place = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
        at = "" if place is None else f", the first of them {found[place]!r} where {expected[place]!r} was"
        raise DataError(
            f"the classes of {catalogue.root} are not those of {artifact.path.name}: found {len(found)}{at}, expected "
            f"the {len(expected)} that it was made with; name them in their order with --set data.classes=[...], or "
            "start again with `mcis train-cls`"
        )


def warn_if_changed(artifact: Artifact, images: Catalogue, reporter: Reporter) -> None:
    """Warn if images or tags are not those that the artifact was made from; masks of maps ignore tags."""
    if artifact.inputs.get("images") not in (images.digest("images", "labels"), images.digest("images")):
        reporter.warn(
            f"images or tags have changed since {artifact.path.name} was made; "
            f"run `mcis {artifact.stage}` again to make use of it"
        )
