"""Ground truth from outlines of objects (COCO, labelme, Label Studio), for scores."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray
from PIL import Image

from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue, ImageEntry
from mcis_cli.data.layouts.layout import Outlines, Shape
from mcis_cli.data.layouts.names import is_background, is_ignored
from mcis_cli.data.run_lengths import decode_rle
from mcis_cli.errors import DataError

LONGEST = 1e6  # pixels around a polygon: pycocotools allocates memory for each of its steps
MAX_PIXELS = 80_000_000  # of run lengths of another size

Region = Bool[ndarray, "height width"]


def outline_masks(
    outlines: Iterator[Outlines], images: Catalogue
) -> Iterator[tuple[str, UInt8[ndarray, "height width"]]]:
    """The mask of each image with outlines, from all files together.

    Where objects overlap, the smaller is in front. Regions that are marked as a crowd, and hold no object, are ignored.

    Args:
        outlines: the objects of images; an image may come several times.
        images: the images that masks are made of; others are left out.

    Yields:
        Ids with masks: 0 background, k + 1 for class k, 255 ignored.

    Raises:
        DataError: an outline is invalid, or the file gives an image a wrong size.
    """
    gathered: dict[str, list[Outlines]] = {}
    for one in outlines:
        if one.image_id in images:
            gathered.setdefault(one.image_id, []).append(one)
    values = {name: k + 1 for k, name in enumerate(images.class_names)}
    for image_id, parts in gathered.items():
        yield image_id, _mask(parts, values, images[image_id])


def _mask(parts: list[Outlines], values: dict[str, int], entry: ImageEntry) -> UInt8[ndarray, "height width"]:
    regions = [(shape, _region(shape, _scale(part, entry), entry)) for part in parts for shape in part.shapes]
    mask = np.zeros((entry.height, entry.width), dtype=np.uint8)
    # Crowds first, then from the largest to the smallest: later ones are in front.
    for shape, region in sorted(regions, key=lambda pair: (not _is_ignored(pair[0]), -int(pair[1].sum()))):
        if _is_ignored(shape):
            mask[region] = IGNORE_INDEX
        elif str(shape.name) in values:
            mask[region] = values[str(shape.name)]
        elif is_background(str(shape.name)):
            mask[region] = 0
        else:
            known = ", ".join(sorted(values)[:5])
            raise DataError(f"{shape.where} is of {shape.name!r:.80}, which is no class; expected one of {known}")
    return mask


def _is_ignored(shape: Shape) -> bool:
    return shape.name is None or is_ignored(shape.name)


def _scale(part: Outlines, entry: ImageEntry) -> Fraction:
    """The factor from the size in the file to that of the photograph.

    Raises:
        DataError: the proportions differ, as for a photograph that its EXIF data turns.
    """
    if part.size is None:
        return Fraction(1)
    height, width = map(int, part.size)
    if height * entry.width != width * entry.height:
        where = part.shapes[0].where if part.shapes else entry.id
        turned = ", its size before its EXIF data turn it" if (width, height) == (entry.height, entry.width) else ""
        raise DataError(
            f"{where}: found annotations for {width} x {height} pixels{turned}; the photograph {entry.image!r} has "
            f"{entry.width} x {entry.height}; export annotations of this file"
        )
    return Fraction(entry.width, width)


def _region(shape: Shape, scale: Fraction, entry: ImageEntry) -> Region:
    """The pixels of one object: of polygons, filled by pycocotools, of run lengths, or given as pixels."""
    if shape.run_lengths is not None:
        return _resized(_decoded(shape.run_lengths, scale, entry, shape.where), entry)
    if shape.pixels is not None:
        return _resized(shape.pixels, entry)
    if not all(_is_polygon(part) for part in shape.polygons):
        raise DataError(
            f"{shape.where} has an invalid polygon; expected the x and y of at least three corners; correct it"
        )
    scaled = [[float(value * scale) for value in part] for part in shape.polygons]
    return _filled(scaled, entry.height, entry.width)


def _is_polygon(part: list[Any]) -> bool:
    """Whether numbers are at least three corners, not too far apart to be filled."""
    if len(part) < 6 or len(part) % 2 or not all(type(v) in (int, float) and abs(v) <= LONGEST for v in part):
        return False
    corners = np.array(part, dtype=np.float64).reshape(-1, 2)
    sides = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1, initial=0)
    return bool(sides.sum() <= LONGEST)


def _filled(polygons: list[list[float]], height: int, width: int) -> Region:
    """The pixels that pycocotools fills."""
    from pycocotools import mask as coco

    if not polygons:
        return np.zeros((height, width), dtype=bool)
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    region = decode_rle(merged["counts"].decode("ascii"), height, width)
    assert region is not None, "pycocotools wrote run lengths of another size"
    return region


def _decoded(outline: Any, scale: Fraction, entry: ImageEntry, where: str) -> Region:
    counts, size = outline.get("counts"), outline.get("size")
    framed = [int(entry.height / scale), int(entry.width / scale)]
    region = None
    if size == framed and framed[0] * framed[1] <= MAX_PIXELS and isinstance(counts, str | list):
        region = decode_rle(counts, *framed)
    if region is None:
        raise DataError(
            f"{where} has invalid run lengths, of the size {size!r:.40}; expected the size {framed}; correct them"
        )
    return region


def _resized(region: Region, entry: ImageEntry) -> Region:
    if region.shape == (entry.height, entry.width):
        return region
    return np.array(Image.fromarray(region).resize((entry.width, entry.height), Image.Resampling.NEAREST), dtype=bool)
