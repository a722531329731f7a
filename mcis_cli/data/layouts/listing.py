"""The result of a layout's reader, before any image is opened, and the faults that it found.

Each layout has a reader, which collects images, tags and splits; `assembling` joins them with class names, masks and
saliency. Faults are collected as findings, so that `mcis check` can print all of them and reading the first.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcis_cli.config import DataConfig, Domain
from mcis_cli.data.formats import JUNK_FOLDERS, PHOTO_SUFFIXES, id_fault
from mcis_cli.data.regular_files import other_file, read_regular
from mcis_cli.errors import DataError

MAX_TEXT_BYTES = 128 * 2**20
MAX_CLASSES = 254  # a mask is uint8: 0 is the background, 255 is ignored
BACKGROUND = "background"

_SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # of Excel and others: a ZIP archive, or the older container

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact to report about a data set, with the ids (or names) that it concerns."""

    severity: Severity
    code: str
    message: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a reader: paths of images relative to the root, tags and splits by id.

    An image that `tags` lists without a tag is a negative; one that it does not list is unlabelled. `class_order` is
    given if the layout orders the classes; `splits` is empty if it names none; `masks` and `saliency` are given if the
    layout assigns them to images; `root` if the images are below another folder than the one that was named; `sizes`
    are the (height, width) of images by the annotations, if given.
    """

    images: Mapping[str, str]
    tags: Mapping[str, frozenset[str]]
    tag_source: str | None
    splits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    class_order: tuple[str, ...] | None = None
    default_masks: str = "masks"
    masks: Mapping[str, str] | None = None
    saliency: Mapping[str, str] | None = None
    findings: tuple[Finding, ...] = ()
    root: Path | None = None
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a listing; paths are relative to the root, or absolute if the settings give absolute ones."""

    id: str
    image: str
    tags: frozenset[str]
    splits: frozenset[str]
    mask: str | None
    saliency: str | None
    domain: Domain = "target"
    is_negative: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A source of further images of a listing: `listing` is the source by itself, `config` how it was read."""

    name: str
    domain: Domain
    config: DataConfig
    listing: "Listing"


@dataclass(frozen=True, slots=True)
class Listing:
    """An image set by names only. `missing` holds, for each split, the ids that have no image; images of `sources` are
    among the items; `mask_colours` is the mask value of each colour, if the set lists them; `sizes` are the (height,
    width) of images by the annotations."""

    root: Path
    layout: str
    class_names: tuple[str, ...]
    tag_source: str | None
    items: tuple[Item, ...]
    missing: Mapping[str, tuple[str, ...]]
    findings: tuple[Finding, ...]
    sources: tuple[Source, ...] = ()
    mask_colours: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def index_files(
    folder: Path, root: Path, suffixes: frozenset[str], *, recursive: bool = True
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Find the files of a folder by id: the path below the folder, without its extension.

    Args:
        folder: Where to look; symbolic links are followed, hidden names are left out.
        root: Paths are given relative to it where the folder is below it.
        suffixes: The extensions that count, in lower case.
        recursive: Whether to look in folders below.

    Returns:
        The paths by id, and findings for ids that are invalid or that two files share.

    Raises:
        DataError: The folder cannot be read.
    """
    paths: dict[str, str] = {}
    findings: list[Finding] = []
    prefix = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    for name in sorted(_walk(folder, "", recursive)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes:
            continue
        fault = id_fault(stem)
        if fault:
            findings.append(Finding("error", "bad-id", f"{folder / name!s:.300}: {fault}; rename the file", (stem,)))
        elif stem in paths:
            message = f"two files for {stem!r} in {folder} ({Path(paths[stem]).name}, {Path(name).name}); remove one"
            findings.append(Finding("error", "same-id", message, (stem,)))
        else:
            paths[stem] = name if prefix == "." else f"{prefix}/{name}"
    return paths, tuple(findings)


def read_text(file: Path) -> str:
    """Read a text file, with or without a byte order mark; every line ends in a plain newline.

    Raises:
        DataError: The file cannot be read, is too long, is not UTF-8, or is a spreadsheet or a placeholder of a
            download.
    """
    content = read_regular(file, MAX_TEXT_BYTES)
    if found := other_file(content):
        raise DataError(f"{file}: {found}")
    if content.startswith(_SPREADSHEET):
        raise DataError(f"{file}: a spreadsheet or an archive by its content; expected text; save it as CSV UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file, stripped, empty ones left out.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    return [stripped for line in read_text(file).split("\n") if (stripped := line.strip())]


def file_of_name(root: Path, name: str) -> Path | None:
    """The file of this name in a folder, or one that differs in case only, such as Classes.txt; or None."""
    if (root / name).is_file():
        return root / name
    try:
        found = sorted(one for one in os.listdir(root) if one.casefold() == name and (root / one).is_file())
    except OSError:  # a folder that may be entered but not listed
        return None
    return root / found[0] if found else None


def locate_image(root: Path, path: str, image_id: str) -> str | None:
    """The file of an image below the root, given with its extension or (where both are equal) by its id; or None."""
    if path != image_id:
        return in_composition(root, path)
    found = (in_composition(root, path + suffix) for suffix in sorted(PHOTO_SUFFIXES))
    return next((file for file in found if file is not None), None)


def image_path(text: str) -> str:
    """A path of a list or a table, with slashes, relative to the folder."""
    return text.strip().replace("\\", "/").removeprefix("./")


def image_id_of(path: str) -> str:
    """The id of an image: its path without the extension, where it has one of a photograph."""
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in PHOTO_SUFFIXES else path


def in_composition(root: Path, path: str) -> str | None:
    """The file of this path below the root, or one whose letters are composed differently (é, or e and ´)."""
    if (root / path).is_file():
        return path
    others = (unicodedata.normalize(form, path) for form in ("NFC", "NFD")) if not path.isascii() else ()
    return next((other for other in others if (root / other).is_file()), None)


def by_composition(names: Iterable[str]) -> dict[str, str]:
    """The names with letters beyond ASCII, by their normal form."""
    return {unicodedata.normalize("NFC", name): name for name in names if not name.isascii()}


def suffix_list(suffixes: Iterable[str]) -> str:
    """Name extensions for a message."""
    return ", ".join(sorted(suffixes))


def _walk(folder: Path, below: str, recursive: bool) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder / below))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder / below}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name in JUNK_FOLDERS:
            continue
        name = f"{below}/{entry.name}" if below else entry.name
        if _is(entry.is_file):
            yield name
        elif recursive and _is(entry.is_dir):
            if name.count("/") > 16:
                raise DataError(f"{folder / name}: folders nested too deeply, or a link to a folder above; remove it")
            yield from _walk(folder, name, recursive)


def _is(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError:  # such as a link to itself, which cannot be read
        return False
