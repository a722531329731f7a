"""The layout of COCO: `annotations/instances_SPLIT.json`, or files that are COCO by their content, and images anywhere
their users keep them.

Only the categories of an image are read, as its tags. Outlines are dropped while the file is read (`coco_masks` makes
ground truth from them on request).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES, id_fault
from mcis_cli.data.layouts.layout import Layout, Outlines, Shape
from mcis_cli.data.layouts.listing import Finding, Found, image_path, in_composition
from mcis_cli.data.layouts.split_names import split_of_name
from mcis_cli.data.regular_files import open_regular, other_file, read_regular
from mcis_cli.errors import DataError, counted
from mcis_cli.store import StatCache

ANNOTATIONS = "annotations"
PREFIX = "instances_"
MAX_JSON_BYTES = 2**29  # the file of COCO's 118,000 training images has 450 MB
MAX_NESTED = 20_000_000  # lists and objects, each of which takes some 60 bytes of memory and as little as 3 in the file
MAX_FILES = 16  # of a set
HEAD = 2**16
_FIRST_KEY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:info|licenses|images|annotations|categories)"\s*:')
_LIST = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')
_WHOLE = frozenset(
    {"annotations", "annotation", "labels", "result", "coco", "instances", "data", "dataset", "_annotations.coco"}
)
_OTHER_KINDS = ("captions", "person_keypoints", "image_info", "panoptic", "stuff")
_KEPT = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name", "supercategory"}
    | {"height", "width"}
)


def find_instances(config: DataConfig, root: Path) -> tuple[Path, ...]:
    """The files of annotations: that of `config.tags`, the root itself, or all `annotations/instances_*.json`.

    Without these, the files in `annotations` or beside it whose content is COCO.
    """
    if root.suffix.lower() == ".json" and root.is_file():
        return (root,)
    if config.tags is not None:
        return (root / config.tags,) if config.tags.lower().endswith(".json") else ()
    if named := sorted((root / ANNOTATIONS).glob(f"{PREFIX}*.json")):
        return tuple(named)
    here = (tuple(file for file in _files_of_json(folder) if _is_coco(file)) for folder in (root / ANNOTATIONS, root))
    return next(filter(None, here), ())


def _files_of_json(folder: Path) -> list[Path]:
    """The JSON files of a folder that may describe a whole set, not one image each; without captions and similar
    files."""
    files = sorted(file for file in folder.glob("*.json") if not file.name.startswith((".", *_OTHER_KINDS)))
    return files if len(files) <= MAX_FILES else []


def _is_coco(file: Path) -> bool:
    handle, _ = open_regular(file, MAX_JSON_BYTES)
    with handle:
        head = handle.read(HEAD)
    return bool(_FIRST_KEY.match(head) and _LIST.search(head))


def read_coco(files: tuple[Path, ...], root: Path) -> Found:
    """Read image sets of COCO; each file is a split, called as its file without the year.

    An id is the path of an image without its extension, relative to the root. Every category is a class, in the order
    of their ids, which may have gaps; objects that are marked as a crowd count, too. An image without an annotation is
    a negative.

    Args:
        files: the files of annotations.
        root: paths are relative to it.

    Raises:
        DataError: A file is not as COCO has it, or two have other categories.
    """
    found = Collected(root)
    for file in files:
        found.add(file)
    return found.as_found(", ".join(map(str, files)))


def read_json(content: bytes, name: str, *, outlines: bool = False) -> Any:
    """The content of a JSON file of COCO, with only the needed parts of objects.

    Args:
        content: All bytes of the file.
        name: How messages call it.
        outlines: Keep the outlines of objects, too.

    Raises:
        DataError: It is not JSON, or would take unbounded memory.
    """
    if found := other_file(content):
        raise DataError(f"{name}: {found}")
    nested = content.count(b"[") + content.count(b"{")
    if nested > MAX_NESTED:
        raise DataError(f"{name}: {nested:,} lists and objects; expected at most {MAX_NESTED:,}; split the file")
    try:
        if outlines:
            return json.loads(content)
        return json.loads(content, object_hook=_slim)
    except RecursionError as error:
        raise DataError(f"{name}: nested too deeply; expected JSON as COCO has it; replace it") from error
    except (ValueError, UnicodeDecodeError) as error:  # a number of too many digits is a ValueError, too
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: not JSON ({reason:.120}); correct or replace it") from error


def _slim(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key in _KEPT}


@dataclass(frozen=True)
class Instances:
    """The content of a file of annotations: file names by image id, names by category id, pairs of both ids. `group` is
    the id of a category that may only group the others, as Roboflow writes one; `sizes` are (height, width) of the
    images that have them."""

    images: Mapping[int, str]
    categories: Mapping[int, str]
    objects: tuple[tuple[int, int], ...]
    group: int | None = None
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def parse_instances(content: bytes, name: str) -> Instances:
    """Read a file of annotations.

    Raises:
        DataError: It does not follow the COCO format; the message names the entry.
    """
    table = read_json(content, name)
    images = dict[int, str]()
    for place, image_id, file_name in _pairs(table, "images", ("id", int), ("file_name", str), name):
        if image_id in images:
            raise DataError(f"{name}: two images have the id {image_id}, the second is {place}; give each its own id")
        images[image_id] = file_name
    categories = dict[int, str]()
    for place, category_id, category in _pairs(table, "categories", ("id", int), ("name", str), name):
        if category_id in categories:
            raise DataError(
                f"{name}: two categories have the id {category_id}, the second is {place}; give each its own id"
            )
        categories[category_id] = category
    objects = list[tuple[int, int]]()
    for place, image_id, category_id in _pairs(table, "annotations", ("image_id", int), ("category_id", int), name):
        if category_id not in categories:
            raise DataError(f"{name}: {place} has category_id {category_id}, which no category has; correct it")
        objects.append((image_id, category_id))
    groups = (one["id"] for one in table["categories"] if one.get("supercategory") == "none" and one["id"] == 0)
    group = next(groups, None) if len(categories) > 1 else None
    sizes = {number: size for number, one in zip(images, table["images"], strict=True) if (size := _size(one))}
    return Instances(images, categories, tuple(objects), group, sizes)


def _pairs(
    table: Any, key: str, first: tuple[str, type], second: tuple[str, type], name: str
) -> Iterator[tuple[str, Any, Any]]:
    """The place of each entry of a list, and two values of it, checked to be of the given types."""
    entries = table.get(key) if isinstance(table, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{name}: no list {key!r}; expected images, annotations and categories as COCO has them")
    for number, entry in enumerate(entries):
        place = f"{key}[{number}]"
        yield place, _value(entry, *first, f"{name}: {place}"), _value(entry, *second, f"{name}: {place}")


def _value(entry: Any, key: str, kind: type, where: str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not kind:
        expected = "an integer" if kind is int else "a text"
        raise DataError(f"{where} has {value!r:.60} for {key!r}; expected {expected}; correct it")
    return value


def split_of(file: Path) -> str:
    """The split of a file: `train` for `instances_train2017.json`, and `default` for `labels.json`, which is all
    images."""
    if not file.name.startswith(PREFIX):
        return split_of_name(file.stem) or ("default" if file.stem in _WHOLE else file.stem)
    name = file.stem.removeprefix(PREFIX)
    return re.sub(r"(?<=[^0-9])20[0-9]{2}$", "", name) or name


@dataclass
class Collected:
    """The joined content of all files."""

    root: Path
    images: dict[str, str] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)
    categories: Mapping[int, str] | None = None
    group: int | None = None
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    strays: int = 0

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The categories in the order of their ids, without one that only groups the others."""
        if self.categories is None:
            return None
        used = set().union(*self.tags.values())
        order = sorted(self.categories)
        return tuple(name for k in order if (name := self.categories[k]) in used or k != self.group)

    def add(self, file: Path, split: str | None = None, places: Sequence[str] | None = None) -> dict[int, str]:
        """Add one file. Returns our ids of its images by their numbers in it.

        Args:
            file: of annotations.
            split: the split that it describes; None to take it from the file's name.
            places: folders that its images may be in, relative to the root; None for COCO's own.
        """
        found = parse_instances(read_regular(file, MAX_JSON_BYTES), str(file))
        if self.categories is not None and dict(found.categories) != dict(self.categories):
            raise DataError(
                f"{file}: its categories differ from those of the files before it; expected the same; correct it"
            )
        self.categories, self.group = found.categories, found.group
        ids = dict[int, str]()
        members = self.splits.setdefault(split or split_of(file), set())
        looked_in = list(_places(self.root, file) if places is None else places)
        for number, file_name in found.images.items():
            image_id = self._image(file, file_name, looked_in)
            if image_id is not None:
                ids[number] = image_id
                members.add(image_id)
                if number in found.sizes:
                    self.sizes[image_id] = found.sizes[number]
        for number, category in found.objects:
            if number in ids:
                self.tags.setdefault(ids[number], set()).add(found.categories[category])
            else:
                self.strays += number not in found.images
        return ids

    def as_found(self, source: str) -> Found:
        """Everything, with its origin."""
        return Found(
            images=self.images,
            tags={image_id: frozenset(self.tags.get(image_id, ())) for image_id in self.images},
            tag_source=source,
            splits={name: frozenset(ids) for name, ids in self.splits.items()},
            class_order=self.classes,
            findings=tuple(self.findings()),
            sizes=self.sizes,
        )

    def _image(self, file: Path, file_name: str, places: list[str]) -> str | None:
        """The id of an image, after recording it; None after a fault."""
        path = image_path(file_name)
        stem, dot, suffix = path.rpartition(".")
        fault = id_fault(stem if dot else path)
        if fault is None and f".{suffix.lower()}" not in PHOTO_SUFFIXES:
            fault = f"{file_name!r:.80} is no name of an image"
        if fault:
            self.faults.setdefault("bad-id", []).append((stem, f"{file}: {fault}; correct file_name"))
            return None
        for place in places:
            found_at = in_composition(self.root, f"{place}/{path}" if place else path)
            if found_at is not None:
                places.remove(place)
                places.insert(0, place)  # where the next one will be
                image_id = found_at.rpartition(".")[0]
                if self.images.setdefault(image_id, found_at) != found_at:
                    message = f"{file}: two files for {image_id!r}, by extension only; rename one"
                    self.faults.setdefault("same-id", []).append((image_id, message))
                return image_id
        folders = ", ".join(str(self.root / place) for place in places[:3])
        message = f"{file}: no image {path!r:.200}; looked in {folders}; add it or take it off the list"
        self.faults.setdefault("missing-image", []).append((stem, message))
        return None

    def findings(self) -> Iterator[Finding]:
        """One finding for each kind of fault: the first in words, the ids of all."""
        for code, faults in sorted(self.faults.items()):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            yield Finding("error", code, faults[0][1] + more, tuple(image_id for image_id, _ in faults))
        if self.strays:
            yield Finding("warning", "stray-annotations", f"of no image: {counted(self.strays, 'annotation')}")


def outlines_of(found: Collected, ids: Mapping[int, str], file: Path) -> Iterator[Outlines]:
    """The objects of the images of one file that was added before.

    Raises:
        DataError: It has changed since, or is not JSON.
    """
    table = read_json(read_regular(file, MAX_JSON_BYTES), str(file), outlines=True)
    by_image = {one["id"]: Outlines(ids[one["id"]], _size(one)) for one in table["images"] if one["id"] in ids}
    names = {one["id"]: one["name"] for one in table["categories"]}
    for number, one in enumerate(table["annotations"]):
        if one["image_id"] in by_image:
            shape = _shape(one, names[one["category_id"]], f"{file}: annotations[{number}]")
            by_image[one["image_id"]].shapes.append(shape)
    yield from by_image.values()


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = [side for side in (image.get("height"), image.get("width")) if isinstance(side, int | float)]
    is_size = len(sides) == 2 and all(1 <= side < 2**31 for side in sides)
    return (int(sides[0]), int(sides[1])) if is_size else None


def _shape(annotation: Mapping[str, Any], name: str, where: str) -> Shape:
    outline = annotation.get("segmentation")
    named = None if annotation.get("iscrowd") else name
    if isinstance(outline, dict):
        return Shape(where, named, run_lengths=outline)
    if not isinstance(outline, list) or not outline or not all(isinstance(part, list) for part in outline):
        raise DataError(f"{where} has no outline; expected polygons or run lengths at 'segmentation'; correct it")
    return Shape(where, named, polygons=outline)


def _places(root: Path, file: Path) -> list[str]:
    """Folders that images may be in, relative to the root, the most specific first."""
    full, short = file.stem.removeprefix(PREFIX), split_of(file)
    named = (f"images/{full}", f"images/{short}", full, short, "images", "data", "")
    return [place for place in dict.fromkeys(named) if (root / place).is_dir()]


def _files(config: DataConfig, root: Path) -> tuple[Path, ...]:
    files = find_instances(config, root)
    if not files:
        raise DataError(
            f"no {ANNOTATIONS}/{PREFIX}*.json in {root}; expected annotations of COCO; name them with --set "
            "data.tags=FILE.json"
        )
    return files


def _above(root: Path) -> Path:
    """The folder of an image set whose file of annotations was named."""
    if root.is_dir():
        return root
    return root.parent.parent if root.parent.name == ANNOTATIONS else root.parent


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    files, folder = _files(config, root), _above(root)
    return replace(read_coco(files, folder), root=folder)


def _outlines(config: DataConfig, root: Path) -> Iterator[Outlines]:
    found = Collected(_above(root))
    for file in _files(config, root):
        yield from outlines_of(found, found.add(file), file)


LAYOUT = Layout(
    "coco",
    f"{ANNOTATIONS}/{PREFIX}*.json of COCO",
    lambda config, root: bool(find_instances(config, root)),
    _read,
    _outlines,
)
