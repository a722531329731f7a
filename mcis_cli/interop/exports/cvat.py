"""Masks for CVAT as "CVAT for images 1.1": one XML file, which CVAT takes as annotations of a task."""

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Bool

from mcis_cli.interop.exports.content import Export, File, values_of
from mcis_cli.interop.exports.voc import cvat_labels


def cvat_files(export: Export) -> Iterator[File]:
    """`annotations.xml` with a mask for each class of an image, and `labels.json` for the constructor of labels.

    Ignored pixels are in no mask, because the format cannot represent them.
    """
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in export.class_names)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    parts = [f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n']
    for number, (image_id, mask) in enumerate(export.masks()):
        size = f'width="{mask.shape[1]}" height="{mask.shape[0]}"'
        parts.append(f'<image id="{number}" name={quoteattr(export.file_name(image_id))} {size}>\n')
        parts += [_region(export.class_names[value - 1], mask == value) for value in values_of(mask)]
        parts.append("</image>\n")
    yield File(Path("labels.json"), cvat_labels(export.class_names))
    yield File(Path("annotations.xml"), "".join([*parts, "</annotations>\n"]).encode())


def _region(label: str, region: Bool[np.ndarray, "height width"]) -> str:
    """The run lengths of the box around a region, row by row: background and object in turn, background first."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    inside = np.concatenate([[False], region[top:bottom, left:right].ravel()])  # so that the first run is background
    starts = np.flatnonzero(np.diff(inside)) + 1
    runs = np.diff([0, *starts, len(inside)])
    runs[0] -= 1
    box = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
    rle = ", ".join(map(str, runs.tolist()))
    return f'<mask label={quoteattr(label)} source="auto" occluded="0" rle="{rle}" {box} z_order="0"></mask>\n'
