"""Files in the folder of an image set that are not read. `mcis check` reports them, since no other command would."""

import os
from collections.abc import Iterator
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.listing import Finding, Listing, Severity
from mcis_cli.errors import counted, first_few

# Images that Pillow, or our list of formats, does not read; RAW files of the common makers.
OTHER_IMAGE_SUFFIXES = frozenset(
    [
        ".arw",
        ".avif",
        ".cr2",
        ".cr3",
        ".dng",
        ".exr",
        ".heic",
        ".heif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jxl",
        ".nef",
        ".orf",
        ".pgm",
        ".ppm",
        ".psd",
        ".raf",
        ".raw",
        ".rw2",
        ".svg",
        ".tga",
        ".hdr",
    ]
)
# Folders of the VOC layout, and of ours, that hold no photographs.
OTHER_FOLDERS = frozenset(
    {"Annotations", "ImageSets", "SegmentationClass", "SegmentationObject", "masks", "saliency", "__MACOSX"}
)
MAX_FILES = 1_000_000

_KINDS: dict[str, tuple[Severity, str]] = {
    "dangling-link": ("warning", "that link to nothing; fix or remove them"),
    "no-file": ("warning", "that are pipes, sockets or devices; remove them"),
    "other-format": ("warning", "of a format that is not read; save them as JPEG or PNG"),
    "without-extension": ("warning", f"without an extension; expected one of {', '.join(sorted(PHOTO_SUFFIXES))}"),
    "stray-photo": ("warning", "that look like photographs and belong to no image of the set"),
}


def left_out(config: DataConfig, listing: Listing) -> Iterator[Finding]:
    """One finding for each kind of file that is left out, naming the first few; hidden files are not reported.

    Args:
        config: the settings that the listing was made with; folders of masks and saliency are not looked into.
        listing: what is read.
    """
    root = listing.root.absolute()
    if listing.layout in ("list", "shards"):  # it lists the files of the set
        return
    used = {
        os.path.relpath(root / path, root)
        for item in listing.items
        for path in (item.image, item.mask, item.saliency)
        if path is not None
    }
    aside = {os.path.normpath(name) for name in (config.masks, config.saliency, config.tags) if name is not None}
    aside |= {
        os.path.relpath(source.listing.root.absolute(), root) for source in listing.sources
    }  # reported on their own
    lists = {Path(listing.tag_source or "").name, "classes.txt"}
    found: dict[str, list[str]] = {}
    for name, kind in _kinds(listing.root, aside | used):
        if name not in lists:
            found.setdefault(kind, []).append(name)
    for kind, names in sorted(found.items()):
        severity, what = _KINDS[kind]
        shown = first_few(map(repr, sorted(names)))
        yield Finding(severity, kind, f"left out: {counted(len(names), 'file')} ({shown}) {what}", tuple(sorted(names)))


def _kinds(root: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """Path below the root, and kind, of files that the user may have expected to be read."""
    num_seen = 0
    for folder, folders, names in os.walk(root):
        below = os.path.relpath(folder, root)
        folders[:] = sorted(name for name in folders if _is_looked_into(below, name, known))
        for name in names:
            path = name if below == "." else os.path.join(below, name)
            num_seen += 1
            kind = None if name.startswith(".") or path in known else _kind(os.path.join(folder, name))
            if kind is not None:
                yield path, kind
        if num_seen > MAX_FILES:
            return


def _is_looked_into(below: str, name: str, known: set[str]) -> bool:
    path = name if below == "." else os.path.join(below, name)
    return not name.startswith(".") and path not in known and not (below == "." and name in OTHER_FOLDERS)


def _kind(path: str) -> str | None:
    if not os.path.exists(path):
        return "dangling-link"
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        return "no-file"
    if suffix in PHOTO_SUFFIXES:
        return "stray-photo"
    if suffix in OTHER_IMAGE_SUFFIXES:
        return "other-format"
    return "without-extension" if not suffix and os.path.basename(path).upper() not in _NO_PHOTOS else None


_NO_PHOTOS = frozenset({"README", "LICENSE", "LICENCE", "COPYING", "MAKEFILE", "NOTICE", "SHA256SUMS", "MD5SUMS"})
