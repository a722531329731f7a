"""Exports of Roboflow: a folder for each split, with its images and one file of annotations among them.

The file is `_annotations.coco.json` (COCO), `_classes.csv` (0 and 1 for each class, or values of `NAME_mask.png`) or
`_annotations.csv` (a box a row).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import JUNK_FOLDERS, PHOTO_SUFFIXES
from mcis_cli.data.layouts.coco import Collected, outlines_of
from mcis_cli.data.layouts.layout import Layout, Outlines
from mcis_cli.data.layouts.listing import Finding, Found, index_files
from mcis_cli.data.layouts.names import is_background
from mcis_cli.data.layouts.rows import read_rows
from mcis_cli.data.layouts.table import read_table
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

COCO, CLASSES, BOXES = "_annotations.coco.json", "_classes.csv", "_annotations.csv"
MASK = "_mask"
_SPLITS = {"valid": "val", "validation": "val"}
_UNLABELLED = "unlabeled"  # a column that Roboflow writes


def _folders(root: Path) -> list[Path]:
    """The folders with a file of annotations: the root alone, or those of splits."""
    if root.is_file():
        return [root.parent] if root.name == COCO else []
    if (root / COCO).is_file():
        return [root]
    below = sorted(one for one in root.glob("*/") if one.name not in JUNK_FOLDERS and not one.name.startswith("."))
    return [one for one in below if any((one / name).is_file() for name in (COCO, CLASSES, BOXES))]


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    folders, top = _folders(root), root if root.is_dir() else root.parent
    if not folders:
        raise DataError(f"no {COCO}, {CLASSES} or {BOXES} in the folders of {root}; expected an export of Roboflow")
    if all((folder / COCO).is_file() for folder in folders):
        found = Collected(top)
        for folder in folders:
            found.add(folder / COCO, _split(folder), [_below(top, folder)])
        whole = found.as_found(", ".join(str(folder / COCO) for folder in folders))
    else:
        whole = _joined([_read_table(folder, top) for folder in folders])
    return replace(whole, root=top, splits={} if folders == [top] else whole.splits)


def _split(folder: Path) -> str:
    """The split of a folder: Roboflow's `valid` is `val`."""
    return _SPLITS.get(folder.name.casefold(), folder.name)


def _below(top: Path, folder: Path) -> str:
    below = folder.relative_to(top).as_posix()
    return "" if below == "." else below


def _read_table(folder: Path, top: Path) -> Found:
    """One split with a table; ids are relative to the root of all."""
    name = CLASSES if (folder / CLASSES).is_file() else BOXES
    if not (folder / name).is_file():
        raise DataError(f"no {CLASSES} or {BOXES} in {folder}; expected the same files in each folder; add it")
    values = _pixel_values(folder / name)
    found = _with_masks(folder, values) if values else read_table(folder / name, folder)
    below = _below(top, folder)
    prefix = f"{below}/" if below else ""
    unlabelled = {tag for tag in set().union(*found.tags.values()) if tag.casefold() == _UNLABELLED}
    tags = {f"{prefix}{key}": tags for key, tags in found.tags.items() if not tags & unlabelled}
    images = {f"{prefix}{key}": f"{prefix}{path}" for key, path in found.images.items()}
    order = tuple(one for one in found.class_order or () if one.casefold() != _UNLABELLED)
    masks = None if found.masks is None else {f"{prefix}{k}": f"{prefix}{path}" for k, path in found.masks.items()}
    splits = {_split(folder): frozenset(images)}
    return replace(found, images=images, tags=tags, class_order=order or None, masks=masks, splits=splits)


def _pixel_values(file: Path) -> list[str]:
    """The classes in the order of their mask values, from a table `Pixel Value, Class`."""
    header, *rows = [cells for _, cells in read_rows(file)] or [[]]
    if [cell.strip().casefold() for cell in header] != ["pixel value", "class"]:
        return []
    names: list[str] = []
    for place, (value, *name) in enumerate(rows):
        if value.strip() != str(place) or not name:
            raise DataError(f"{file}: the value {value!r:.20} in row {place + 1}; expected {place}; correct the table")
        names.append(name[0].strip())
    return names


def _with_masks(folder: Path, values: list[str]) -> Found:
    """Photographs with their masks beside them, and no tags."""
    if not is_background(values[0]):
        raise DataError(f"{folder / CLASSES}: the value 0 is {values[0]!r:.80}; expected background; correct the masks")
    files, findings = index_files(folder, folder, PHOTO_SUFFIXES, recursive=False)
    images = {stem: path for stem, path in files.items() if stem.removesuffix(MASK) not in files or MASK not in stem}
    masks = {stem: files[stem + MASK] for stem in images if stem + MASK in files}
    return Found(images=images, tags={}, tag_source=None, class_order=tuple(values[1:]), masks=masks, findings=findings)


def _joined(parts: list[Found]) -> Found:
    """The splits as one set."""
    orders = {part.class_order for part in parts}
    findings: list[Finding] = [finding for part in parts for finding in part.findings]
    if len(orders) > 1:
        raise DataError(f"the tables {parts[0].tag_source} and of other splits have other classes; expected the same")
    with_masks = [part.masks for part in parts if part.masks is not None]
    return Found(
        images={key: path for part in parts for key, path in part.images.items()},
        tags={key: tags for part in parts for key, tags in part.tags.items()},
        tag_source=", ".join(part.tag_source for part in parts if part.tag_source) or None,
        splits={name: ids for part in parts for name, ids in part.splits.items()},
        class_order=orders.pop(),
        masks={key: path for masks in with_masks for key, path in masks.items()} if with_masks else None,
        findings=tuple(findings),
    )


def _outlines(config: DataConfig, root: Path) -> Iterator[Outlines]:
    folders, top = _folders(root), root if root.is_dir() else root.parent
    found = Collected(top)
    for folder in folders:
        if not (folder / COCO).is_file():
            raise DataError(f"no {COCO} in {folder}; expected outlines; export COCO Segmentation, or name masks")
        yield from outlines_of(found, found.add(folder / COCO, _split(folder), [_below(top, folder)]), folder / COCO)


LAYOUT = Layout(
    "roboflow",
    f"an export of Roboflow (SPLIT/{COCO}, SPLIT/{CLASSES})",
    lambda config, root: config.tags is None and bool(_folders(root)),
    _read,
    _outlines,
)
