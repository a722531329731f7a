"""labelme: for each image a JSON file with its shapes, beside it or in a folder of their own."""

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcis_cli.config import DataConfig
from mcis_cli.data.facts import Facts, file_facts
from mcis_cli.data.formats import MAX_IMAGE_BYTES, PHOTO_SUFFIXES, id_fault
from mcis_cli.data.layouts.coco import read_json
from mcis_cli.data.layouts.layout import Layout, Outlines, Shape
from mcis_cli.data.layouts.listing import Finding, Found, image_id_of, image_path, in_composition, index_files
from mcis_cli.data.layouts.names import is_ignored
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

JSON = frozenset({".json"})
CORNERS = 64  # of the polygon that a circle becomes
_SIGNS = (re.compile(rb'"shapes"\s*:\s*\['), re.compile(rb'"imagePath"\s*:'))
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def _first(root: Path) -> Path | None:
    """A JSON file of the folder, or of one below."""
    here = (file for pattern in ("*.json", "*/*.json") for file in sorted(root.glob(pattern)))
    return next((file for file in here if file.is_file() and not file.name.startswith(".")), None)


def _matches(config: DataConfig, root: Path) -> bool:
    if not root.is_dir() or config.tags is not None:
        return False
    file = _first(root)
    if file is None:
        return False
    content = read_regular(file, MAX_IMAGE_BYTES)
    return all(sign.search(content) for sign in _SIGNS)


def _parse(content: bytes, name: str) -> dict[str, Any]:
    """One file.

    Raises:
        DataError: It does not have labelme's format.
    """
    table = read_json(content, name, outlines=True)
    shapes = table.get("shapes") if isinstance(table, dict) else None
    if not isinstance(shapes, list) or not isinstance(table.get("imagePath"), str):
        raise DataError(f"{name}: no 'shapes' and 'imagePath'; expected a file of labelme; replace or remove it")
    for number, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f"{name}: shapes[{number}] has no label; expected a text; correct it")
    return dict(table)


def _facts(content: bytes, name: str) -> Facts:
    table = _parse(content, name)
    flags = table.get("flags")
    tags = {shape["label"].strip() for shape in table["shapes"]}
    tags |= {key for key, value in flags.items() if value is True} if isinstance(flags, dict) else set()
    return {"image": table["imagePath"], "tags": sorted(tags - {""}), "size": _size(table)}


def _size(table: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = table.get("imageHeight"), table.get("imageWidth")
    return (height, width) if type(height) is int and type(width) is int and height > 0 < width else None


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    """Tags are the labels of the shapes and the flags that are set; an image without any is a negative, and one without
    a JSON file is unlabelled."""
    photos, findings = index_files(root, root, PHOTO_SUFFIXES)
    images = {key: path for key, path in photos.items() if key.split("/")[0] not in ("masks", "saliency")}
    files, _ = index_files(root, root, JSON)
    faults: list[Finding] = [*findings]
    tags: dict[str, frozenset[str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    paths = [root / path for path in files.values()]
    for (stem, path), facts in zip(files.items(), file_facts(paths, "labelme-2", _facts, cache), strict=True):
        if isinstance(facts, DataError):
            faults.append(Finding("error", "bad-annotation", str(facts), (stem,)))
            continue
        found = _image_of(root, path, facts["image"])
        if found is None:
            message = f"{root / path}: no image {facts['image']!r:.200} beside it; add it, or remove the file"
            faults.append(Finding("error", "missing-image", message, (stem,)))
            continue
        image_id = image_id_of(found)
        tags[image_id] = tags.get(image_id, frozenset()) | frozenset(facts["tags"])
        if facts["size"]:
            sizes[image_id] = (facts["size"][0], facts["size"][1])
    return Found(
        images=images,
        tags=tags,
        tag_source=f"JSON files in {root}",
        splits=_splits(images),
        findings=tuple(faults),
        sizes=sizes,
    )


def _splits(images: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Folders with names of splits, if every image is below one."""
    by_split: dict[str, set[str]] = {}
    for image_id in images:
        top, slash, _ = image_id.partition("/")
        split = _SPLITS.get(top.casefold()) if slash else None
        if split is None:
            return {}
        by_split.setdefault(split, set()).add(image_id)
    return {name: frozenset(ids) for name, ids in by_split.items()}


def _image_of(root: Path, path: str, named: str) -> str | None:
    """The image of a file: at its stated path, or of the same name beside the file, above it, or in `images`."""
    named = image_path(named)
    folder, name = Path(path).parent, named.rpartition("/")[2]
    said = Path(*_normal([*folder.parts, *named.split("/")]))
    beside = (folder / name, folder / f"{Path(path).stem}{Path(name).suffix}", Path(name), Path("images", name))
    for place in (said, *beside):
        text = place.as_posix()
        if id_fault(text) is None and Path(text).suffix.lower() in PHOTO_SUFFIXES:
            found = in_composition(root, text)
            if found is not None:
                return found
    return None


def _normal(parts: list[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return kept


def _outlines(config: DataConfig, root: Path) -> Iterator[Outlines]:
    files, _ = index_files(root, root, JSON)
    for path in files.values():
        file = root / path
        table = _parse(read_regular(file, MAX_IMAGE_BYTES), str(file))
        found = _image_of(root, path, table["imagePath"])
        if found is None:
            continue  # reported where the folder is read
        size = _size(table)
        shapes = [_shape(shape, f"{file}: shapes[{n}]", size) for n, shape in enumerate(table["shapes"])]
        yield Outlines(image_id_of(found), size, shapes)


def _shape(shape: Mapping[str, Any], where: str, size: tuple[int, int] | None) -> Shape:
    kind, points, label = shape.get("shape_type", "polygon"), shape.get("points"), shape["label"].strip()
    name = None if is_ignored(label) else label
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise DataError(f"{where} has no points; expected x and y of each corner; correct it")
    if kind == "mask" and size is not None:
        return Shape(where, name, pixels=_pixels(shape.get("mask"), points, size, where))
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return Shape(where, name, polygons=[[left, top, right, top, right, bottom, left, bottom]])
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = (2 * math.pi * k / CORNERS for k in range(CORNERS))
        corners = (c for a in angles for c in (x + radius * math.cos(a), y + radius * math.sin(a)))
        return Shape(where, name, polygons=[[*corners]])
    if kind not in ("polygon", None):
        raise DataError(f"{where} is a {kind!s:.20}, which holds no pixels; expected a polygon; draw one")
    return Shape(where, name, polygons=[[c for point in points for c in point]])


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(type(c) in (int, float) for c in point)


def _pixels(text: Any, points: Any, size: tuple[int, int], where: str) -> Any:
    """Decode a mask in base64 and place it into its box."""
    import numpy as np

    from mcis_cli.data.images import decode_grey

    try:
        content = base64.b64decode(str(text), validate=True)
        small = decode_grey(content, where) > 0
        left, top = (int(c) for c in points[0])
    except (binascii.Error, ValueError, OverflowError, IndexError) as error:
        raise DataError(f"{where} has a mask that cannot be read ({error!s:.60}); draw it again") from error
    mask = np.zeros(size, dtype=bool)
    small = small[max(0, -top) :, max(0, -left) :]
    part = mask[max(0, top) :, max(0, left) :][: small.shape[0], : small.shape[1]]
    part |= small[: part.shape[0], : part.shape[1]]
    return mask


LAYOUT = Layout("labelme", "JSON files of labelme", _matches, _read, _outlines)
