"""`cams`: a classifier becomes localization maps, single-round or multi-round (paper §3.2)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter

from mcis_cli.config import CamsConfig, RunOptions
from mcis_cli.data.catalogue import DOMAINS, Catalogue
from mcis_cli.errors import UsageError, counted, first_few
from mcis_cli.stages.cams.declaration import SCHEMA, completed, images_and_carriers, recipe
from mcis_cli.stages.engine.by_image import Joined, SegmentedWork, Work, require_segment, run_together
from mcis_cli.stages.engine.evidence import note_left_out
from mcis_cli.stages.engine.inputs import Inputs, images_of, warn_if_changed
from mcis_cli.stages.stage import settled
from mcis_cli.store import Artifact, Recipe, Store


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
    passes = {
        (
            one.split,
            one.domains,
            one.reference_domains,
            one.image_size,
            one.precision,
            one.localization == "accumulated",
        )
        for one in configs
    }
    assert len(passes) == 1, "settings of one pass"
    if any(config.refine for config in configs) and not classifier.meta["model"].get("equivariant", False):
        raise UsageError(
            f"maps of {classifier.path.name} cannot be refined: found a classifier without pixel correlation, expected "
            "one of `mcis train-cls --equivariant`; give --set cams.refine=false"
        )
    if configs[0].localization == "accumulated" and "kept_epochs" not in classifier.meta["model"]:
        raise UsageError(
            f"maps of {classifier.path.name} cannot be accumulated: found the weights after its last epoch alone; "
            "train it with --set train-cls.keep_epochs=true, or give --set cams.localization=references"
        )
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
    return _compute(configs, recipe_of, classifier, catalogue, carriers, images, store, options)


def _warn_of_untrained_weights(configs: Sequence[CamsConfig], classifier: Artifact, options: RunOptions) -> None:
    """Refuse maps that need an untrained part: the basic loss trains neither W_P nor a second head. With
    `affinity_scale`, P is a similarity and needs no training."""
    model = classifier.meta["model"]
    meant = model.get("affinity_scale") is not None and model["heads"] == "shared"
    if classifier.meta.get("loss") != "basic" or meant:
        return
    if any(config.refs or config.localization == "released" for config in configs):
        untrained = "W_P" if model["heads"] == "shared" else "W_P and a second head"
        options.reporter.warn(
            f"{classifier.path.name} was trained with --loss basic: these maps use {untrained} as drawn at the start; "
            "give --refs 0 with --set cams.localization=references, or train with --loss co-attention or --loss full"
        )


def _compute(
    configs: Sequence[CamsConfig],
    recipe_of: Callable[[CamsConfig], Recipe],
    classifier: Artifact,
    catalogue: Catalogue,
    carriers: Catalogue,
    images: Catalogue,
    store: Store,
    options: RunOptions,
) -> list[Artifact]:
    require_segment(images.ids, options)
    # Cached artifacts are found without waiting for torch.
    from mcis_cli.stages.cams.features import FeatureCache
    from mcis_cli.stages.cams.mapping import Mapper
    from mcis_cli.stages.cams.similarity import Nearest
    from mcis_cli.stages.engine.networks import place, stored_classifier
    from mcis_cli.stages.engine.scratch import Scratch, folder_name
    from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

    device = choose_device(options.device, options.local)
    precision = choose_precision(configs[0].precision, device)
    model = stored_classifier(classifier)
    place(model, device)
    model.eval()
    image_size = configs[0].image_size
    assert image_size is not None, "settled above"
    reporter = Joined(options.reporter)

    def begin(config: CamsConfig, cache: FeatureCache, nearest: Nearest | None) -> Work:
        compares = config.refs > 0 and config.reference_choice == "nearest"
        mapper = Mapper(model, cache, config, carriers, nearest if compares else None)
        return SegmentedWork(
            recipe_of(config),
            store,
            replace(options, reporter=reporter),
            schema=SCHEMA,
            ids=images.ids,
            prepare=mapper.nearest.prepare if mapper.nearest else None,
            compute=lambda ids: mapper.records([images[image_id] for image_id in ids], options.workers),
            meta=lambda: {
                "dataset": catalogue.id,
                "split": images.split_name,
                "class_names": list(catalogue.class_names),
                "num_references": config.refs,
                "localization": config.localization,
                "initialisation": classifier.meta["initialisation"],
                "image_size": config.image_size,
                **({} if images.domains <= {"target"} else {"domains": list(config.domains)}),
            },
            machine=describe_machine(device, precision),
        ).steps()

    settled = [config.model_copy(update={"precision": precision}) for config in configs]
    by_key = {recipe_of(config).key: config for config in settled}
    embeds = any(config.refine for config in configs)
    accumulates = configs[0].localization == "accumulated"
    views = {"image_size": image_size, "embeds": embeds, **({"accumulates": True} if accumulates else {})}
    made_from = {"classifier": classifier.id, "images": catalogue.digest("images")}
    folder = store.scratch_folder / folder_name(views, made_from, describe_machine(device, precision))
    with Scratch(folder, options.scratch_mb * 2**20, is_shared=options.shard is not None) as scratch:
        cache = FeatureCache(
            model,
            catalogue.read_image,
            image_size=image_size,
            device=device,
            precision=precision,
            budget=options.cache_mb * 2**20,
            scratch=scratch,
            embeds=embeds,
            num_labels=(lambda image_id: len(catalogue[image_id].labels)) if accumulates else None,
        )
        nearest = None  # reads no image before maps that need it are made
        if most := max((one.refs for one in by_key.values() if one.reference_choice == "nearest"), default=0):
            nearest = Nearest(cache, images, carriers, num_references=most, options=options)
        # In the order of their keys, so that two processes with the same work never wait for each other in a circle.
        made = run_together({key: begin(by_key[key], cache, nearest) for key in sorted(by_key)})
    reporter.announce()
    return [made[recipe_of(config).key] for config in settled]


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
