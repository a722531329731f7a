"""`import --saliency`: a folder of saliency maps of any origin and size becomes an artifact for `pseudo`."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from mcis_cli.config import RunOptions
from mcis_cli.data.array_files import read_npy
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.images import MAX_PIXELS, decode_grey
from mcis_cli.data.layouts.listing import index_files
from mcis_cli.errors import DataError
from mcis_cli.interop.saliency.run import store_saliency
from mcis_cli.stages.engine.file_digests import digest_of_all, digests_of, read_unchanged, without_missing
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.materials import SALIENCY
from mcis_cli.store import Artifact, Store

SUFFIXES = PHOTO_SUFFIXES | {".npy"}


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

    A record holds `saliency` (H, W) at the image's size, 255 the most salient.

    Args:
        folder: `ID.png`, `ID.jpg`, `ID.npy` for each image.
        inputs: `data`.
        store: where the artifact goes.
        options: how to run on this machine.
        split: the images that should have maps; None for all.
        allow_missing: leave out images that have no map.

    Raises:
        DataError: a file cannot be used, or an image has no map.
    """
    assert inputs.data is not None, "the command names the images"
    images = list_images(inputs.data, store).split(split or "all")
    if not folder.is_dir():
        raise DataError(f"no folder of saliency maps at {folder}; expected files named ID.png, ID.jpg or ID.npy")
    paths, findings = index_files(folder, folder, SUFFIXES)
    if findings:
        raise DataError(findings[0].message)
    missing = [image_id for image_id in images.ids if image_id not in paths]
    names = "ID.png, ID.jpg or ID.npy"
    images = without_missing(images, missing, folder, options, what="saliency", names=names, allow=allow_missing)
    files = {image_id: folder / paths[image_id] for image_id in images.ids}
    digests = digests_of(list(files.values()), store)
    digest = digest_of_all(((image_id,), digests[path]) for image_id, path in files.items())
    recipe = SALIENCY.imported({}, files=digest, images=images.digest("images"))
    if done := store.find(recipe):
        return done

    def saliency_of(image_id: str) -> Float32[ndarray, "height width"]:
        path = files[image_id]
        return decode_foreign_saliency(read_unchanged(path, digests), str(path))

    return store_saliency(recipe, images, saliency_of, store, options)


def decode_foreign_saliency(content: bytes, name: str) -> Float32[ndarray, "height width"]:
    """A saliency map from the bytes of its file.

    Args:
        content: All bytes of the file.
        name: Its path; the extension determines the format.

    Returns:
        Values in [0, 1].

    Raises:
        DataError: It is neither a grey image nor an array of (height, width), or has values out of range.
    """
    if not name.lower().endswith(".npy"):
        return decode_grey(content, name)
    array = read_npy(content, name)
    if array.ndim != 2 or not 0 < array.size <= MAX_PIXELS:
        raise DataError(f"{name}: an array of the shape {array.shape}; expected (height, width); save it so")
    if array.dtype.kind == "f":
        if not bool(((array >= 0) & (array <= 1)).all()):  # also excludes NaN
            raise DataError(f"{name}: values out of [0, 1]; expected saliency in it; scale the map")
        return array.astype(np.float32)
    scale = {"bool": 1, "uint8": 255, "uint16": 65535}.get(array.dtype.name)
    if scale is None:
        raise DataError(f"{name}: values of {array.dtype}; expected uint8, uint16, or floats in [0, 1]; convert them")
    return array.astype(np.float32) / np.float32(scale)
