"""`average`: the maps of several classifiers become one map of each class.

Not in the paper. Classifiers with other backbones, losses or references err in other places.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32

from mcis_cli.config import AverageConfig, RunOptions
from mcis_cli.errors import UsageError, counted
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.average.declaration import SCHEMA, recipe, refuse_too_few
from mcis_cli.stages.engine.by_image import require_segment, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import Artifact, Record, Store


@in_segments
def run(config: AverageConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Combine maps, or return the cached ones.

    A record holds, as that of `cams`, `classes` (n) and `maps` (n, h, w), in [0, 1], on the finest of the grids.

    Args:
        config: settings.
        inputs: localization maps as the upstream artifact, and further ones in `more`, of the same images and classes.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: there are no maps.
        UsageError: there is one artifact, one twice, or they differ in their images or classes.
    """
    maps = sorted((inputs.expect("maps"), *inputs.more), key=lambda one: one.id)
    refuse_too_few(maps)
    _refuse_unlike(maps)
    first, wanted = maps[0], recipe(config, [one.id for one in maps])  # whatever the order in which they were named
    if done := store.find(wanted):
        return done
    require_segment(first.ids, options)
    return run_segments(
        wanted,
        store,
        options,
        schema=SCHEMA,
        ids=first.ids,
        compute=lambda ids: (_record(config, maps, image_id) for image_id in ids),
        meta=lambda: {
            "dataset": first.meta["dataset"],
            "split": first.meta["split"],
            "class_names": first.meta["class_names"],
            "initialisation": ", ".join(dict.fromkeys(one.meta["initialisation"] for one in maps)),
        },
    )


def combined(config: AverageConfig, maps: Sequence[Float32[np.ndarray, "cls _ _"]]) -> Float32[np.ndarray, "cls h w"]:
    """Combine the maps of one image, each normalised first, on the finest of their grids.

    Args:
        config: settings.
        maps: maps of the same classes, of any range, one entry for each artifact.

    Returns:
        The combination, normalised again, so that its maximum is 1 whatever the maps agree on.
    """
    height, width = (max(one.shape[axis] for one in maps) for axis in (1, 2))
    planes = np.stack([normalise(enlarge(one, height, width), config.normalization) for one in maps])
    return normalise(planes.mean(0) if config.combine == "mean" else planes.min(0), config.normalization)


def _record(config: AverageConfig, maps: Iterable[Artifact], image_id: str) -> Record:
    fields = [read_record(one, image_id) for one in maps]
    classes = fields[0]["classes"]
    if any(not np.array_equal(one["classes"], classes) for one in fields):
        raise UsageError(
            f"the maps of {image_id!r} are of different classes: expected maps of the same tags; run `mcis cams` again"
        )
    made = combined(config, [one["maps"].astype(np.float32) for one in fields])
    return image_id, {"maps": made.astype(np.float16), "classes": classes}


def _refuse_unlike(maps: Sequence[Artifact]) -> None:
    first = maps[0]
    for one in maps:
        if not holds(one, "maps"):
            raise UsageError(
                f"{one.path.name} was made by {one.stage}: expected localization maps, as `mcis cams` makes"
            )
        check(one)
        if one.meta["class_names"] != first.meta["class_names"]:
            raise UsageError(f"{one.path.name} has other classes than {first.path.name}: expected the same, in order")
        if one.ids != first.ids:
            raise UsageError(
                f"{one.path.name} has maps of {counted(len(one), 'image')} and {first.path.name} of {len(first)}: "
                "expected the same images; give both `mcis cams` the same --split and --domains"
            )
