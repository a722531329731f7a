"""Ground truth from the outlines of COCO's objects: for evaluation, and only where somebody asks for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue, ImageEntry
from mcis_cli.data.layouts.coco import MAX_JSON_BYTES, Collected, read_json
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError
from mcis_cli.interop.coco_rle import decode_rle
from mcis_cli.interop.outlines import fill

FARTHEST = 1e6  # of a corner, in pixels


def coco_masks(files: tuple[Path, ...], images: Catalogue) -> Iterator[tuple[str, UInt8[ndarray, "height width"]]]:
    """The mask of each image of some files of annotations, in the order of the files.

    Where objects overlap, the smaller is in front. Regions that are marked as a crowd, and hold no object, are ignored.

    Args:
        files: the files of annotations that the images were listed from.
        images: the images that masks are made of; others are left out.

    Yields:
        Ids with masks: 0 background, k + 1 for class k, 255 ignored.

    Raises:
        DataError: an outline cannot be used; the message tells which.
    """
    collected = Collected(images.root)
    for file in files:
        ids = collected.add(file)
        table = read_json(read_regular(file, MAX_JSON_BYTES), str(file), outlines=True)
        names = {category["id"]: category["name"] for category in table["categories"]}
        values = {number: images.class_names.index(name) + 1 for number, name in names.items()}
        by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, annotation in enumerate(table["annotations"]):
            if annotation["image_id"] in ids:
                by_image.setdefault(ids[annotation["image_id"]], []).append((number, annotation))
        for image_id in ids.values():
            if image_id in images:
                yield image_id, _mask(by_image.get(image_id, []), values, images[image_id], str(file))


def _mask(
    annotations: list[tuple[int, dict[str, Any]]], values: dict[int, int], entry: ImageEntry, name: str
) -> UInt8[ndarray, "height width"]:
    regions = [
        (annotation, _region(annotation.get("segmentation"), entry, f"{name}: annotations[{number}]"))
        for number, annotation in annotations
    ]
    mask = np.zeros((entry.height, entry.width), dtype=np.uint8)
    # Crowds first, then from the largest to the smallest: what comes later lies above.
    for annotation, region in sorted(regions, key=lambda pair: (not pair[0].get("iscrowd"), -int(pair[1].sum()))):
        mask[region] = IGNORE_INDEX if annotation.get("iscrowd") else values[annotation["category_id"]]
    return mask


def _region(outline: Any, entry: ImageEntry, where: str) -> Bool[ndarray, "height width"]:
    """The pixels of one object: of polygons whose centres they hold, or of run lengths."""
    if isinstance(outline, dict):
        counts, size = outline.get("counts"), outline.get("size")
        region = None
        if size == [entry.height, entry.width] and isinstance(counts, str | list):
            region = decode_rle(counts, entry.height, entry.width)
        if region is None:
            raise DataError(
                f"{where} has run lengths of the size {size!r:.40}; expected those of an image of "
                f"{[entry.height, entry.width]}; correct them"
            )
        return region
    if not isinstance(outline, list) or not all(isinstance(part, list) for part in outline):
        raise DataError(f"{where} has no outline; expected polygons or run lengths at 'segmentation'; correct it")
    region = np.zeros((entry.height, entry.width), dtype=bool)
    for part in outline:
        numbers = [value for value in part if type(value) in (int, float) and abs(value) <= FARTHEST]
        if len(numbers) < len(part) or len(part) % 2:
            raise DataError(f"{where} has a polygon that is none; expected x and y of each corner in turn; correct it")
        region |= fill(list(zip(numbers[::2], numbers[1::2], strict=True)), entry.height, entry.width)
    return region
