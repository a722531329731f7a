"""Tags as an array of 0 and 1: `NAME.npy` of (images, classes), and `NAME.txt` with the image of each row."""

from collections.abc import Sequence
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import id_fault
from mcis_cli.data.layouts.listing import Finding, Found, image_id_of, image_path, locate_image, read_lines
from mcis_cli.data.layouts.names import listed_names
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError

SUFFIX = ".npy"


def find_multi_hot(config: DataConfig, root: Path) -> Path | None:
    """The array of a data set: the root itself, `config.tags`, or the only array with a list beside it.

    Raises:
        DataError: There are several.
    """
    if root.is_file():
        return root if root.suffix.lower() == SUFFIX else None
    if config.tags is not None:
        return root / config.tags if config.tags.lower().endswith(SUFFIX) else None
    arrays = sorted(file for file in root.glob(f"*{SUFFIX}") if file.with_suffix(".txt").is_file())
    if len(arrays) > 1:
        names = ", ".join(repr(file.name) for file in arrays)
        raise DataError(f"{len(arrays)} arrays of tags in {root} ({names}); expected one; choose with --set data.tags=")
    return arrays[0] if arrays else None


def read_multi_hot_set(file: Path, config: DataConfig, root: Path) -> Found:
    """Read a folder of images with such an array; an id is the path of an image without its extension.

    Raises:
        DataError: as `read_multi_hot`.
    """
    images: dict[str, str] = {}
    tags: dict[str, frozenset[str]] = {}
    faults: dict[str, list[tuple[str, str]]] = {}
    for line, names in read_multi_hot(file, config, root).items():
        path = image_path(line)
        image_id = image_id_of(path)
        where = f"{file.with_suffix('.txt')}: "
        if fault := id_fault(image_id):
            faults.setdefault("bad-id", []).append((image_id, f"{where}{fault}; correct the path"))
            continue
        found_at = locate_image(root, path, image_id)
        if found_at is None:
            message = f"{where}no image {path!r} in {root}; add it, or take it off both files"
            faults.setdefault("missing-image", []).append((image_id, message))
            continue
        images[image_id] = found_at
        tags[image_id] = tags.get(image_id, frozenset()) | names
    findings = tuple(
        Finding("error", code, of_kind[0][1], tuple(image_id for image_id, _ in of_kind))
        for code, of_kind in sorted(faults.items())
    )
    return Found(images=images, tags=tags, tag_source=str(file), findings=findings)


def read_multi_hot(file: Path, config: DataConfig, root: Path) -> dict[str, frozenset[str]]:
    """The tags of each line of the list beside the array.

    Args:
        file: the array, of integers, floats or booleans; a pickle is refused.
        config: may name the classes, in the order of the columns; otherwise `classes.txt` in the root does.
        root: of the image set.

    Raises:
        DataError: there is no list or no class names, or they do not fit the array, or a value is not 0 or 1.
    """
    import numpy as np

    from mcis_cli.data.array_files import MAX_ARRAY_BYTES, read_npy

    listed = file.with_suffix(".txt")
    if not listed.is_file():
        raise DataError(f"{file}: no list of images beside it; expected {listed.name}, an image a line; add it")
    names = _class_names(file, config, root)
    array = read_npy(read_regular(file, MAX_ARRAY_BYTES), str(file))
    images = read_lines(listed)
    if array.shape != (len(images), len(names)):
        raise DataError(
            f"{file}: an array of the shape {array.shape}; expected {(len(images), len(names))}, the images of "
            f"{listed.name} by the classes; correct one of them"
        )
    odd = np.argwhere((array != 0) & (array != 1))
    if len(odd):
        row, column = odd[0].tolist()
        raise DataError(
            f"{file}: {array[row, column]} for image {images[row]!r:.80} and class {names[column]!r:.80}; expected 0 "
            "or 1; correct it"
        )
    tags: dict[str, frozenset[str]] = {}
    for image, row in zip(images, array.astype(bool), strict=True):
        tags[image] = tags.get(image, frozenset()) | {names[column] for column in np.flatnonzero(row).tolist()}
    return tags


def _class_names(file: Path, config: DataConfig, root: Path) -> Sequence[str]:
    names = listed_names(config, root)
    if names is None:
        raise DataError(
            f"{file}: no names for its columns; expected classes.txt in {root}, a class a line, or --set data.classes"
        )
    return names
