"""`affinity-labels`: the regions that localization maps are sure of, which the affinity network learns from.

The first of the three stages of `mcis affinity`. A dense CRF runs twice for each image, which takes longest. So it is a
stage of its own: shards divide it, and a network with other settings does not repeat it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mcis_cli.config import AffinityConfig, RunOptions
from mcis_cli.data.loading import Workers
from mcis_cli.maps.crf import confident_regions
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages import read_record
from mcis_cli.stages.affinity.declaration import LABELS_SCHEMA, labels_recipe
from mcis_cli.stages.engine.by_image import ByImage, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.evidence import note_left_out
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.store import Artifact, Record, Store


@in_segments
def run(config: AffinityConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Find the regions, or return the cached ones.

    A record holds `labels` (H, W), of the size that the image is shrunk to, if it is: 0 background, k + 1 class k, 255
    unsure.

    Args:
        config: settings.
        inputs: localization maps.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no maps, or their images are not found.
        DataError: an image cannot be read.
    """
    maps = inputs.expect("maps")
    catalogue = images_of(maps, inputs.data, store)
    given = catalogue.only(maps.ids, maps.meta["split"])
    images = given.labelled()
    note_left_out("sure regions", given, images, options.reporter)
    recipe = labels_recipe(config, maps.id, images)
    if done := store.find(recipe):
        return done

    def material(image_id: str) -> Material:
        fields = read_record(maps, image_id)
        image = shrunk(images.read_image(image_id), config.longest_side)
        return Material(image_id, image, fields["maps"].astype(np.float32), tuple(fields["classes"].tolist()))

    # The CRF holds the interpreter's lock.
    workers: Workers[Any, Record] = Workers(partial(labels_of, config), options.workers, processes=True)
    with workers:
        return run_segments(
            recipe,
            store,
            options,
            schema=LABELS_SCHEMA,
            ids=images.ids,
            compute=ByImage(workers, lambda ids: map(material, ids)).records,
            meta=lambda: {
                "dataset": catalogue.id,
                "split": maps.meta["split"],
                "class_names": list(catalogue.class_names),
                "initialisation": maps.meta["initialisation"],
            },
        )


@dataclass(frozen=True)
class Material:
    """The inputs of the labels of one image."""

    image_id: str
    image: UInt8[np.ndarray, "height width 3"]
    maps: Float32[np.ndarray, "cls h w"]
    classes: tuple[int, ...]


def labels_of(config: AffinityConfig, material: Material) -> Record:
    """The sure regions of one image."""
    maps = normalise(enlarge(material.maps, *material.image.shape[:2]), config.normalization)
    labels = confident_regions(
        material.image,
        maps,
        material.classes,
        object_power=config.object_power,
        background_power=config.background_power,
        **config.crf_settings.model_dump(),
    )
    return material.image_id, {"labels": labels}


def shrunk(image: UInt8[np.ndarray, "height width 3"], longest_side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Shrink an image so that no side is longer than a limit."""
    height, width = image.shape[:2]
    if (factor := longest_side / max(height, width)) >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
