"""`import --cams`: localization maps of another tool become an artifact of `cams`, for `pseudo` and `eval`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import ordered_map
from mcis_cli.errors import counted, first_few
from mcis_cli.interop.imports.map_files import FoundMaps, MapFile, find_maps, stack_maps
from mcis_cli.stages.cams.declaration import CAMS, SCHEMA
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.evidence import heed_tags, note_left_out
from mcis_cli.stages.engine.file_digests import digest_of_all, digests_of, read_unchanged, without_missing
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.store import Artifact, Record, Store


def run(
    folder: Path,
    inputs: Inputs,
    store: Store,
    options: RunOptions,
    *,
    split: str | None = None,
    allow_missing: bool = False,
) -> Artifact:
    """Import the maps, or return the cached ones.

    A record is that of `cams`, with maps of their own size, and without references.

    Args:
        folder: holds the maps; see `map_files` for the names of files.
        inputs: `data`.
        store: where the artifact goes.
        options: how to run on this machine.
        split: the images that should have maps; None for all.
        allow_missing: leave out images that have tags and no map.

    Raises:
        DataError: a file cannot be used, or an image has no map.
    """
    assert inputs.data is not None, "the command names the images"
    catalogue = list_images(inputs.data, store)
    asked = catalogue.split(split or "all")
    heed_tags(asked, options.reporter)
    note_left_out("maps", asked, asked.labelled(), options.reporter)
    found = find_maps(folder, catalogue.ids, catalogue.class_names)
    images = _with_maps(asked.labelled(), found, folder, options, allow_missing=allow_missing)
    files = {image_id: found.by_image.get(image_id, ()) for image_id in images.ids}
    listed = [(image_id, file) for image_id, of_image in files.items() for file in of_image]
    digests = digests_of([file.path for _, file in listed], store)
    digest = digest_of_all(((image_id, file.class_index), digests[file.path]) for image_id, file in listed)
    recipe = CAMS.imported({"split": split or "all"}, files=digest, images=images.digest("images", "labels"))
    if done := store.find(recipe):
        return done

    record = lambda image_id: _record(images, image_id, files[image_id], digests)  # noqa: E731
    return run_segments(
        recipe,
        store,
        options,
        schema=SCHEMA,
        ids=images.ids,  # maps may be large: few at a time
        compute=lambda ids: ordered_map(record, ids, workers=min(options.workers, 2)),
        meta=lambda: _meta(catalogue, split or "all"),
    )


def _with_maps(
    images: Catalogue, found: FoundMaps, folder: Path, options: RunOptions, *, allow_missing: bool
) -> Catalogue:
    """The images that have maps, or need none because they are negatives."""
    missing = [entry.id for entry in images.entries if entry.labels and entry.id not in found.by_image]
    names = "ID.npy, ID.npz or ID/CLASS.png"
    images = without_missing(images, missing, folder, options, what="maps", names=names, allow=allow_missing)
    if found.strays:
        options.reporter.warn(f"not read: {counted(len(found.strays), 'file')} of no image: {first_few(found.strays)}")
    return images


def _record(images: Catalogue, image_id: str, files: Sequence[MapFile], digests: Mapping[Path, str]) -> Record:
    entry = images[image_id]
    contents = ((file, read_unchanged(file.path, digests)) for file in files if entry.labels)
    return image_id, {
        "maps": stack_maps(entry, images.class_names, contents),
        "classes": np.array(entry.labels, dtype=np.int32),
        "references": np.frombuffer(b"{}", dtype=np.uint8),
    }


def _meta(catalogue: Catalogue, split: str) -> Mapping[str, Any]:
    return {
        "dataset": catalogue.id,
        "split": split,
        "class_names": list(catalogue.class_names),
        "num_references": 0,
        "localization": "imported",
        "initialisation": "imported maps",
        "image_size": None,
    }
