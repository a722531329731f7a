"""A folder of images for each class: ROOT/CLASS/*.jpg, or ROOT/SPLIT/CLASS/*.jpg if there is a split `train`."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import JUNK_FOLDERS, MASK_SUFFIXES, MAX_IMAGE_BYTES, PHOTO_SUFFIXES, id_fault
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.listing import Finding, Found, index_files
from mcis_cli.data.layouts.other_tools import other_export
from mcis_cli.data.layouts.split_names import split_of_name
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError, counted
from mcis_cli.store import StatCache

RESERVED = frozenset({"masks", "saliency", "annotations", "SegmentationClass", "SegmentationObject"})
LEARNT = frozenset({"train", "training"})
NUM_LOOKED_AT = 3  # images that are read to recognise a folder of masks


def has_class_folders(config: DataConfig, root: Path) -> bool:
    """Whether a folder looks like a folder of images for each class.

    Raises:
        DataError: Its only folders of images have names of splits, so that nothing gives the classes.
    """
    folders = [name for name in _class_folders(config, root) if _has_photos(root / name)]
    if any(map(_means_split, folders)):
        masks = {} if any("/" in name for name in folders) else _folders_of_masks(root, folders)
        folders = [name for name in folders if name not in masks]
    if folders and all(map(_means_split, folders)):
        shown = ", ".join(map(repr, folders))
        other = other_export(root)
        raise DataError(
            f"{root}: the folders {shown} have the names of splits and hold images; expected SPLIT/CLASS/*.jpg, or "
            "tags: a table such as tags.csv with columns image,tags,split, or the export's _annotations.coco.json or "
            f"_classes.csv{f'; {other}' if other else ''}"
        )
    return bool(folders)


def _means_split(folder: str) -> bool:
    """Whether a folder is called as a split, as `train/images` is; `train/10` may well be a class."""
    return split_of_name(folder) is not None and any(map(str.isalpha, folder.rpartition("/")[2]))


def read_folders(config: DataConfig, root: Path) -> Found:
    """Read a folder of images for each class; an id is the path without its extension, so it names the class.

    A folder without images, or of masks, is not a class. The images in a folder called background, negative or none
    are negatives. A class may be called `train`: it holds images, a split holds folders.

    Raises:
        DataError: A folder cannot be read.
    """
    images: dict[str, str] = {}
    tags: dict[str, frozenset[str]] = {}
    splits: dict[str, set[str]] = {}
    findings: list[Finding] = []
    named = _class_folders(config, root)
    masks = {} if any("/" in name for name in named) else _folders_of_masks(root, named)
    folders = [name for name in named if name not in masks]
    findings += (_masks_beside(root, name, photographs) for name, photographs in masks.items())
    for folder in folders:
        split, _, class_name = folder.rpartition("/")
        files, faults = index_files(root / folder, root, PHOTO_SUFFIXES, recursive=False)
        findings += faults
        for stem, path in files.items():
            image_id = f"{folder}/{stem}"
            fault = id_fault(image_id)
            if fault:
                findings.append(
                    Finding("error", "bad-id", f"{root / path!s:.300}: {fault}; rename the file", (image_id,))
                )
                continue
            images[image_id], tags[image_id] = path, frozenset({class_name})
            if split:
                splits.setdefault(split, set()).add(image_id)
    findings += _unread(root, folders)
    with_images = {image_id.rpartition("/")[0] for image_id in images}
    return Found(
        images=images,
        tags=tags,
        tag_source=str(root),
        splits={name: frozenset(ids) for name, ids in splits.items()},
        class_order=tuple(sorted({folder.rpartition("/")[2] for folder in with_images})),
        findings=tuple(findings),
    )


def _class_folders(config: DataConfig, root: Path) -> list[str]:
    """The folders of classes, relative to the root: CLASS or SPLIT/CLASS."""
    set_aside = RESERVED | {Path(name).parts[0] for name in (config.masks, config.saliency) if name}
    top = [name for name in _subfolders(root) if name not in set_aside]
    if not any(name.casefold() in LEARNT and _is_split(root / name) for name in top):
        return top
    return [f"{split}/{name}" for split in top if _is_split(root / split) for name in _subfolders(root / split)]


def _folders_of_masks(root: Path, folders: list[str]) -> dict[str, str]:
    """The folders of masks, each with its folder of photographs, which has the same names, perhaps without a word such
    as `_mask`; images of a folder of masks have few colours."""
    stems = {name: _lossless_stems(root / name) for name in folders}
    photographs = {name: {Path(entry.name).stem for entry in _photos(root / name)} for name in folders}
    with_stem: dict[str, list[str]] = {}
    for name in folders if any(stems.values()) else ():
        for stem in photographs[name]:
            with_stem.setdefault(stem, []).append(name)
    shows_masks = cache(lambda name: _shows_masks(root / name))
    masks: dict[str, str] = {}
    for name, own in stems.items():
        near = (other for stem in _parts(min(own, default="")) for other in with_stem.get(stem, ()) if other != name)
        for other in (other for other in dict.fromkeys(near) if _are_named_as(own, photographs[other])):
            if not shows_masks(name):
                break
            if not shows_masks(other):
                masks[name] = other
                break
    return masks


def _parts(name: str) -> Iterator[str]:
    """A name without its end, from the whole on, and without its beginning."""
    yield from (name[:k] for k in range(len(name), 0, -1))
    yield from (name[k:] for k in range(1, len(name)))


def _are_named_as(names: set[str], photographs: set[str]) -> bool:
    """Whether names are those of photographs, perhaps all with the same text before or after them."""
    first = min(names)
    for part in _parts(first):
        if part in photographs:
            before, after = ("", first[len(part) :]) if first.startswith(part) else (first[: -len(part)], "")
            if {name.removeprefix(before).removesuffix(after) for name in names} <= photographs:
                return True
    return False


def _lossless_stems(folder: Path) -> set[str]:
    """The names of images, without extensions; none if one has a format that masks cannot have."""
    photos = _photos(folder)
    if any(os.path.splitext(entry.name)[1].lower() not in MASK_SUFFIXES for entry in photos):
        return set()
    return {Path(entry.name).stem for entry in photos}


def _shows_masks(folder: Path) -> bool:
    from mcis_cli.data.images import has_few_colours

    files = sorted(entry.path for entry in _photos(folder))[:NUM_LOOKED_AT]
    return all(has_few_colours(read_regular(Path(file), MAX_IMAGE_BYTES)) for file in files)


def _masks_beside(root: Path, name: str, photographs: str) -> Finding:
    message = (
        f"the folder {name!r} in {root} holds masks of the images in {photographs!r} and is no class; if they are the "
        f"ground truth, name them with --set data.masks={name}"
    )
    return Finding("warning", "masks-beside", message, (name,))


def _is_split(folder: Path) -> bool:
    return not _has_photos(folder) and bool(_subfolders(folder))


def _unread(root: Path, folders: list[str]) -> list[Finding]:
    """Warn of folders within the folders of classes, which are not read."""
    nested = tuple(f"{folder}/{name}" for folder in folders for name in _subfolders(root / folder))
    if not nested:
        return []
    folders_within = counted(len(nested), "folder")
    message = f"not read: {folders_within} within folders of classes in {root} (the first is {nested[0]!r})"
    return [Finding("warning", "nested-folders", message, nested)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, unordered, without hidden ones."""
    try:
        return [
            entry for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.name not in JUNK_FOLDERS
        ]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link
        return False


def _photos(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES]


def _has_photos(folder: Path) -> bool:
    return any(os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES for entry in _entries(folder))


def _matches(config: DataConfig, root: Path) -> bool:
    return root.is_dir() and has_class_folders(config, root)


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder for the layout folders; correct the path")
    return read_folders(config, root)


LAYOUT = Layout("folders", "a folder of images for each class", _matches, _read)
