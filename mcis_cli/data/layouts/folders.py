"""A folder of images for each class: ROOT/CLASS/*.jpg, or ROOT/SPLIT/CLASS/*.jpg where there is a split `train`."""

import os
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.listing import Finding, Found, id_fault, index_files
from mcis_cli.errors import DataError, counted

RESERVED = frozenset({"masks", "saliency"})


def has_class_folders(config: DataConfig, root: Path) -> bool:
    """Whether a folder looks like a folder of images for each class."""
    return any(_has_photos(root / name) for name in _class_folders(config, root))


def read_folders(config: DataConfig, root: Path) -> Found:
    """Read a folder of images for each class; an id is the path without its extension, so it tells the class.

    Empty folders are classes too. A class may be called `train`: it holds images, a split holds folders.

    Raises:
        DataError: A folder cannot be read.
    """
    images: dict[str, str] = {}
    tags: dict[str, frozenset[str]] = {}
    splits: dict[str, set[str]] = {}
    findings: list[Finding] = []
    folders = _class_folders(config, root)
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
    return Found(
        images=images,
        tags=tags,
        tag_source=str(root),
        splits={name: frozenset(ids) for name, ids in splits.items()},
        class_order=tuple(sorted({folder.rpartition("/")[2] for folder in folders})),
        findings=tuple(findings),
    )


def _class_folders(config: DataConfig, root: Path) -> list[str]:
    """The folders of classes, relative to the root: CLASS or SPLIT/CLASS."""
    set_aside = RESERVED | {Path(name).parts[0] for name in (config.masks, config.saliency) if name}
    top = [name for name in _subfolders(root) if name not in set_aside]
    if "train" not in top or not _is_split(root / "train"):
        return top
    return [f"{split}/{name}" for split in top if _is_split(root / split) for name in _subfolders(root / split)]


def _is_split(folder: Path) -> bool:
    return not _has_photos(folder) and bool(_subfolders(folder))


def _unread(root: Path, folders: list[str]) -> list[Finding]:
    """A warning for folders within the folders of classes, which nobody reads."""
    nested = tuple(f"{folder}/{name}" for folder in folders for name in _subfolders(root / folder))
    if not nested:
        return []
    folders_within = counted(len(nested), "folder")
    message = f"not read: {folders_within} within folders of classes in {root} (the first is {nested[0]!r})"
    return [Finding("warning", "nested-folders", message, nested)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in no order, without hidden names."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _has_photos(folder: Path) -> bool:
    return any(os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES for entry in _entries(folder))
