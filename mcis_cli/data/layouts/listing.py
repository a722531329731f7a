"""What a layout's reader saw in a folder, before any image is opened, and the faults found on the way.

The readers (`voc`, `table`, `folders`) collect images, tags and splits; `assemble` joins them with class names, masks
and saliency. Faults are collected as findings, so that `mcis check` can tell all of them and reading the first.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from mcis_cli.config import DataConfig, Domain
from mcis_cli.data.formats import MASK_SUFFIXES, PHOTO_SUFFIXES
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError, counted, first_few

MAX_ID_LENGTH = 200
MAX_TEXT_BYTES = 128 * 2**20
MAX_CLASSES = 254  # a mask is uint8: 0 is the background, 255 is ignored
BACKGROUND = "background"

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth telling about a data set, with the ids (or names) that it concerns."""

    severity: Severity
    code: str
    message: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader saw: paths of images relative to the root, tags and splits by id.

    `class_order` is given where the layout itself orders the classes; `splits` is empty where it names none.
    """

    images: Mapping[str, str]
    tags: Mapping[str, frozenset[str]]
    tag_source: str | None
    splits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    class_order: tuple[str, ...] | None = None
    default_masks: str = "masks"
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a listing; paths are relative to the root, or absolute where the settings gave them so."""

    id: str
    image: str
    tags: frozenset[str]
    splits: frozenset[str]
    mask: str | None
    saliency: str | None
    domain: Domain = "target"


@dataclass(frozen=True, slots=True)
class Source:
    """Where further images of a listing were found: `listing` is that place by itself, `config` how it was read."""

    name: str
    domain: Domain
    config: DataConfig
    listing: "Listing"


@dataclass(frozen=True, slots=True)
class Listing:
    """An image set by names only. `missing` holds, for each split, the ids that have no image; images of `sources` are
    among the items."""

    root: Path
    layout: str
    class_names: tuple[str, ...]
    tag_source: str | None
    items: tuple[Item, ...]
    missing: Mapping[str, tuple[str, ...]]
    findings: tuple[Finding, ...]
    sources: tuple[Source, ...] = ()


def assemble(config: DataConfig, root: Path, layout: str, found: Found) -> Listing:
    """Join what a reader saw with class names, masks and saliency.

    Raises:
        DataError: There are no images, no classes, too many classes, or a folder named in the settings is not there.
    """
    if not found.images:
        faults = [finding.message for finding in found.findings if finding.severity == "error"]
        if faults:
            others = f" (and {counted(len(faults) - 1, 'more fault')})" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}{others}; no image is left")
        raise DataError(
            f"no images in {root} (layout {layout}); expected files ending in {suffix_list(PHOTO_SUFFIXES)}"
        )
    class_names = _class_names(config, root, found)
    masks, mask_findings = _companions(root, config.masks, found.default_masks, MASK_SUFFIXES, "masks", found.images)
    saliency, saliency_findings = _companions(
        root, config.saliency, "saliency", PHOTO_SUFFIXES, "saliency", found.images
    )
    splits = found.splits or {"train": frozenset(found.images)}
    membership: dict[str, set[str]] = {}
    for name, ids in splits.items():
        for image_id in ids:
            membership.setdefault(image_id, set()).add(name)
    alike: dict[frozenset[str], frozenset[str]] = {}

    def shared(names: Iterable[str]) -> frozenset[str]:
        """One object for all that are alike: many images have few combinations of tags and splits."""
        kept = frozenset(names)
        return alike.setdefault(kept, kept)

    items = tuple(
        Item(
            id=image_id,
            image=found.images[image_id],
            tags=shared(found.tags.get(image_id, ())),
            splits=shared(membership.get(image_id, ())),
            mask=masks.get(image_id),
            saliency=saliency.get(image_id),
        )
        for image_id in sorted(found.images)
    )
    missing = {name: tuple(sorted(ids - found.images.keys())) for name, ids in sorted(splits.items())}
    findings = (*found.findings, *_tag_findings(found, class_names), *mask_findings, *saliency_findings)
    return Listing(root, layout, class_names, found.tag_source, items, missing, findings)


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
        The paths by id, and findings for ids that cannot be used or that two files share.

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


def id_fault(image_id: str) -> str | None:
    """Say what is wrong with an image id, or None.

    An id is a relative POSIX path without extension; it must not be able to leave its folder, nor to break a line.
    """
    if not image_id:
        return "an empty image id"
    if len(image_id) > MAX_ID_LENGTH:
        return f"an image id of {len(image_id)} characters, expected at most {MAX_ID_LENGTH}"
    if not image_id.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in image_id):
        return f"the image id {image_id!r} has characters that are no text"
    if image_id.startswith("/") or not {"", ".", ".."}.isdisjoint(image_id.split("/")):
        return f"the image id {image_id!r} leaves its folder, expected a plain relative path"
    return None


def read_text(file: Path) -> str:
    """Read a text file, with or without a byte order mark; every line ends in a plain newline.

    Raises:
        DataError: The file cannot be read, is too long, or is no UTF-8.
    """
    try:
        text = read_regular(file, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file, stripped, empty ones left out.

    Raises:
        DataError: The file cannot be read, or is no UTF-8.
    """
    return [stripped for line in read_text(file).split("\n") if (stripped := line.strip())]


def suffix_list(suffixes: Iterable[str]) -> str:
    """Name extensions for a message."""
    return ", ".join(sorted(suffixes))


def _walk(folder: Path, below: str, recursive: bool) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder / below))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder / below}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
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
    except OSError:  # a link to itself, say: nothing that can be read
        return False


def _companions(
    root: Path,
    setting: str | None,
    default: str,
    suffixes: frozenset[str],
    kind: str,
    images: Mapping[str, str],
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Masks or saliency maps by image id, from the folder of the settings or the one that is usual."""
    folder = root / (setting or default)
    if not folder.is_dir():
        if setting is None:
            return {}, ()
        raise DataError(f"no folder of {kind} at {folder}; correct it with --set data.{kind}=FOLDER")
    files, findings = index_files(folder, root, suffixes)
    by_image = _match(files, images)
    strays = tuple(sorted(files.keys() - set(by_image.values())))
    if strays:
        message = f"without an image: {len(strays)} of the {kind} in {folder} (the first is {strays[0]!r})"
        findings = (*findings, Finding("warning", f"stray-{kind}", message, strays))
    return {image_id: files[name] for image_id, name in by_image.items()}, findings


def _match(files: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Image id -> id of its companion: the same, or the same below the one folder that all images are in."""
    same = {image_id: image_id for image_id in images if image_id in files}
    top = {PurePosixPath(image_id).parts[0] for image_id in images}
    if same or len(top) != 1 or any("/" not in image_id for image_id in images):
        return same
    return {image_id: tail for image_id in images if (tail := image_id.split("/", 1)[1]) in files}


def _class_names(config: DataConfig, root: Path, found: Found) -> tuple[str, ...]:
    names: Sequence[str]
    file = root / "classes.txt"
    if config.classes is not None:
        names, source = config.classes, "the setting data.classes"
    elif file.is_file():
        names, source = read_lines(file), str(file)
    elif found.class_order is not None:
        names, source = found.class_order, str(found.tag_source)
    else:
        names, source = sorted(set().union(*found.tags.values())), f"the tags of {found.tag_source or root}"
    if names and names[0] == BACKGROUND:
        names = names[1:]
    _refuse_classes(names, source)
    return tuple(names)


def _refuse_classes(names: Sequence[str], source: str) -> None:
    if not names:
        raise DataError(f"no class names in {source}; expected tags, or one class a line in classes.txt")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{len(names)} classes in {source}; expected at most {MAX_CLASSES}: masks are 8-bit")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"the class {twice[0]!r} is named twice in {source}; remove one")
    if BACKGROUND in names:
        raise DataError(f"{BACKGROUND!r} is among the classes in {source}; expected it first, or not at all")
    for name in names:
        if not name.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise DataError(f"the class name {name!r} in {source} is no plain text; rename it")


def _tag_findings(found: Found, class_names: Sequence[str]) -> Iterator[Finding]:
    known = set(class_names)
    some = first_few(class_names)
    carriers: dict[str, list[str]] = {}
    for image_id, tags in sorted(found.tags.items()):
        for tag in tags - known:
            carriers.setdefault(tag, []).append(image_id)
    for tag, ids in sorted(carriers.items()):
        message = (
            f"unknown tag {tag!r} of image {ids[0]!r} in {found.tag_source}; expected one of: {some}; "
            "correct it, or name it in classes.txt or data.classes"
        )
        yield Finding("error", "unknown-tag", message, tuple(ids))
    strays = tuple(sorted(found.tags.keys() - found.images.keys()))
    if strays:
        message = (
            f"not there: {counted(len(strays), 'tagged image')} of {found.tag_source} (the first is {strays[0]!r})"
        )
        yield Finding("warning", "tags-without-image", message, strays)
