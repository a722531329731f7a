"""Masks for Label Studio: tasks with the masks as predictions of its brush, and the configuration that they need."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from mcis_cli.data.layouts.label_studio_brush import encode_brush
from mcis_cli.data.palette import voc_palette
from mcis_cli.interop.exports.content import Export, File, Mask, values_of

BRUSH, IMAGE, PHOTOGRAPHS = "mask", "image", "images"


def label_studio_files(export: Export) -> Iterator[File]:
    """`tasks.json` to import, and `config.xml`, the labeling interface.

    Each task has one prediction, with a brush for each class of the image; ignored pixels are in none. Photographs are
    addressed in the folder of this export, as Label Studio serves local files.
    """
    tasks = [
        {
            "data": {IMAGE: f"/data/local-files/?d={PHOTOGRAPHS}/{quote(export.file_name(image_id))}"},
            "predictions": [
                {"model_version": export.source.artifact.path.stem, "result": list(_regions(export, mask))}
            ],
        }
        for image_id, mask in export.masks()
    ]
    yield File(Path("config.xml"), _interface(export).encode())
    yield File(Path("tasks.json"), json.dumps(tasks, ensure_ascii=False).encode())


def _regions(export: Export, mask: Mask) -> Iterator[dict[str, Any]]:
    for value in values_of(mask):
        yield {
            "id": f"{BRUSH}-{value}",
            "type": "brushlabels",
            "from_name": BRUSH,
            "to_name": IMAGE,
            "original_width": mask.shape[1],
            "original_height": mask.shape[0],
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": encode_brush(np.asarray(mask == value)),
                "brushlabels": [export.class_names[value - 1]],
            },
        }


def _interface(export: Export) -> str:
    """A brush for each class, in the colour of its mask value."""
    colours = voc_palette()
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(colours[k + 1].tolist()).hex()}"/>\n'
        for k, name in enumerate(export.class_names)
    )
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n'
        f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">\n{labels}  </BrushLabels>\n</View>\n'
    )
