"""Masks as JSON of COCO: a region of run lengths for each class of an image, or panoptic images with their table."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mcis_cli.data.catalogue import IGNORE_INDEX
from mcis_cli.data.layouts.listing import BACKGROUND
from mcis_cli.data.run_lengths import encode_rle
from mcis_cli.interop.exports.content import Export, File, Mask, require_file_name, values_of

Table = dict[str, Any]
ABOUT = "made by mcis: an annotation is the region of a class, which may be of several objects"


def coco_files(export: Export) -> Iterator[File]:
    """`annotations/instances_SPLIT.json`: an annotation for each class of an image; ignored pixels are in none."""
    split = require_file_name(export.split, "the split")
    images: list[Table] = []
    annotations: list[Table] = []
    for image_id, mask in export.masks():
        images.append(_image(len(images) + 1, export.file_name(image_id), mask))
        for value in values_of(mask):
            region = mask == value
            annotation = {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": value,
                "segmentation": encode_rle(region),
                **_measures(region),
                "iscrowd": 0,
            }
            annotations.append(annotation)
    yield _json(f"annotations/instances_{split}.json", images, annotations, _categories(export.class_names))


def panoptic_files(export: Export) -> Iterator[File]:
    """`annotations/panoptic_SPLIT/ID.png` and `annotations/panoptic_SPLIT.json`, ignored pixels without a segment.

    Segments are regions of classes, not objects ("stuff"). Background is a category after all classes, because 0 means
    no segment.
    """
    split = require_file_name(export.split, "the split")
    background = len(export.class_names) + 1
    images: list[Table] = []
    annotations: list[Table] = []
    for image_id, mask in export.masks():
        segments = np.where(mask == 0, np.uint8(background), mask)
        segments[mask == IGNORE_INDEX] = 0
        images.append(_image(len(images) + 1, export.file_name(image_id), mask))
        listed = [
            {"id": value, "category_id": value, **_measures(segments == value), "iscrowd": 0}
            for value in np.unique(segments[segments > 0]).tolist()
        ]
        annotations.append({"image_id": len(images), "file_name": f"{image_id}.png", "segments_info": listed})
        yield File(Path(f"annotations/panoptic_{split}/{image_id}.png"), _as_colours(segments))
    categories = _categories([*export.class_names, BACKGROUND])
    yield _json(f"annotations/panoptic_{split}.json", images, annotations, categories)


def _image(number: int, file_name: str, mask: Mask) -> Table:
    return {"id": number, "file_name": file_name, "height": mask.shape[0], "width": mask.shape[1]}


def _measures(region: Any) -> Table:
    """Area, and the box around a region: left, top, width, height."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"area": int(region.sum()), "bbox": box}


def _categories(names: Sequence[str]) -> list[Table]:
    return [{"id": k + 1, "name": name, "supercategory": "", "isthing": 0} for k, name in enumerate(names)]


def _as_colours(segments: Mask) -> bytes:
    """Segment ids as red + 256 green + 65536 blue; there are fewer than 256."""
    colours = np.zeros((*segments.shape, 3), dtype=np.uint8)
    colours[:, :, 0] = segments
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, format="PNG")
    return stream.getvalue()


def _json(path: str, images: list[Table], annotations: list[Table], categories: list[Table]) -> File:
    table = {
        "info": {"description": ABOUT},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    return File(Path(path), json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode())
