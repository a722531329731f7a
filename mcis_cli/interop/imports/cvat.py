"""CVAT's export "CVAT for images 1.1": an XML file with polygons and run lengths of each image."""

import math
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.layouts.layout import Outlines, Shape
from mcis_cli.data.layouts.voc import parse_xml
from mcis_cli.errors import DataError

MAX_BYTES = 2**28
MAX_SIDE = 2**15
_NO_REGIONS = frozenset({"tag"})  # elements of an image that have no place in it


def cvat_outlines(content: bytes, name: str, find: Callable[[str, str], str]) -> Iterator[Outlines]:
    """The regions of each image that has any; the other images may not have been annotated.

    Args:
        content: all bytes of the file.
        name: how messages call it.
        find: from the name of an image, and its place in the file, to our id of the image.

    Raises:
        DataError: it is not such a file, or has regions that are no polygons and no masks.
    """
    tree = parse_xml(content, name, MAX_BYTES)
    if tree.tag != "annotations":
        raise DataError(
            f"{name}: XML of <{tree.tag!s:.60}>; expected <annotations> of CVAT; export 'CVAT for images 1.1'"
        )
    for image in tree.findall("image"):
        where = f"{name}: the image {image.get('name')!r:.80}"
        height, width = (_whole(image, side, where) for side in ("height", "width"))
        regions = [one for one in image if one.tag not in _NO_REGIONS]
        shapes = [_shape(one, (height, width), f"{where}, region {number}") for number, one in enumerate(regions)]
        if shapes:
            yield Outlines(find(str(image.get("name")), where), (height, width), shapes)


def _shape(region: Element, size: tuple[int, int], where: str) -> Shape:
    label = str(region.get("label"))
    if region.tag == "polygon":
        corners = [_numbers(pair, where) for pair in str(region.get("points")).split(";")]
        return Shape(where, label, polygons=[[value for corner in corners for value in corner]])
    if region.tag == "mask":
        return Shape(where, label, pixels=_pixels(region, size, where))
    raise DataError(
        f"{where} is a <{region.tag!s:.40}>, which outlines nothing; expected a polygon or a mask; draw one"
    )


def _pixels(region: Element, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The pixels of a mask: run lengths of a box, row by row, of background and object in turn."""
    left, top, width, height = (_whole(region, name, where) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in _numbers(str(region.get("rle")), where)]
    is_inside = top + height <= size[0] and left + width <= size[1]
    if not is_inside or min(runs) < 0 or sum(runs) != height * width:
        raise DataError(f"{where} has run lengths that do not fill its box in the image; correct them, or export again")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    pixels = np.zeros(size, dtype=bool)
    pixels[top : top + height, left : left + width] = values.reshape(height, width)
    return pixels


def _numbers(text: str, where: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise DataError(f"{where} has {text!r:.40} in place of numbers; correct it, or export again")
    return found


def _whole(element: Element, name: str, where: str) -> int:
    text = str(element.get(name))
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= MAX_SIDE):
        raise DataError(f"{where} has {text!r:.40} for {name!r}; expected a number of pixels; export again")
    return int(text[:9])
