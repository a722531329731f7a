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

LONGEST = 1e6  # pixels around a polygon: pycocotools takes memory for each of its steps


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
    """The pixels of one object: of polygons, filled as pycocotools fills them, or of run lengths."""
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
    if not all(_is_polygon(part) for part in outline):
        raise DataError(f"{where} has a polygon that is none; expected x and y of each corner in turn; correct it")
    return _filled([part for part in outline if len(part) >= 6], entry.height, entry.width)


def _is_polygon(part: list[Any]) -> bool:
    """Whether numbers are corners in turn, not too far apart to be filled."""
    if len(part) % 2 or not all(type(value) in (int, float) and abs(value) <= LONGEST for value in part):
        return False
    corners = np.array(part, dtype=np.float64).reshape(-1, 2)
    sides = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1, initial=0)
    return bool(sides.sum() <= LONGEST)


def _filled(polygons: list[list[float]], height: int, width: int) -> Bool[ndarray, "height width"]:
    """What pycocotools fills."""
    from pycocotools import mask as coco

    if not polygons:
        return np.zeros((height, width), dtype=bool)
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    region = decode_rle(merged["counts"].decode("ascii"), height, width)
    assert region is not None, "pycocotools wrote run lengths of another size"
    return region
