"""`cams`: a classifier becomes localization maps, single-round or multi-round (paper §3.2)."""

from collections.abc import Mapping

from mcis_cli.config import CamsConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import counted
from mcis_cli.stages import recipes
from mcis_cli.stages.inputs import Inputs, images_of, warn_if_changed
from mcis_cli.stages.segmented import run_segments
from mcis_cli.store import Artifact, Recipe, Store


def run(config: CamsConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the maps, or return them if that was done before.

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
        DataError: an image cannot be read, or has changed.
    """
    classifier = inputs.expect("train-cls")
    config = recipes.settled_cams(config, classifier)
    catalogue = images_of(classifier, inputs.data, store)
    carriers = catalogue.split(classifier.meta["split"])
    split = config.split or classifier.meta["split"]
    images = carriers if split == carriers.split_name else catalogue.split(split)
    warn_if_changed(classifier, carriers, options.reporter)

    def recipe_of(settled: CamsConfig) -> Recipe:
        return recipes.cams(settled, classifier.id, images, carriers)

    if done := recipes.find(store, config, recipe_of):
        return done
    # From here on a network computes: what is done is found without waiting for torch.
    from mcis_cli.stages.features import FeatureCache
    from mcis_cli.stages.mapping import SCHEMA, Mapper
    from mcis_cli.stages.networks import place, stored_classifier
    from mcis_cli.stages.scratch import Scratch
    from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

    device = choose_device(options.device, options.local)
    precision = choose_precision(config.precision, device)
    config = config.model_copy(update={"precision": precision})
    model = stored_classifier(classifier)
    place(model, device)
    model.eval()
    assert config.image_size is not None, "settled above"
    _tell_short_classes(images, carriers, config, options)
    with Scratch(store.scratch_folder, options.scratch_mb * 2**20) as scratch:
        cache = FeatureCache(
            model,
            catalogue.read_image,
            image_size=config.image_size,
            device=device,
            precision=precision,
            budget=options.cache_mb * 2**20,
            scratch=scratch,
        )
        mapper = Mapper(model, cache, config, carriers)
        return run_segments(
            recipe_of(config),
            store,
            options,
            schema=SCHEMA,
            ids=images.ids,
            compute=lambda ids: mapper.records([images[image_id] for image_id in ids], options.workers),
            meta=lambda: {
                "dataset": catalogue.id,
                "split": split,
                "class_names": list(catalogue.class_names),
                "num_references": config.refs,
                "localization": config.localization,
                "initialisation": classifier.meta["initialisation"],
                "image_size": config.image_size,
            },
            machine=describe_machine(device, precision),
        )


def without_effect(config: CamsConfig, given: Mapping[str, object]) -> list[str]:
    """The settings among those given that the chosen kind of map does not use."""
    unused = {"scales", "flip"} if config.localization == "released" else set()
    if not config.refs:
        unused.add("with_contrastive")
    return sorted(name for name, value in given.items() if value and name in unused)


def _tell_short_classes(images: Catalogue, carriers: Catalogue, config: CamsConfig, options: RunOptions) -> None:
    for index, name in enumerate(carriers.class_names):
        mapped, pool = images.carriers(index), set(carriers.carriers(index))
        excludes_itself = not config.reference_self and not pool.isdisjoint(mapped)
        num_others = len(pool) - excludes_itself
        enough = num_others >= config.refs or (config.reference_replacement and num_others > 0)
        if mapped and not enough:
            options.reporter.warn(
                f"class {name} has {counted(len(pool), 'image')} to draw references from: found {num_others} for its "
                f"maps, expected {config.refs} (--refs)"
            )
