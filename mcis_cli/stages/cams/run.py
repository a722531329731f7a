"""`cams`: a classifier becomes localization maps, single-round or multi-round (paper §3.2)."""

from collections.abc import Sequence
from operator import itemgetter

from mcis_cli.config import CamsConfig, RunOptions
from mcis_cli.data.catalogue import DOMAINS, Catalogue
from mcis_cli.errors import UsageError, counted, first_few
from mcis_cli.stages.cams.declaration import completed, images_and_carriers, recipe
from mcis_cli.stages.engine.by_image import require_segment
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.evidence import note_left_out
from mcis_cli.stages.engine.inputs import Inputs, images_of, warn_if_changed
from mcis_cli.stages.stage import settled
from mcis_cli.store import Artifact, Recipe, Store

OF_A_PASS = ("split", "domains", "reference_domains", "image_size", "precision")


def run(config: CamsConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the maps, or return the cached ones.

    A record holds, for the n classes that an image is tagged with: `classes` (n), indices into the artifact's class
    names; `maps` (n, h, w), unnormalised, at the resolution of the network; `references`, JSON from class name to the
    ids of the references used.

    Args:
        config: settings.
        inputs: a classifier.
        store: where the artifact goes.
        options: how to run on this machine; `cache_mb` bounds the features kept in memory, `scratch_mb` those on disk.

    Raises:
        MissingError: no classifier, or its images are not found.
        UsageError: maps must be refined and the classifier is not equivariant, or accumulated and it has no epochs.
        DataError: an image cannot be read, or has changed.
    """
    return run_all([config], inputs, store, options)[0]


@in_segments
def run_all(configs: Sequence[CamsConfig], inputs: Inputs, store: Store, options: RunOptions) -> list[Artifact]:
    """Make maps with several settings in one pass over the images, each an artifact of its own; see `run`.

    The network computes each view of an image once for all of them, so a comparison (of numbers of references, or
    contrastive maps) costs little more than its most expensive part.

    Args:
        configs: settings that agree in split, domains, size of the images, precision, and whether maps are accumulated.
        inputs: a classifier.
        store: where the artifacts go.
        options: how to run on this machine.

    Returns:
        The artifacts in the order of the settings.
    """
    classifier = inputs.expect("classifier")
    configs = [completed(config, classifier) for config in configs]
    agree = {tuple(getattr(one, name) for name in OF_A_PASS) for one in configs}
    assert len(agree) == len({one.localization == "accumulated" for one in configs}) == 1, "settings of one pass"
    _require_weights(configs, classifier)
    _warn_of_untrained_weights(configs, classifier, options)
    catalogue = images_of(classifier, inputs.data, store)
    images, carriers = images_and_carriers(configs[0], catalogue, classifier)
    warn_if_changed(classifier, catalogue.split(classifier.meta["split"], DOMAINS), options.reporter)
    asked = catalogue.split(configs[0].split or classifier.meta["split"], configs[0].domains)
    note_left_out("maps", asked, images, options.reporter)

    def recipe_of(settled: CamsConfig) -> Recipe:
        return recipe(settled, classifier.id, images, carriers)

    # Maps that are compared need one precision. If it is "auto", existing maps are used if all of them exist in it.
    for of_one in zip(*map(settled, configs), strict=True):
        done = [found for one in of_one if (found := store.find(recipe_of(one)))]
        if len(done) == len(configs):
            return done
    _tell_short_classes(images, carriers, max(configs, key=lambda config: config.refs), options)
    require_segment(images.ids, options)
    from mcis_cli.stages.cams.single_pass import SinglePass  # cached artifacts are found without waiting for torch

    return SinglePass(classifier, catalogue, images, carriers, store, options).maps(configs, recipe_of)


def _require_weights(configs: Sequence[CamsConfig], classifier: Artifact) -> None:
    """Check that the classifier has what its maps need."""
    if any(config.refine for config in configs) and not classifier.meta["model"].get("equivariant", False):
        raise UsageError(
            f"maps of {classifier.path.name} cannot be refined: found a classifier without pixel correlation, expected "
            "one of `mcis train-cls --equivariant`; give --set cams.refine=false"
        )
    if configs[0].localization == "accumulated" and "kept_epochs" not in classifier.meta["model"]:
        raise UsageError(
            f"maps of {classifier.path.name} cannot be accumulated: it kept only the weights after its last epoch; "
            "train it with --set train-cls.keep_epochs=true, or give --set cams.localization=references"
        )


def _warn_of_untrained_weights(configs: Sequence[CamsConfig], classifier: Artifact, options: RunOptions) -> None:
    """Warn of maps that use an untrained part: the basic loss trains neither W_P nor a second head. With
    `affinity_scale`, P is a similarity and needs no training."""
    model = classifier.meta["model"]
    meant = model.get("affinity_scale") is not None and model["heads"] == "shared"
    if classifier.meta.get("loss") != "basic" or meant:
        return
    if any(config.refs or config.localization == "released" for config in configs):
        untrained = "W_P" if model["heads"] == "shared" else "W_P and a second head"
        options.reporter.warn(
            f"{classifier.path.name} was trained with --loss basic, so these maps use {untrained} with random weights; "
            "give --refs 0 with --set cams.localization=references, or train with --loss co-attention or --loss full"
        )


def _tell_short_classes(images: Catalogue, carriers: Catalogue, config: CamsConfig, options: RunOptions) -> None:
    draws = config.reference_choice == "random"
    short = {}
    for index, name in enumerate(carriers.class_names):
        mapped, pool = images.carriers(index), set(carriers.carriers(index))
        excludes_itself = not (draws and config.reference_self) and not pool.isdisjoint(mapped)
        num_others = len(pool) - excludes_itself
        enough = num_others >= config.refs or (draws and config.reference_replacement and num_others > 0)
        if mapped and not enough:
            short[name] = num_others
    if short:
        found = first_few(f"{number} for {name}" for name, number in sorted(short.items(), key=itemgetter(1, 0)))
        options.reporter.warn(
            f"{counted(len(short), 'class', 'classes')} with few images to take references from: found {found}, "
            f"expected {config.refs} (--refs)"
        )
