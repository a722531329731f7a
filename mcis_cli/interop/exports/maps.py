"""Localization maps as other projects of the field keep them: for each image a `.npy` file of `{class: map}`."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mcis_cli.interop.exports.files import File

Maps = Mapping[int, Float[ndarray, "h w"]]


def map_files(maps: Iterable[tuple[str, Maps]]) -> Iterator[File]:
    """`ID.npy`: a dictionary from the class, counted from 0, to its map in 32-bit floats.

    `numpy.load(file, allow_pickle=True).item()` reads it, and so does `mcis import --cams`.

    Args:
        maps: ids with their maps by class.
    """
    for image_id, by_class in maps:
        stream = io.BytesIO()
        dictionary = {label: array.astype(np.float32) for label, array in by_class.items()}
        np.save(stream, np.array(dictionary, dtype=object), allow_pickle=True)
        yield File(Path(f"{image_id}.npy"), stream.getvalue())
