"""Masks as polygons in the text files of YOLO's segmentation: `class x y x y …`, fractions of width and height."""

import json
from collections.abc import Iterator
from pathlib import Path

from mcis_cli.errors import DataError
from mcis_cli.interop.exports.content import Export, File, Mask, flat_name, require_file_name, values_of
from mcis_cli.interop.exports.polygons import polygons


def yolo_files(export: Export) -> Iterator[File]:
    """`labels/SPLIT/NAME.txt` with a line for each region of a class, and `data.yaml`.

    The format has no holes and no ignored pixels: holes are joined to the outline by a cut (see `polygons`), ignored
    pixels are in no region. A slash of an id becomes `_`, because readers search for the last `images` in a path.

    Raises:
        DataError: two ids would have the same file.
    """
    split = require_file_name(export.split, "the split")
    taken: dict[str, str] = {}
    for image_id, mask in export.masks():
        name = flat_name(image_id)
        if name in taken:
            raise DataError(f"images {taken[name]!r} and {image_id!r} would both be {name}.txt: rename one")
        taken[name] = image_id
        yield File(Path(f"labels/{split}/{name}.txt"), "".join(_lines(mask)).encode())
    folder = json.dumps(f"images/{split}", ensure_ascii=False)
    names = "".join(f"  {k}: {json.dumps(name, ensure_ascii=False)}\n" for k, name in enumerate(export.class_names))
    yield File(Path("data.yaml"), f"path: .\ntrain: {folder}\nval: {folder}\nnames:\n{names}".encode())


def _lines(mask: Mask) -> Iterator[str]:
    height, width = mask.shape
    for value in values_of(mask):
        for polygon in polygons(mask == value):
            corners = (f"{x / width:.6g} {y / height:.6g}" for x, y in polygon)
            yield f"{value - 1} {' '.join(corners)}\n"
