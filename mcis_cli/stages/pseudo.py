"""`pseudo`: localization maps become pseudo masks, with a background cue from saliency or from the maps themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from mcis_cli.config import PseudoConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import ordered_map
from mcis_cli.errors import DataError
from mcis_cli.maps.crf import refine_mask
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import IGNORE_INDEX, fuse_constant, fuse_power, fuse_saliency, is_ignored
from mcis_cli.stages import recipes
from mcis_cli.stages.inputs import Inputs, images_of
from mcis_cli.stages.segmented import run_segments
from mcis_cli.store import Artifact, Record, Schema, Store

SCHEMA: Schema = {"mask": ("uint8", 2), "classes": ("int32", 1)}
NUM_NAMED = 5


def run(config: PseudoConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the masks, or return them if that was done before.

    A record holds `mask` (H, W) at the image's size: 0 background, k + 1 class k, 255 to be ignored; and `classes`.

    Args:
        config: settings.
        inputs: localization maps.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no maps, or their images are not found.
        DataError: saliency is asked for and missing for some images.
    """
    maps = inputs.expect("cams")
    catalogue = images_of(maps, inputs.data, store)
    images = catalogue.only(maps.ids)
    without_saliency = _check_saliency(images, config, options)
    recipe = recipes.pseudo(config, maps.id, images)
    untagged = [entry.id for entry in images.entries if not entry.labels]
    if untagged:
        options.reporter.warn(f"{len(untagged)} images have no tag, so their masks have no object: {_named(untagged)}")
    if (done := store.find(recipe)) is None:
        done = run_segments(
            recipe,
            store,
            options,
            schema=SCHEMA,
            ids=maps.ids,
            compute=lambda ids: _records(config, maps, images, ids, options),
            meta=lambda: {
                "dataset": catalogue.id,
                "split": maps.meta["split"],
                "class_names": list(catalogue.class_names),
                "background": config.background,
                "initialisation": maps.meta["initialisation"],
            },
        )
        _tell_ignored(done, without_saliency, options)
    return done


def without_effect(config: PseudoConfig, given: Mapping[str, object]) -> list[str]:
    """The settings among those given that the chosen background does not use."""
    unused = recipes.UNUSED_BY_PSEUDO[config.background]
    return sorted(name for name, value in given.items() if value is not None and name in unused)


@dataclass(frozen=True)
class Material:
    """What one mask is made of."""

    image_id: str
    maps: Float32[np.ndarray, "cls h w"]
    classes: tuple[int, ...]
    size: tuple[int, int]
    saliency: Float32[np.ndarray, "height width"] | None
    image: UInt8[np.ndarray, "height width 3"] | None


def make_mask(config: PseudoConfig, material: Material) -> Record:
    """The pseudo mask of one image; wholly ignored where saliency is asked for and there is none."""
    maps = normalise(enlarge(material.maps, *material.size), config.normalization)
    if config.background == "constant":
        mask = fuse_constant(maps, material.classes, background_score=config.background_score)
    elif config.background == "power":
        mask = fuse_power(maps, material.classes, background_power=config.background_power)
    elif material.saliency is None:
        mask = np.full(material.size, IGNORE_INDEX, dtype=np.uint8)
    else:
        mask = fuse_saliency(
            maps,
            material.classes,
            material.saliency,
            foreground_threshold=config.foreground_threshold,
            conflict_threshold=config.conflict_threshold,
            salient_threshold=config.salient_threshold,
            confident_threshold=config.confident_threshold,
            min_foreground=config.min_foreground,
        )
    if material.image is not None:
        terms = config.crf_settings.model_dump()
        mask = refine_mask(material.image, mask, confidence=config.crf_confidence, **terms)
    return material.image_id, {"mask": mask, "classes": np.array(material.classes, dtype=np.int32)}


def _records(
    config: PseudoConfig, maps: Artifact, images: Catalogue, ids: Sequence[str], options: RunOptions
) -> Iterator[Record]:
    materials = (_material(config, image_id, maps.read(image_id), images) for image_id in ids)
    # Only the CRF is worth processes; the rest is NumPy and Pillow, which let threads run side by side.
    return ordered_map(partial(make_mask, config), materials, workers=options.workers, processes=config.crf)


def _material(
    config: PseudoConfig, image_id: str, fields: dict[str, NDArray[np.generic]], images: Catalogue
) -> Material:
    entry = images[image_id]
    salient = config.background == "saliency" and entry.saliency is not None
    return Material(
        image_id=image_id,
        maps=fields["maps"].astype(np.float32),
        classes=tuple(fields["classes"].tolist()),
        size=(entry.height, entry.width),
        saliency=images.read_saliency(image_id) if salient else None,
        image=images.read_image(image_id) if config.crf else None,
    )


def _check_saliency(images: Catalogue, config: PseudoConfig, options: RunOptions) -> list[str]:
    if config.background != "saliency":
        return []
    missing = [entry.id for entry in images.entries if entry.saliency is None]
    if missing and not config.allow_missing_saliency:
        raise DataError(
            f"{len(missing)} of {len(images.ids)} images have no saliency map ({_named(missing)}): expected one each; "
            "give --saliency FOLDER, --background constant, or --allow-missing-saliency to ignore these images"
        )
    return missing


def _tell_ignored(masks: Artifact, without_saliency: Sequence[str], options: RunOptions) -> None:
    ignored = [image_id for image_id, fields in masks.records() if is_ignored(fields["mask"])]
    if ignored:
        options.reporter.warn(f"{len(ignored)} of {len(masks)} masks are wholly ignored: {_named(ignored)}")
    if without_saliency:
        options.reporter.warn(f"{len(without_saliency)} of these have no saliency map: {_named(without_saliency)}")


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:NUM_NAMED]) + (", …" if len(ids) > NUM_NAMED else "")
