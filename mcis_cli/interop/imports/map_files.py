"""Localization maps of other tools: the image and class of each file, and the arrays in them.

A folder has for each image one of: `ID.npy` or `ID.npz` with all its maps, or a grey image for each class,
`ID/CLASS.png` or `ID_CLASS.png`. CLASS is the name of a class, or its index among the foreground classes, from 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.array_files import list_npz, read_header, read_npy, read_npz
from mcis_cli.data.catalogue import ImageEntry
from mcis_cli.data.images import decode_grey
from mcis_cli.data.layouts.listing import index_files
from mcis_cli.errors import DataError
from mcis_cli.interop.imports.pickled_arrays import read_dictionary

SUFFIXES = frozenset({".npy", ".npz", ".png"})
MAX_SIDE = 2**14
_LARGEST = float(np.finfo(np.float16).max)
_STACKS = ("high_res", "cam")  # of IRN's dictionaries, the better one first

Maps = dict[int, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class MapFile:
    """A file of maps: of one class, or with `class_index` None of all classes of its image."""

    path: Path
    class_index: int | None


@dataclass(frozen=True)
class FoundMaps:
    """The files of each image, and those of no image."""

    by_image: Mapping[str, tuple[MapFile, ...]]
    strays: tuple[str, ...]


def find_maps(folder: Path, ids: Iterable[str], class_names: Sequence[str]) -> FoundMaps:
    """Find the maps of images by the names of files.

    Raises:
        DataError: The folder cannot be read, a name is invalid, or an image has its maps twice.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of maps at {folder}; expected files named ID.npy, ID.npz or ID/CLASS.png")
    paths, findings = index_files(folder, folder, SUFFIXES)
    if findings:
        raise DataError(findings[0].message)
    known, found, strays = set(ids), dict[str, list[MapFile]](), []
    for stem, path in paths.items():
        places = list(_places(stem, path, known, class_names))
        if len(places) > 1:
            raise DataError(f"{folder / path}: may belong to {places[0][0]!r} and {places[1][0]!r}; rename it")
        for image_id, class_index in places:
            found.setdefault(image_id, []).append(MapFile(folder / path, class_index))
        if not places:
            strays.append(path)
    for files in found.values():
        indices = [file.class_index for file in files]
        if len(set(indices)) < len(indices) or (None in indices and len(indices) > 1):
            raise DataError(f"{files[0].path} and {files[1].path}: maps of the same image and class; remove one")
    return FoundMaps({image_id: tuple(files) for image_id, files in found.items()}, tuple(strays))


def _places(stem: str, path: str, known: set[str], class_names: Sequence[str]) -> Iterable[tuple[str, int | None]]:
    if stem in known:
        if not path.lower().endswith(".png"):
            yield stem, None
        return
    if path.lower().endswith(".png"):
        for at, letter in enumerate(stem):
            class_index = _class_index(stem[at + 1 :], class_names) if letter in "/_" else None
            if class_index is not None and stem[:at] in known:
                yield stem[:at], class_index


def _class_index(name: int | str, class_names: Sequence[str]) -> int | None:
    if isinstance(name, str) and name in class_names:
        return class_names.index(name)
    if isinstance(name, str) and name.isascii() and name.isdigit() and len(name) <= 3:
        name = int(name)
    return name if isinstance(name, int) and 0 <= name < len(class_names) else None


def stack_maps(
    entry: ImageEntry, class_names: Sequence[str], contents: Iterable[tuple[MapFile, bytes]]
) -> NDArray[np.float16]:
    """The maps of the classes that an image is tagged with, in their order.

    Args:
        entry: The image.
        class_names: The foreground classes.
        contents: Its files with their bytes.

    Returns:
        (classes, height, width); numbers of `.npy` and `.npz` unchanged, those of images in [0, 1].

    Raises:
        DataError: A file is invalid, a class has no map, or the maps differ in size.
    """
    maps: Maps = {}
    name = f"the maps of {entry.id}"
    for file, content in contents:
        name = str(file.path)
        if file.class_index is not None:
            maps[file.class_index] = decode_grey(content, name)
        elif file.path.suffix.lower() == ".npz":
            maps |= _from_archive(content, name, entry, class_names)
        else:
            maps |= _from_array(content, name, entry, class_names)
    absent = [class_names[label] for label in entry.labels if label not in maps]
    if absent:
        raise DataError(
            f"{name}: no map of {absent[0]!r}, which the image is tagged with; expected one for each of its "
            f"{len(entry.labels)} tags; classes are named, or counted from 0 in the order of the data set"
        )
    return _stacked([maps[label] for label in entry.labels], name)


def _stacked(maps: Sequence[NDArray[Any]], name: str) -> NDArray[np.float16]:
    shapes = {array.shape for array in maps}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes, key=str)
        raise DataError(f"{name}: maps of the shapes {first} and {second}; expected equal ones")
    shape = next(iter(shapes), (1, 1))
    if len(shape) != 2 or not all(1 <= side <= MAX_SIDE for side in shape):
        raise DataError(f"{name}: a map of the shape {shape}; expected height and width, 1 to {MAX_SIDE:,}")
    stacked = np.empty((len(maps), *shape), np.float16)
    for place, array in enumerate(maps):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{name}: values that are not finite; expected numbers; make the maps again")
        if max(-float(array.min()), float(array.max())) > _LARGEST:
            raise DataError(f"{name}: a value beyond {_LARGEST:,.0f}; expected less; divide the maps by their largest")
        stacked[place] = array
    return stacked


def _from_archive(content: bytes, name: str, entry: ImageEntry, class_names: Sequence[str]) -> Maps:
    indices = {key: _class_index(key, class_names) for key in list_npz(content, name)}
    _refuse_unknown(indices, name, class_names)
    arrays = read_npz(content, name, [key for key, index in indices.items() if index in entry.labels])
    return {index: arrays[key] for key, index in indices.items() if key in arrays and index is not None}


def _from_array(content: bytes, name: str, entry: ImageEntry, class_names: Sequence[str]) -> Maps:
    if read_header(content, name).dtype.hasobject:
        return _from_dictionary(content, name, entry, class_names)
    return _in_order(read_npy(content, name), name, entry, class_names)


def _in_order(stack: NDArray[Any], name: str, entry: ImageEntry, class_names: Sequence[str]) -> Maps:
    """Maps in one array: of all classes, or of the image's tags in the order of the classes."""
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim == 3 and len(stack) == len(class_names):
        return {label: stack[label] for label in entry.labels}
    if stack.ndim == 3 and len(stack) == len(entry.labels):
        return dict(zip(entry.labels, stack, strict=True))
    raise DataError(
        f"{name}: an array of the shape {stack.shape}; expected (classes, height, width) with {len(class_names)} "
        f"classes, or the {len(entry.labels)} that the image is tagged with; leave the background out"
    )


def _from_dictionary(content: bytes, name: str, entry: ImageEntry, class_names: Sequence[str]) -> Maps:
    """Maps of `{class: map}`, or of `{"keys": classes, "high_res": maps}` as IRN and its followers write it."""
    found = read_dictionary(content, name)
    if "keys" in found and "keys" not in class_names:
        stack = _stack_beside_keys(found)
        if stack is None:
            raise DataError(
                f"{name}: no array at 'high_res' or 'cam', nor one 3-D array beside 'keys'; expected the maps of "
                "'keys' there; save them so"
            )
        keys = found["keys"]
        if keys is None:
            raise DataError(f"{name}: no array at 'keys'; expected the classes of the maps there; save them so")
        indices = {int(key): _class_index(int(key), class_names) for key in keys.ravel().tolist()}
        _refuse_unknown(indices, name, class_names)
        if len(indices) != len(stack):
            raise DataError(f"{name}: {len(stack)} maps for {len(indices)} keys; expected as many; make them again")
        return {index: stack[at] for at, index in enumerate(indices.values()) if index is not None}
    indices_by_key = {key: _class_index(key, class_names) for key in found}
    _refuse_unknown(indices_by_key, name, class_names)
    maps = {index: found[key] for key, index in indices_by_key.items() if index in entry.labels and index is not None}
    if unread := [index for index, array in maps.items() if array is None]:
        raise DataError(
            f"{name}: no array of numbers for {class_names[unread[0]]!r}; expected (height, width) of NumPy or "
            "PyTorch; save it so"
        )
    return {index: array for index, array in maps.items() if array is not None}


def _stack_beside_keys(found: Mapping[Any, NDArray[Any] | None]) -> NDArray[Any] | None:
    """The maps of `keys`: under the names of IRN, or the one other 3-D array (CLIP-ES: attn_highres)."""
    named = next((found[key] for key in _STACKS if found.get(key) is not None), None)
    if named is not None:
        return named if named.ndim == 3 else None
    others = [array for key, array in found.items() if key != "keys" and array is not None and array.ndim == 3]
    return others[0] if len(others) == 1 else None


def _refuse_unknown(indices: Mapping[Any, int | None], name: str, class_names: Sequence[str]) -> None:
    unknown = [key for key, index in indices.items() if index is None]
    if unknown:
        raise DataError(
            f"{name}: {unknown[0]!r:.80} is no class; expected a name as in the data set, or 0 to "
            f"{len(class_names) - 1}; rename the maps"
        )
    if len(set(indices.values())) < len(indices):
        raise DataError(f"{name}: one class has two maps, by its name and by its index; remove one")
