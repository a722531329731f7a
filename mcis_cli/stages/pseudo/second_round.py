"""`pseudo NETWORK`: what a segmentation network predicts, limited to the tags of each image, becomes pseudo masks.

Not in the paper. The network has seen all images, so it mends what single maps got wrong; its tags keep it from
inventing classes. `pseudo MAPS --network NETWORK` asks it and the maps, see `stages.pseudo`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import PseudoConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import Workers
from mcis_cli.maps.crf import dense_crf
from mcis_cli.maps.pseudo import mask_of_probabilities
from mcis_cli.stages.engine.by_image import ByImage, run_segments
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.pseudo.declaration import SCHEMA, network_recipe
from mcis_cli.stages.pseudo.masks import Ignored, predictions, settled_here, tell_ignored, tell_untagged
from mcis_cli.stages.stage import find
from mcis_cli.store import Artifact, Recipe, Record, Store


def run(config: PseudoConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the masks, or return them if that was done before; records are those of `pseudo`.

    Args:
        config: settings; those for maps have no effect.
        inputs: a segmentation network; its images are those that it was trained on.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no network, or its images are not found.
    """
    network = inputs.expect("network")
    catalogue = images_of(network, inputs.data, store)
    images = catalogue.split(network.meta["split"])
    tell_untagged(images, options.reporter)

    def recipe_of(settled: PseudoConfig) -> Recipe:
        return network_recipe(settled, network.id, images)

    done = find(store, config, recipe_of)
    if done is None:
        config, machine = settled_here(config, options)
        ignored = Ignored()
        making = _making(config, network, images, options)
        with making.workers:
            done = run_segments(
                recipe_of(config),
                store,
                options,
                schema=SCHEMA,
                ids=images.ids,
                compute=making.records,
                meta=lambda: {
                    "dataset": catalogue.id,
                    "split": images.split_name,
                    "class_names": list(catalogue.class_names),
                    "background": "network",
                    "initialisation": network.meta["initialisation"],
                },
                machine=machine,
                observe=ignored.add,
                observed={"ignored": ignored.facts},
            )
    tell_ignored(done, options.reporter)
    return done


@dataclass(frozen=True)
class Predicted:
    """What one mask is made of."""

    image_id: str
    image: UInt8[np.ndarray, "height width 3"]
    classes: tuple[int, ...]
    probabilities: Float32[np.ndarray, "kept height width"]


def make_mask(config: PseudoConfig, predicted: Predicted) -> Record:
    """The mask of one image, after a dense CRF over its labels where that is asked for."""
    probabilities = predicted.probabilities
    if config.crf and len(probabilities) > 1:
        probabilities = dense_crf(predicted.image, probabilities, **config.crf_settings.model_dump())
    mask = mask_of_probabilities(probabilities, predicted.classes, min_confidence=config.min_confidence)
    return predicted.image_id, {"mask": mask, "classes": np.array(predicted.classes, dtype=np.int32)}


def _making(config: PseudoConfig, network: Artifact, images: Catalogue, options: RunOptions) -> ByImage:
    predict = predictions(config, network, options)

    def predicted(ids: Sequence[str]) -> Iterator[Predicted]:
        for image_id in ids:
            image, classes = images.read_image(image_id), images[image_id].labels
            yield Predicted(image_id, image, classes, predict(image, classes))

    workers: Workers[Any, Record] = Workers(
        partial(make_mask, config), options.workers if config.crf else 0, processes=True
    )
    return ByImage(workers, predicted)
