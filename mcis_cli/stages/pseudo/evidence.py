"""The inputs of pseudo masks: maps, a segmentation network in a second round, or both; and imported saliency."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcis_cli.config import SUPERPIXELS, PseudoConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import UsageError, counted, first_few
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.engine.evidence import note_left_out
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.pseudo.declaration import lacking_package, network_recipe, recipe, with_corrected
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.pseudo.regions.files import RegionFiles, list_files
from mcis_cli.store import Artifact, Recipe, Store


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The inputs of a run of the stage.

    Attributes:
        config: settings.
        options: how to run on this machine.
        catalogue: the image set.
        images: those that get masks, without unlabelled ones.
        maps: localization maps, or those after their walk; None in a second round without maps.
        network: a segmentation network; None in a first round.
        saliency: saliency maps that were made or imported; None for those of the image set.
        regions: files of regions; None without any.
        corrected: masks that override those that are made; None without any.
    """

    config: PseudoConfig
    options: RunOptions
    catalogue: Catalogue
    images: Catalogue
    maps: Artifact | None
    network: Artifact | None
    saliency: Artifact | None
    regions: RegionFiles | None
    corrected: Artifact | None = None

    @property
    def source(self) -> Artifact:
        """The artifact that masks are named for: the maps, or without them the network."""
        source = self.maps or self.network
        assert source is not None, "found when it was opened"
        return source

    def recipe(self, config: PseudoConfig) -> Recipe:
        """The masks of this evidence with such settings."""
        saliency, network = (artifact.id if artifact else None for artifact in (self.saliency, self.network))
        regions = self.regions.digest if self.regions else None
        if self.maps is None:
            made = network_recipe(config, self.source.id, self.images, regions)
        else:
            made = recipe(config, self.maps.id, self.images, saliency, network, regions)
        return with_corrected(made, self.corrected.id if self.corrected else None)

    @property
    def corrected_ids(self) -> list[str]:
        """The images whose mask was corrected."""
        return [] if self.corrected is None else sorted({*self.corrected.ids} & {*self.images.ids})

    def material(self, image_id: str) -> Material:
        """The maps of an image, before any cue, and the image itself if a CRF or regions need it."""
        entry = self.images[image_id]
        maps, classes = None, entry.labels
        if self.maps is not None:
            fields = read_record(self.maps, image_id)
            maps, classes = fields["maps"].astype(np.float32), tuple(fields["classes"].tolist())
        image = self.images.read_image(image_id) if self.config.crf or self.config.regions in SUPERPIXELS else None
        region_file = self.regions.read(image_id) if self.regions else None
        names = tuple(self.images.class_names[index] for index in classes)
        size = (entry.height, entry.width)
        return Material(image_id, maps, classes, size, image=image, region_file=region_file, names=names)


def open_evidence(config: PseudoConfig, inputs: Inputs, store: Store, options: RunOptions) -> Evidence:
    """Check the inputs of the stage.

    Raises:
        MissingError: there is no input, or its images are not found.
        UsageError: an input is of another stage, or does not fit the settings or the other inputs.
        DataError: none of its images is labelled.
    """
    source = inputs.expect("maps", "walked maps", "network")
    is_network = holds(source, "network")
    if not is_network:
        _check_maps(config, source, inputs.network)
    saliency = inputs.saliency if config.background == "saliency" and not is_network else None
    if saliency is not None:
        if not holds(saliency, "saliency maps"):
            raise UsageError(
                f"{saliency.path.name} was made by {saliency.stage}: expected saliency maps; `mcis saliency` makes them"
            )
        check(saliency)
    catalogue = images_of(source, inputs.data, store)
    given = catalogue.split(source.meta["split"]) if is_network else catalogue.only(source.ids, source.meta["split"])
    images = given.labelled()
    note_left_out("pseudo masks", given, images, options.reporter)
    if inputs.corrected is not None:
        _check_corrected(inputs.corrected, source, images)
    if unknown := sorted(config.class_weights.keys() - {*images.class_names}):
        raise UsageError(
            f"pseudo.class_weights names {first_few(unknown)}: expected classes of the image set, "
            f"{first_few(images.class_names)}"
        )
    return Evidence(
        config=config,
        options=options,
        catalogue=catalogue,
        images=images,
        maps=None if is_network else source,
        network=source if is_network else inputs.network,
        saliency=saliency,
        regions=_regions(config, images, store),
        corrected=inputs.corrected,
    )


def _regions(config: PseudoConfig, images: Catalogue, store: Store) -> RegionFiles | None:
    if lack := lacking_package(config):
        raise UsageError(lack)
    if config.regions is None or config.regions in SUPERPIXELS:
        return None
    return list_files(Path(config.regions), images, store)


def _check_corrected(corrected: Artifact, source: Artifact, images: Catalogue) -> None:
    if not holds(corrected, "corrected masks"):
        raise UsageError(
            f"--corrected {corrected.path.stem} was made by {corrected.stage}: expected corrected masks; "
            "`mcis import --corrected PATH` makes them"
        )
    check(corrected)
    if corrected.meta["class_names"] != source.meta["class_names"]:
        raise UsageError(
            f"--corrected {corrected.path.stem} has other classes than {source.path.stem}: expected the same, in the "
            "same order; import the masks again"
        )
    if not {*corrected.ids} & {*images.ids}:
        raise UsageError(
            f"--corrected {corrected.path.stem} has no mask of the {len(images)} images that get masks: expected one "
            "or more; give the maps of the same images"
        )


def _check_maps(config: PseudoConfig, maps: Artifact, network: Artifact | None) -> None:
    if config.background == "affinity" and not holds(maps, "walked maps"):
        raise UsageError(
            f"--background affinity compares maps after their walk, found those of {maps.path.name}: expected an "
            "artifact of affinity; run `mcis affinity` on them first"
        )
    if network is None:
        return
    if not holds(network, "network"):
        raise UsageError(
            f"--network {network.path.stem} was made by {network.stage}: expected a segmentation network, an artifact "
            "of train-seg; `mcis ls` lists all"
        )
    if network.meta["class_names"] != maps.meta["class_names"]:
        known, expected = (artifact.meta["class_names"] for artifact in (network, maps))
        raise UsageError(
            f"--network {network.path.stem} knows {counted(len(known), 'class', 'classes')}, not those of "
            f"{maps.path.stem}, which has {len(expected)}: expected the same, in the same order"
        )
    if config.fusion != "soft":
        raise UsageError(
            f"--network weighs probabilities, found --fusion {config.fusion}, which has none: give --fusion soft"
        )
    check(network)
