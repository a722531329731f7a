"""`pseudo`: localization maps become pseudo masks, with a background cue from saliency or from the maps themselves.

In a second round, a segmentation network that learned from earlier masks is asked as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from mcis_cli.config import PseudoConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import Workers
from mcis_cli.errors import DataError, UsageError, counted, first_few
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.engine.by_image import ByImage, run_segments
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.pseudo.declaration import SCHEMA, recipe
from mcis_cli.stages.pseudo.fusing import Material, make_mask
from mcis_cli.stages.pseudo.masks import (
    Ignored,
    predictions,
    settled_here,
    tell_ignored,
    tell_untagged,
)
from mcis_cli.stages.pseudo.trust import class_trust
from mcis_cli.stages.stage import find
from mcis_cli.store import Artifact, Recipe, Record, Store


def run(config: PseudoConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the masks, or return them if that was done before.

    A record holds `mask` (H, W) at the image's size: 0 background, k + 1 class k, 255 to be ignored; and `classes`.

    Args:
        config: settings.
        inputs: localization maps, or those after their walk, which `background = "affinity"` asks for; for a second
            round a segmentation network too.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no maps, or their images are not found.
        UsageError: walked maps are asked for, and these are others; the network is none, of other classes, or given
            with hard fusion.
        DataError: saliency is asked for and missing for some images.
    """
    maps = _maps(config, inputs)
    network = _network(config, inputs, maps)
    catalogue = images_of(maps, inputs.data, store)
    images = catalogue.only(maps.ids)
    saliency = _imported_saliency(config, inputs)
    without_saliency = _check_saliency(images, config, options, saliency)
    tell_untagged(images, options.reporter)

    def recipe_of(settled: PseudoConfig) -> Recipe:
        seen_by = network.id if network else None
        return recipe(settled, maps.id, images, saliency.id if saliency else None, seen_by)

    if (done := find(store, config, recipe_of)) is None:
        machine: Mapping[str, Any] | None = None
        if network is not None:
            config, machine = settled_here(config, options)
        ignored, making = Ignored(), _making(config, maps, images, saliency, network, options)
        with making.workers:
            done = run_segments(
                recipe_of(config),
                store,
                options,
                schema=SCHEMA,
                ids=maps.ids,
                compute=making.records,
                meta=lambda: {
                    "dataset": catalogue.id,
                    "split": maps.meta["split"],
                    "class_names": list(catalogue.class_names),
                    "background": config.background,
                    "initialisation": maps.meta["initialisation"],
                },
                machine=machine,
                observe=ignored.add,
                observed={"ignored": ignored.facts},
            )
    _tell_ignored(done, without_saliency, options)
    return done


def _making(
    config: PseudoConfig,
    maps: Artifact,
    images: Catalogue,
    saliency: Artifact | None,
    network: Artifact | None,
    options: RunOptions,
) -> ByImage:
    trust = _trust(config, maps, images, saliency, options)

    def material(image_id: str) -> Material:
        plain = _material(config, image_id, read_record(maps, image_id), images, saliency)
        if trust is None or plain.saliency is None:
            return plain
        return replace(plain, trust=tuple(trust[index] for index in plain.classes))

    if network is not None:  # it predicts in this process, one image after the other
        predict = predictions(config, network, options)

        def seen(image_id: str) -> Material:
            plain = material(image_id)
            image = images.read_image(image_id) if plain.image is None else plain.image
            return replace(plain, predicted=predict(image, plain.classes))

        crf: Workers[Any, Record] = Workers(
            partial(make_mask, config), options.workers if config.crf else 0, processes=True
        )
        return ByImage(crf, lambda ids: map(seen, ids))
    # Only the CRF is worth processes; the rest is NumPy and Pillow, which let threads run side by side.
    if config.crf:
        workers: Workers[Any, Record] = Workers(partial(make_mask, config), options.workers, processes=True)
        return ByImage(workers, lambda ids: map(material, ids))
    return ByImage(Workers(lambda image_id: make_mask(config, material(image_id)), options.workers), lambda ids: ids)


def _trust(
    config: PseudoConfig, maps: Artifact, images: Catalogue, saliency: Artifact | None, options: RunOptions
) -> tuple[float, ...] | None:
    if not config.trusted_correlation or config.background != "saliency" or config.fusion != "soft":
        return None
    unseen = config.model_copy(update={"crf": False})  # which would want the photographs
    look = lambda image_id: _material(unseen, image_id, read_record(maps, image_id), images, saliency)  # noqa: E731
    return class_trust(config, maps.ids, look, images.class_names, options)


def _material(
    config: PseudoConfig,
    image_id: str,
    fields: dict[str, NDArray[np.generic]],
    images: Catalogue,
    saliency: Artifact | None,
) -> Material:
    entry = images[image_id]
    return Material(
        image_id=image_id,
        maps=fields["maps"].astype(np.float32),
        classes=tuple(fields["classes"].tolist()),
        size=(entry.height, entry.width),
        saliency=_saliency_of(image_id, images, saliency) if config.background == "saliency" else None,
        image=images.read_image(image_id) if config.crf else None,
    )


def _maps(config: PseudoConfig, inputs: Inputs) -> Artifact:
    maps = inputs.expect("maps", "walked maps")
    if config.background == "affinity" and not holds(maps, "walked maps"):
        raise UsageError(
            f"--background affinity compares maps after their walk, found those of {maps.path.name}: expected an "
            "artifact of affinity; run `mcis affinity` on them first"
        )
    return maps


def _network(config: PseudoConfig, inputs: Inputs, maps: Artifact) -> Artifact | None:
    network = inputs.network
    if network is None:
        return None
    if not holds(network, "network"):
        raise UsageError(
            f"--network {network.path.stem} was made by {network.stage}: expected a segmentation network, an artifact "
            "of train-seg; `mcis ls` shows what there is"
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
    return network


def _imported_saliency(config: PseudoConfig, inputs: Inputs) -> Artifact | None:
    found = inputs.saliency if config.background == "saliency" else None
    if found is not None and found.stage != "saliency":
        raise UsageError(
            f"{found.path.name} was made by {found.stage}: expected saliency maps; `mcis saliency` makes them"
        )
    if found is not None:
        check(found)
    return found


def _saliency_of(
    image_id: str, images: Catalogue, imported: Artifact | None
) -> Float32[np.ndarray, "height width"] | None:
    entry = images[image_id]
    if imported is None:
        return images.read_saliency(image_id) if entry.saliency is not None else None
    if image_id not in imported:
        return None
    saliency = imported.read(image_id)["saliency"]
    if saliency.shape != (entry.height, entry.width):
        raise DataError(
            f"the saliency map of {image_id!r} in {imported.path.name} is of another image: found {saliency.shape}, "
            f"expected {(entry.height, entry.width)}; make or import the maps again"
        )
    return saliency.astype(np.float32) / np.float32(255)


def _check_saliency(
    images: Catalogue, config: PseudoConfig, options: RunOptions, imported: Artifact | None
) -> list[str]:
    if config.background != "saliency":
        return []
    if imported is not None:
        missing = sorted(set(images.ids) - set(imported.ids))
    else:
        missing = [entry.id for entry in images.entries if entry.saliency is None]
    if missing and not config.allow_missing_saliency:
        fault = (
            f"saliency missing for {len(missing)} of {len(images.ids)} images ({first_few(missing)}): expected a map "
            "each; give --saliency FOLDER, --background constant, or --allow-missing-saliency to ignore these images"
        )
        raise DataError(f"{fault}; `mcis saliency` makes maps")
    return missing


def _tell_ignored(masks: Artifact, without_saliency: Sequence[str], options: RunOptions) -> None:
    tell_ignored(masks, options.reporter)
    if without_saliency:
        options.reporter.warn(
            f"ignored for want of a saliency map: {len(without_saliency)}: {first_few(without_saliency)}"
        )
