"""Exports of Label Studio: JSON, JSON-MIN and CSV, beside the images or above them.

Choices are tags, and so are the labels of brushes, polygons and boxes. Brushes and polygons can become ground truth. A
task that was submitted without a label is a negative; one that was not submitted, or skipped, is unlabelled.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.coco import MAX_JSON_BYTES, read_json
from mcis_cli.data.layouts.label_studio_brush import decode_brush
from mcis_cli.data.layouts.layout import Layout, Outlines, Shape
from mcis_cli.data.layouts.listing import Finding, Found, by_composition, index_files
from mcis_cli.data.layouts.rows import TABLE_SUFFIXES, read_rows
from mcis_cli.data.layouts.tag_cells import split_cell
from mcis_cli.data.regular_files import open_regular, read_regular
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

LABELS = ("choices", "taxonomy", "brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "keypointlabels")
# Controls whose values are plain texts in CSV and JSON-MIN, beside columns of the data.
_CONTROLS = frozenset({"choice", "choices", "label", "labels", "tag", "tags", "class", "classes", "category"})
_KNOWN = _CONTROLS | {"image", "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
_SIGNS = frozenset({"annotation_id", "lead_time"})
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # the prefix that an upload adds to a name
HEAD = 2**16
_TASKS = re.compile(rb"\s*\[\s*\{")
_KEYS = re.compile(rb'"(?:annotations|completions|annotation_id|lead_time|original_width|data)"\s*:')


def _file(config: DataConfig, root: Path) -> Path | None:
    """The export: the root itself, the file of `config.tags`, or the only one in the folder that looks like one."""
    if root.is_file():
        return root if is_export(root) else None
    if config.tags is not None:
        named = root / config.tags
        return named if named.is_file() and is_export(named) else None
    tables = [file for file in sorted(root.glob("*.*")) if file.suffix.lower() in TABLE_SUFFIXES and file.is_file()]
    if tables:  # other tables come first
        return tables[0] if len(tables) == 1 and is_export(tables[0]) else None
    return next((file for file in sorted(root.glob("*.json")) if file.is_file() and is_export(file)), None)


def is_export(file: Path) -> bool:
    """Whether a file looks like an export of Label Studio, by its head."""
    handle, _ = open_regular(file, MAX_JSON_BYTES)
    with handle:
        head = handle.read(HEAD).removeprefix(b"\xef\xbb\xbf")
    if file.suffix.lower() == ".json":
        return _TASKS.match(head) is not None and _KEYS.search(head) is not None
    if file.suffix.lower() not in TABLE_SUFFIXES:
        return False
    cells = re.split("[,;\t]", head.partition(b"\n")[0].decode(errors="replace"))
    return {cell.strip().strip('"') for cell in cells} >= _SIGNS


@dataclass
class _Photos:
    """The images of a folder by their names, with and without the prefix of an upload."""

    root: Path
    images: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def of(root: Path) -> "_Photos":
        files, _ = index_files(root, root, PHOTO_SUFFIXES)
        photos = _Photos(root)
        for image_id, path in files.items():
            if image_id.split("/")[0] in ("masks", "saliency"):
                continue
            photos.images[image_id] = path
            name = path.rpartition("/")[2]
            for known in {name, UPLOADED.sub("", name), *by_composition([name])}:
                photos.by_name.setdefault(known, []).append(image_id)
        return photos

    def find(self, reference: str, where: str) -> str:
        """The id of the image that a task refers to: by its path below the root, else by its name."""
        path = path_of(reference)
        stem = path.rpartition(".")[0]
        if self.images.get(stem) == path:
            return stem
        name = path.rpartition("/")[2]
        for known in (name, UPLOADED.sub("", name)):
            found = self.by_name.get(known, [])
            if len(set(found)) > 1:
                raise DataError(
                    f"{where}: {found[0]!r} and {found[1]!r} may both be {name!r:.200}; remove or rename one"
                )
            if found:
                return found[0]
        raise DataError(f"{where}: no image {name!r:.200} in {self.root}; add it, or remove the task")


def path_of(reference: str) -> str:
    """The path in a task's reference to its image: an address, a path, or `/data/local-files/?d=PATH`."""
    parts = urlsplit(reference)
    local = parse_qs(parts.query).get("d")
    return unquote(local[0] if local else parts.path or reference).replace("\\", "/").lstrip("/")


@dataclass(frozen=True, slots=True)
class _Task:
    """A task: its place, its image, whether it was submitted, its labels and its regions, and the names of text values
    that may be labels, if a control has an unusual name."""

    where: str
    image: str
    is_labelled: bool
    tags: frozenset[str]
    regions: Sequence[Mapping[str, Any]] = ()
    others: frozenset[str] = frozenset()


def _tasks(file: Path) -> Iterator[_Task]:
    if file.suffix.lower() != ".json":
        yield from _tasks_of_table(file)
        return
    table = read_json(read_regular(file, MAX_JSON_BYTES), str(file), outlines=True)
    if not isinstance(table, list) or not all(isinstance(task, dict) for task in table):
        raise DataError(f"{file}: no list of tasks; expected an export of Label Studio; export JSON again")
    for number, task in enumerate(table):
        where = f"{file}: task {number}"
        yield _whole(task, where) if isinstance(task.get("data"), dict) else _small(task, where)


def _whole(task: Mapping[str, Any], where: str) -> _Task:
    """A task of the JSON export."""
    given = task.get("annotations", task.get("completions"))  # the second in exports of old versions
    submitted = [one for one in _dicts(given) if not one.get("was_cancelled")]
    results = [result for one in submitted for result in _dicts(one.get("result"))]
    tags = {tag for result in results for tag in _labels_of(result.get("value"))}
    return _Task(where, _reference(task["data"], where), bool(submitted), frozenset(tags), results)


def _small(task: Mapping[str, Any], where: str) -> _Task:
    """A task of the JSON-MIN export, which has a value for each control that was used."""
    tags = {
        tag for key, value in task.items() for tag in _loose(value) if key in _CONTROLS or not isinstance(value, str)
    }
    others = frozenset(key for key, value in task.items() if isinstance(value, str) and key not in _KNOWN)
    return _Task(where, _reference(task, where), "annotation_id" in task, frozenset(tags), others=others)


def _tasks_of_table(file: Path) -> Iterator[_Task]:
    (_, header), *rows = read_rows(file)
    names = [name.strip() for name in header]
    for line, cells in rows:
        row = dict(zip(names, cells, strict=False))
        where = f"{file} line {line}"
        reference = _reference(row, where)
        tags = {tag for key, value in row.items() for tag in _from_cell(value, is_control=key in _CONTROLS)}
        others = frozenset(names) - _KNOWN
        yield _Task(where, reference, bool(row.get("annotation_id", "").strip()), frozenset(tags), others=others)


def _from_cell(cell: str, *, is_control: bool) -> list[str]:
    """Tags of a cell: JSON of labels, or names in the column of a control."""
    if cell[:1] in ("[", "{"):
        try:
            return list(_loose(json.loads(cell)))
        except (ValueError, RecursionError):
            pass
    return split_cell(cell) if is_control else []


def _loose(value: Any) -> Iterator[str]:
    """Tags of a value of JSON-MIN or CSV: a text, `{"choices": […]}`, or a list of regions or texts."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, list):
        for one in value:
            yield from _loose(one)
    else:
        yield from _labels_of(value)


def _labels_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key in LABELS:
            names = value.get(key)
            for name in names if isinstance(names, list) else ():
                parts = name if isinstance(name, list) else [name]  # a taxonomy gives the path from its root
                if parts and isinstance(parts[-1], str):
                    yield parts[-1].strip()


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _reference(data: Mapping[str, Any], where: str) -> str:
    """A task's reference to its image: the value at `image`, or one that ends like a photograph."""
    texts = [data.get("image"), *data.values()]
    for text in texts:
        if isinstance(text, str) and Path(path_of(text)).suffix.lower() in PHOTO_SUFFIXES:
            return text
    raise DataError(f"{where}: no image; expected a path or an address at 'image'; export again")


def _found_file(config: DataConfig, root: Path) -> tuple[Path, Path]:
    """The export, and the folder of its images."""
    file = _file(config, root)
    if file is None:
        raise DataError(
            f"no export of Label Studio in {root}; expected its JSON or CSV; name it with --set data.tags=NAME"
        )
    return file, root.parent if root.is_file() else root


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    file, folder = _found_file(config, root)
    photos = _Photos.of(folder)
    tags: dict[str, set[str]] = {}
    faults: list[tuple[str, str]] = []
    sizes: dict[str, tuple[int, int]] = {}
    tasks = [*_tasks(file)]
    _refuse_unsubmitted(file, tasks)
    for task in tasks:
        try:
            image_id = photos.find(task.image, task.where)
        except DataError as error:
            faults.append((path_of(task.image), str(error)))
            continue
        if task.is_labelled:
            tags.setdefault(image_id, set()).update(task.tags - {""})
            sizes.update((image_id, size) for region in task.regions if (size := _size(region)))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    findings = [Finding("error", "missing-image", faults[0][1] + more, tuple(p for p, _ in faults))] if faults else []
    return Found(
        images=photos.images,
        tags={image_id: frozenset(names) for image_id, names in tags.items()},
        tag_source=str(file),
        findings=tuple(findings),
        root=folder,
        sizes=sizes,
    )


def _size(region: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (height, width) of the image that a region was drawn on."""
    height, width = region.get("original_height"), region.get("original_width")
    is_size = type(height) is int and type(width) is int and 0 < height < 2**15 and 0 < width < 2**15
    return (height, width) if is_size else None  # type: ignore[return-value]


def _refuse_unsubmitted(file: Path, tasks: Sequence[_Task]) -> None:
    """Raise an error that explains why an export has no labels at all.

    Raises:
        DataError: no task was submitted, or none has a label in the expected places.
    """
    if not any(task.is_labelled for task in tasks):
        raise DataError(
            f"{file}: no task was submitted; expected annotations, not predictions; submit some, and export"
        )
    others = sorted(set().union(*(task.others for task in tasks)))
    if others and not any(task.tags for task in tasks):
        raise DataError(
            f"{file}: no labels; found {', '.join(map(repr, others[:5]))}; expected them at 'choice' or 'label'; "
            "export JSON, which says what is a label, or rename that of the labels"
        )


def _outlines(config: DataConfig, root: Path) -> Iterator[Outlines]:
    file, folder = _found_file(config, root)
    if file.suffix.lower() != ".json":
        raise DataError(f"{file}: no outlines; expected the JSON export of Label Studio; export JSON")
    yield from outlines_of(file, _Photos.of(folder).find)


def outlines_of(file: Path, find: Callable[[str, str], str]) -> Iterator[Outlines]:
    """The regions of each submitted task of a JSON export.

    Args:
        file: the export.
        find: from the reference to an image, and its place in the file, to our id of the image.
    """
    for task in _tasks(file):
        if not task.is_labelled:
            continue
        by_size: dict[tuple[int, int] | None, Outlines] = {}
        image_id = find(task.image, task.where)
        for number, region in enumerate(task.regions):
            shape, size = _shape(region, f"{task.where}, region {number}")
            if shape is not None:
                by_size.setdefault(size, Outlines(image_id, size)).shapes.append(shape)
        yield from by_size.values() or [Outlines(image_id, None)]


def _shape(region: Mapping[str, Any], where: str) -> tuple[Shape | None, tuple[int, int] | None]:
    value, kind = region.get("value"), region.get("type")
    names = list(_labels_of(value))
    if kind in ("choices", "taxonomy") or not isinstance(value, dict) or not names:
        return None, None
    size = _size(region)
    if size is None:
        raise DataError(f"{where} has no original_width and original_height; expected pixels; export JSON again")
    height, width = size
    if kind == "polygonlabels":
        points = value.get("points")
        if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
            raise DataError(f"{where} has no points; expected x and y of each corner; export JSON again")
        corners = [c * side / 100 for p in points for c, side in zip(p, (width, height), strict=True)]
        return Shape(where, names[0], polygons=[corners]), (height, width)
    if kind == "brushlabels":
        return Shape(where, names[0], pixels=decode_brush(value.get("rle"), height, width, where)), (height, width)
    raise DataError(f"{where} is of {kind!s:.40}, which outlines nothing; expected a brush or a polygon; draw one")


LAYOUT = Layout(
    "label-studio",
    "an export of Label Studio (JSON or CSV)",
    lambda config, root: _file(config, root) is not None,
    _read,
    _outlines,
)
