"""Localization maps as other projects of the field keep them: for each image a `.npy` file of `{class: map}`."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mcis_cli.interop.exports.content import Export, File


def map_files(export: Export) -> Iterator[File]:
    """`ID.npy`: a dictionary from the class, counted from 0, to its map in 32-bit floats.

    `numpy.load(file, allow_pickle=True).item()` reads it, and so does `mcis import --cams`.
    """
    for image_id, by_class in export.maps():
        stream = io.BytesIO()
        dictionary = {label: array.astype(np.float32) for label, array in by_class.items()}
        np.save(stream, np.array(dictionary, dtype=object), allow_pickle=True)
        yield File(Path(f"{image_id}.npy"), stream.getvalue())
