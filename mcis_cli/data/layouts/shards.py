"""Tar shards in the layout of WebDataset: `KEY.jpg` beside `KEY.cls`, `KEY.json` or `KEY.txt`, and `KEY.seg.png`.

An id is the key: the path in the archive up to the first dot of the file's name. Images, masks and saliency maps are
read from the archives, in place.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.listing import Finding, Found
from mcis_cli.data.layouts.names import listed_names
from mcis_cli.data.layouts.split_names import split_of_name
from mcis_cli.data.layouts.table import MORE_TAG_COLUMNS, TAG_COLUMNS
from mcis_cli.data.layouts.tag_cells import split_cell
from mcis_cli.data.layouts.voc import read_tag_file
from mcis_cli.data.regular_files import open_regular
from mcis_cli.data.tar_members import MAX_BYTES, SUFFIX, remember, scan
from mcis_cli.errors import DataError, counted, first_few
from mcis_cli.store import StatCache

MASKS = ("seg.png", "mask.png")
SALIENCY = ("saliency.png", "saliency.jpg")
TEXTS = ("cls", "json", "txt")  # in this order
MAX_TEXT_BYTES = 2**20
NUM_LOOKED_AT = 16  # members that are looked at to recognise a shard
_PATTERNS = ("*.tar", "*/*.tar", "*.tar.gz", "*.tgz")  # compressed ones are refused by name


def archives_of(root: Path) -> list[Path]:
    """The archives of a set: the root itself, or those in the folder and in folders in it."""
    if root.is_file():
        return [root] if root.suffix == SUFFIX else []
    return sorted({file for pattern in _PATTERNS for file in root.glob(pattern) if file.name[0] != "."})


@dataclass
class _Shards:
    """Samples as they come in, from all archives."""

    root: Path
    files: dict[str, dict[str, str]] = field(default_factory=dict)  # path by extension, by key
    origin: dict[str, str] = field(default_factory=dict)  # the archive of each key
    tags: dict[str, frozenset[str]] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, archive: Path, facts: Mapping[str, Any]) -> None:
        """Add the samples of an archive."""
        inside = archive.relative_to(self.root).as_posix()
        remember(str(archive), facts["members"])
        default = _split_of(archive.relative_to(self.root))
        repeated: dict[str, str] = {}  # the other archive of each key
        for name in facts["members"]:
            key, extension = _parted(name)
            if not _is_read(extension):
                self.other.append(f"{inside}/{name}")
                continue
            if (first := self.origin.setdefault(key, inside)) != inside:
                repeated[key] = first
                continue
            self.files.setdefault(key, {})[extension] = f"{inside}/{name}"
            for split in facts["splits"].get(key, default):
                self.splits.setdefault(split, set()).add(key)
        for key, first in repeated.items():
            self.fault("same-id", key, f"two samples {key!r} in {self.root}: in {first} and in {inside}; rename one")
        self.tags |= {key: frozenset(tags) for key, tags in facts["tags"].items() if self.origin.get(key) == inside}

    def image_of(self, key: str) -> str | None:
        """The extension of the photograph of a sample: the only image, or the one that is no PNG, which is its mask."""
        found = [extension for extension in self.files[key] if f".{extension}" in PHOTO_SUFFIXES]
        if len(found) == 2 and "png" in found and not self.files[key].keys() & {*MASKS}:
            found.remove("png")
        if len(found) > 1:
            names = " and ".join(f"{key}.{extension}" for extension in found)
            self.fault(
                "two-images", key, f"{self.root / self.origin[key]}: two images in one sample, {names}; keep one"
            )
        return found[0] if found else None

    def fault(self, code: str, key: str, message: str) -> None:
        """Add an error."""
        self.findings.append(Finding("error", code, message, (key,)))


def read_shards(config: DataConfig, root: Path, cache: StatCache | None = None) -> Found:
    """Read tar shards. Splits come from the key `split` of `KEY.json`, or from the names of the archives or their
    folders.

    Raises:
        DataError: No archive, or a file of tags that cannot be read.
    """
    folder = root.parent if root.is_file() else root
    shards = _Shards(folder)
    archives = archives_of(root)
    if not archives:
        raise DataError(f"no {SUFFIX} file in {root}; expected shards in the layout of WebDataset; correct the path")
    for archive in archives:
        try:
            known = None if cache is None else cache.get(archive, "shard-1")
            if known is None:
                known = _facts(archive) if cache is None else cache.look(archive, "shard-1", _facts)
            shards.add(archive, known)
        except OSError as error:
            shards.fault("bad-archive", archive.name, f"cannot read {archive}: {error.strerror}; replace or remove it")
        except DataError as error:
            shards.fault("bad-archive", archive.name, str(error))
    images: dict[str, str] = {}
    companions: dict[str, dict[str, str]] = {"masks": {}, "saliency": {}}
    for key, files in shards.files.items():
        extension = shards.image_of(key)
        if extension is None:
            continue
        images[key] = files[extension]
        for kind, names in (("masks", (*MASKS, "png")), ("saliency", SALIENCY)):
            if found := next((files[name] for name in names if name in files and name != extension), None):
                companions[kind][key] = found
    tags, findings = _tags(config, folder, images, shards)
    source = str(root if config.tags is None else folder / config.tags)
    return Found(
        images=images,
        tags=tags,
        tag_source=source,
        splits={name: frozenset(keys & images.keys()) for name, keys in shards.splits.items()},
        findings=(*shards.findings, *findings, *_unread(root, shards.other)),
        root=folder,
        masks=companions["masks"] or None,
        saliency=companions["saliency"] or None,
    )


def _tags(
    config: DataConfig, root: Path, images: Mapping[str, str], shards: _Shards
) -> tuple[Mapping[str, frozenset[str]], Sequence[Finding]]:
    """The tags of each key: names, from numbers of classes if these are listed; or those of a file of tags."""
    if config.tags is not None:
        return read_tag_file(root / config.tags, images, config.classes or ())
    if not shards.tags and images and not config.tags_from_masks:
        raise DataError(
            f"{root / min(shards.origin.values())}: {counted(len(images), 'image')} without tags; expected KEY.cls, "
            "KEY.json or KEY.txt beside each KEY.jpg, or --tags FILE with lines `KEY class class`; the archive of a "
            "folder must be unpacked: tar xf"
        )
    names = listed_names(config, root)
    used = frozenset().union(*shards.tags.values())
    if not names or used <= {*names} or not all(tag.isdecimal() and tag.isascii() for tag in used):
        return shards.tags, ()
    named = {tag: names[int(tag)] for tag in used if int(tag) < len(names)}
    findings = []
    if beyond := sorted(used - named.keys(), key=int):
        keys = sorted(key for key, tags in shards.tags.items() if beyond[0] in tags)
        message = f"{keys[0]!r} in {root}: class number {beyond[0]}; expected 0 to {len(names) - 1}, the listed classes"
        findings.append(Finding("error", "bad-class", f"{message}; correct the tags or the list", tuple(keys)))
    return {key: frozenset(named[tag] for tag in tags & named.keys()) for key, tags in shards.tags.items()}, findings


def _unread(root: Path, names: list[str]) -> Iterator[Finding]:
    if names:
        endings = first_few(sorted({f".{_parted(name)[1]}" for name in names}))
        message = f"left out: {counted(len(names), 'member')} of the shards in {root} that end in {endings}, not read"
        yield Finding("warning", "other-member", message, tuple(names))


def _facts(archive: Path) -> dict[str, Any]:
    """What an archive holds: its members, and the tags and splits that its texts give."""
    members: dict[str, list[int]] = {}
    tags: dict[str, list[str]] = {}
    splits: dict[str, list[str]] = {}
    rank: dict[str, int] = {}
    with open_regular(archive, MAX_BYTES)[0] as file:
        for name, offset, size in scan(file, str(archive)):
            members[name] = [offset, size]
            key, extension = _parted(name)
            if extension not in TEXTS:
                continue
            found, split = _read_text(file, offset, size, f"{archive}/{name}")
            if split:
                splits[key] = split
            if found is not None and TEXTS.index(extension) <= rank.get(key, len(TEXTS)):
                tags[key], rank[key] = found, TEXTS.index(extension)
    return {"members": members, "tags": tags, "splits": splits}


def _read_text(file: BinaryIO, offset: int, size: int, name: str) -> tuple[list[str] | None, list[str]]:
    """Tags and splits of a `.cls`, `.txt` or `.json` member; None if it gives no tags."""
    if size > MAX_TEXT_BYTES:
        raise DataError(f"{name}: {size:,} bytes; expected tags in at most {MAX_TEXT_BYTES:,}; shorten it")
    file.seek(offset)
    try:
        text = file.read(size).decode("utf-8-sig")
        found = json.loads(text) if name.endswith(".json") else text
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not {'JSON' if name.endswith('.json') else 'text'} in UTF-8; correct it") from error
    splits: list[str] = []
    if isinstance(found, dict):
        if found.get("split") is not None:
            splits = _names(found["split"], f"{name}: a split that is no name; expected 'train', say")
        keys = (*TAG_COLUMNS, *MORE_TAG_COLUMNS, "cls")
        found = next((found[key] for key in keys if key in found), None)
    if found is None:
        return None, splits
    if found is not text:
        fault = f"{name}: tags that are neither names nor numbers; expected names such as ['cat', 'dog']"
        return _names(found, fault), splits
    return text.split() if re.fullmatch(r"[\d\s]+", text) else split_cell(text), splits


def _names(found: object, fault: str) -> list[str]:
    """The names or numbers of a value in JSON: one, or a list of them."""
    values = found if isinstance(found, list) else [found]
    if any(isinstance(value, bool) or not isinstance(value, str | int) for value in values):
        raise DataError(fault)
    return [text for value in values if (text := str(value).strip())]


def _parted(name: str) -> tuple[str, str]:
    """The key of a member and its extension: all after the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _is_read(extension: str) -> bool:
    return f".{extension}" in PHOTO_SUFFIXES or extension in (*MASKS, *SALIENCY, *TEXTS)


def _split_of(archive: Path) -> list[str]:
    """The split, if any, that the name of an archive or of its folder means, as in `shapes-train-000.tar`."""
    for name in (archive.stem, archive.parent.name):
        words = {split for word in re.findall(r"[^\W\d_]+", name) if (split := split_of_name(word))}
        if len(words) == 1:
            return [*words]
    return []


def _matches(config: DataConfig, root: Path) -> bool:
    """Whether the first of the archives that is not empty begins as a shard does, with tags among its members."""
    archives = archives_of(root)
    if not archives or config.tags is not None or config.tags_from_masks:
        return bool(archives)
    for archive in archives:
        try:
            with open_regular(archive, MAX_BYTES)[0] as file:
                names = [name for name, _, _ in islice(scan(file, ""), NUM_LOOKED_AT)]
        except (OSError, DataError):  # reading it reports what is wrong
            return True
        if names:
            return any(_parted(name)[1] in TEXTS for name in names)
    return False


LAYOUT = Layout("shards", "tar shards as of WebDataset", _matches, read_shards)
