"""`affinity`: localization maps after a random walk over the affinities that a network finds in each image.

The last of the three stages of `mcis affinity`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mcis_cli.config import AffinityConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import Workers
from mcis_cli.errors import MissingError, UsageError
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.random_walk import Offset, transition, walk
from mcis_cli.stages import read_record
from mcis_cli.stages.affinity.declaration import AFFINITY_NET, MAPS_SCHEMA, walk_recipe
from mcis_cli.stages.engine.by_image import ByImage, require_segment, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.stage import find
from mcis_cli.store import Artifact, Recipe, Record, Store


@in_segments
def run(config: AffinityConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Walk, or return the cached maps.

    A record holds, as that of `cams`, `classes` (n) and `maps` (n, h, w), in [0, 1] and on the grid of the walk. They
    are not normalised again: the walk leaves a constant background unchanged, so scores compare with it.

    Args:
        config: settings.
        inputs: localization maps, and an affinity network.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no maps, no network, or the images are not found.
        DataError: an image cannot be read.
    """
    maps, network = inputs.expect("maps"), _network(inputs)
    catalogue = images_of(maps, inputs.data, store)
    images = catalogue.only(maps.ids)

    def recipe_of(settled: AffinityConfig) -> Recipe:
        return walk_recipe(settled, maps.id, network.id, images)

    return find(store, config, recipe_of) or _walk_all(config, maps, network, catalogue, store, options)


def _walk_all(
    config: AffinityConfig, maps: Artifact, network: Artifact, catalogue: Catalogue, store: Store, options: RunOptions
) -> Artifact:
    require_segment(maps.ids, options)
    # Cached artifacts are found without waiting for torch.
    from mcis_cli.stages.affinity.neighbours import load_neighbours
    from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

    device = choose_device(options.device, options.local)
    precision = choose_precision(config.precision, device)
    config = config.model_copy(update={"precision": precision})
    images = catalogue.only(maps.ids)
    neighbours = load_neighbours(network, device=device, precision=precision)

    def materials(ids: Sequence[str]) -> Iterator[Material]:
        for image_id in ids:
            image = on_grid(images.read_image(image_id), config.longest_side, neighbours.output_stride)
            fields = read_record(maps, image_id)
            planes = neighbours.planes(image)
            classes = tuple(fields["classes"].tolist())
            yield Material(image_id, fields["maps"].astype(np.float32), classes, planes, neighbours.offsets)

    workers: Workers[Material, Record] = Workers(lambda material: walked(config, material), options.workers)
    with workers:
        return run_segments(
            walk_recipe(config, maps.id, network.id, images),
            store,
            options,
            schema=MAPS_SCHEMA,
            ids=maps.ids,
            compute=ByImage(workers, materials).records,
            meta=lambda: {
                "dataset": catalogue.id,
                "split": maps.meta["split"],
                "class_names": list(catalogue.class_names),
                "initialisation": maps.meta["initialisation"],
                "affinity_initialisation": network.meta["initialisation"],
            },
            machine=describe_machine(device, precision),
        )


@dataclass(frozen=True)
class Material:
    """The inputs of the walk of one image: its maps, and its affinities by offset, on the grid of the walk."""

    image_id: str
    maps: Float32[np.ndarray, "cls h w"]
    classes: tuple[int, ...]
    planes: Float32[np.ndarray, "offset rows columns"]
    offsets: tuple[Offset, ...]


def walked(config: AffinityConfig, material: Material) -> Record:
    """The maps of one image after the walk."""
    maps = enlarge(normalise(material.maps, config.normalization), *material.planes.shape[1:])
    if len(maps):
        matrix = transition(material.planes, material.offsets, power=config.walk_power)
        maps = walk(maps, matrix, num_steps=2**config.walk_doublings)
    return material.image_id, {
        "maps": maps.astype(np.float16),
        "classes": np.array(material.classes, dtype=np.int32),
    }


def on_grid(
    image: UInt8[np.ndarray, "height width 3"], longest_side: int, output_stride: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize an image to the grid of the walk: each side a multiple of the network's stride, none too long."""
    height, width = image.shape[:2]
    factor = min(1.0, longest_side / max(height, width))
    cells = [max(1, round(side * factor / output_stride)) for side in (width, height)]
    size = (cells[0] * output_stride, cells[1] * output_stride)
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _network(inputs: Inputs) -> Artifact:
    network = inputs.network
    if network is None:
        raise MissingError("the walk needs a trained AffinityNet, and none was named; run `mcis affinity` first")
    if network.stage != AFFINITY_NET.name:
        raise UsageError(
            f"{network.path.name} was made by {network.stage}: expected a network of affinities, which `mcis affinity` "
            "trains, or `mcis import --affinity-net` makes"
        )
    AFFINITY_NET.check(network)
    return network
