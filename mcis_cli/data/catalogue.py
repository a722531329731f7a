"""An image set as all stages see it: entries sorted by id, each file with its digest, and pixels read on demand.

A catalogue holds names and digests only; images, masks and saliency maps are read one at a time and checked against
the digest, so that no stage computes on files that are not the ones its recipe names. Commands that read no pixels
(`mcis status`) do not wait for numpy and Pillow to load.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mcis_cli.config import Domain
from mcis_cli.data.formats import MAX_IMAGE_BYTES
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError, counted

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8
    from numpy import ndarray

IGNORE_INDEX = 255
Part = Literal["images", "labels", "masks", "saliency", "splits"]
PARTS: tuple[Part, ...] = ("images", "labels", "masks", "saliency", "splits")
TARGET: tuple[Domain, ...] = ("target",)
DOMAINS: tuple[Domain, ...] = get_args(Domain)


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image: files (relative to the root, POSIX, or absolute), SHA-256 digests (hex), size in pixels, labels.

    `labels` are sorted 0-based foreground classes; class k has the value k + 1 in masks. An image without labels is a
    negative, which shows none of the classes, or unlabelled: nobody tagged it. `domain` is that of its source; only
    images of the target are in splits.
    """

    id: str
    image: str
    digest: str
    height: int
    width: int
    labels: tuple[int, ...]
    splits: frozenset[str]
    mask: str | None = None
    mask_digest: str | None = None
    saliency: str | None = None
    saliency_digest: str | None = None
    domain: Domain = "target"
    is_negative: bool = False

    @property
    def is_labelled(self) -> bool:
        """Whether the image was tagged: it has labels, or is a negative."""
        return bool(self.labels) or self.is_negative


@dataclass(frozen=True)
class Catalogue:
    """An image set, its entries sorted by id.

    `missing` lists, for each split, the ids without an image; `split_name` is the selected split, so that results can
    name their images; `mask_colours` is the mask value of each colour, for masks in colours.
    """

    root: Path
    layout: str
    class_names: tuple[str, ...]
    entries: tuple[ImageEntry, ...]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split_name: str | None = None
    mask_colours: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    @property
    def num_foreground(self) -> int:
        """The number of classes without the background."""
        return len(self.class_names)

    @property
    def num_classes(self) -> int:
        """The number of classes with the background."""
        return self.num_foreground + 1

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All image ids, sorted."""
        return tuple(entry.id for entry in self.entries)

    @cached_property
    def _digests(self) -> dict[frozenset[Part], str]:
        return {}

    @cached_property
    def split_names(self) -> tuple[str, ...]:
        """The names of the splits, sorted."""
        return tuple(sorted(self.missing.keys() | {name for entry in self.entries for name in entry.splits}))

    @cached_property
    def domains(self) -> frozenset[Domain]:
        """The domains of the images."""
        return frozenset(entry.domain for entry in self.entries)

    @cached_property
    def id(self) -> str:
        """SHA-256 (hex) of all content of the set, wherever its folder is."""
        return self.digest(*PARTS)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._by_id

    def __getitem__(self, image_id: str) -> ImageEntry:
        """The entry of an image.

        Raises:
            DataError: There is no such image.
        """
        try:
            return self._by_id[image_id]
        except KeyError:
            raise DataError(
                f"no image {image_id!r} in {self.root}; found {counted(len(self), 'other')}; "
                f"`mcis check {self.root}` lists them"
            ) from None

    def split(self, name: str, domains: Collection[Domain] = TARGET) -> Catalogue:
        """The images of one split; "all" is every image.

        Args:
            name: The split, a list of images of the target.
            domains: Domains to include: the target's images of the split, and all images of sources of other domains,
                which are in no list.

        Raises:
            DataError: There is no such split, it is empty, or it lists images that do not exist.
        """
        if absent := set(domains) - {*TARGET, *self.domains} if len(domains) < len(DOMAINS) else set():
            raise DataError(f"no {min(absent)} images with {self.root}; name them with --{min(absent)} PATH")
        if name == "all":
            return replace(self, entries=self._of(domains), split_name=name)
        if name not in self.split_names:
            there = ", ".join((*self.split_names, "all"))
            raise DataError(
                f"no split {name!r} in {self.root}; found {there}; correct data.train or data.val, or --split"
            )
        missing = self.missing.get(name, ())
        if missing:
            raise DataError(
                f"the split {name!r} of {self.root} lists images that do not exist: {len(missing)}, the first is "
                f"{missing[0]!r}; add them or take them off the list"
            )
        entries = tuple(entry for entry in self._of(domains) if name in entry.splits or entry.domain != "target")
        if not entries:
            raise DataError(f"the split {name!r} of {self.root} is empty; expected image ids, one a line")
        return replace(self, entries=entries, missing={}, split_name=name)

    def only(self, ids: Iterable[str], split_name: str | None = None) -> Catalogue:
        """The images of these ids; `split_name` is their split, if it is known.

        Raises:
            DataError: One of them does not exist.
        """
        entries = tuple(self[image_id] for image_id in sorted(set(ids)))
        return replace(self, entries=entries, missing={}, split_name=split_name)

    def labelled(self) -> Catalogue:
        """The images that were tagged: those with labels, and the negatives.

        Raises:
            DataError: There are none.
        """
        entries = tuple(entry for entry in self.entries if entry.is_labelled)
        if not entries:
            split = f"split {self.split_name!r} in " if self.split_name else ""
            raise DataError(f"no image of {split}{self.root} has a tag: expected one at least; add tags")
        return self if len(entries) == len(self) else replace(self, entries=entries)

    def carriers(self, class_index: int) -> tuple[str, ...]:
        """The ids of the images that carry a foreground class (0-based), sorted."""
        return self._carriers[class_index]

    def digest(self, *parts: Part) -> str:
        """Identity of the input of a stage: SHA-256 (hex) over the given parts of every entry, by id.

        Class names are part of it with labels and with masks, domains with labels, because they give these their
        meaning. Paths and the order of work never are.
        """
        assert parts, "name at least one part"
        asked = frozenset(parts)
        if asked not in self._digests:
            self._digests[asked] = self._digest(asked)
        return self._digests[asked]

    def _digest(self, parts: frozenset[Part]) -> str:
        named = self.class_names if {"labels", "masks"} & parts else None
        state = hashlib.sha256(_line(["mcis data set", 1, sorted(parts), named]))
        if "masks" in parts and (colours := _own_colours(self.mask_colours)):
            state.update(_line(["colours", *colours]))
        for entry in self.entries:
            state.update(_line([entry.id, *(_part(entry, part) for part in PARTS if part in parts)]))
        return state.hexdigest()

    def read_file(self, image_id: str) -> bytes:
        """Read the file of a photograph as it is.

        Raises:
            DataError: The file is gone, or has changed since it was listed.
        """
        entry = self[image_id]
        return self._bytes(entry.image, entry.digest)

    def read_upright(self, image_id: str) -> bytes:
        """Read the file of a photograph; if its EXIF data turns it, it is encoded again, upright.

        Raises:
            DataError: as `read_image`.
        """
        from mcis_cli.data.images import upright

        return upright(self.read_file(image_id), str(self.root / self[image_id].image))

    def read_image(self, image_id: str) -> UInt8[ndarray, "height width 3"]:
        """Read a photograph as RGB, upright.

        Raises:
            DataError: The file is gone, has changed since it was listed, or cannot be decoded.
        """
        from mcis_cli.data.images import decode_image

        entry = self[image_id]
        return decode_image(self._bytes(entry.image, entry.digest), str(self.root / entry.image))

    def read_mask(self, image_id: str) -> UInt8[ndarray, "height width"]:
        """Read the ground truth of an image: 0 background, k + 1 for class k, 255 to be ignored.

        Raises:
            DataError: There is none, it changed, or it does not fit the image or the classes.
        """
        from mcis_cli.data.images import decode_mask

        content, entry = self.read_mask_file(image_id), self[image_id]
        name = str(self.root / str(entry.mask))
        mask = decode_mask(content, name, self.mask_colours)
        fault = mask_fault(mask, entry, self.num_classes)
        if fault:
            raise DataError(f"{name}: {fault}; correct the mask or the classes")
        return mask

    def read_mask_file(self, image_id: str) -> bytes:
        """Read the file of a mask as it is.

        Raises:
            DataError: There is none, or it has changed since it was listed.
        """
        entry = self[image_id]
        if entry.mask is None or entry.mask_digest is None:
            raise DataError(f"no mask for image {image_id!r} in {self.root}; add one, or give --set data.masks=FOLDER")
        return self._bytes(entry.mask, entry.mask_digest)

    def read_saliency(self, image_id: str, *, resize: bool = True) -> Float32[ndarray, "height width"]:
        """Read the saliency map of an image, in [0, 1]; at the image's size, or with `resize=False` as it is stored.

        Raises:
            DataError: There is none, it changed, or it cannot be decoded.
        """
        from mcis_cli.data.images import decode_grey, resize_saliency

        entry = self[image_id]
        if entry.saliency is None or entry.saliency_digest is None:
            raise DataError(
                f"no saliency map for image {image_id!r} in {self.root}; add one, or give --set data.saliency=FOLDER"
            )
        name = str(self.root / entry.saliency)
        saliency = decode_grey(self._bytes(entry.saliency, entry.saliency_digest), name)
        return resize_saliency(saliency, entry.height, entry.width) if resize else saliency

    def _of(self, domains: Collection[Domain]) -> tuple[ImageEntry, ...]:
        if self.domains <= {*domains}:
            return self.entries
        return tuple(entry for entry in self.entries if entry.domain in domains)

    @cached_property
    def _by_id(self) -> dict[str, ImageEntry]:
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def _carriers(self) -> tuple[tuple[str, ...], ...]:
        carriers: list[list[str]] = [[] for _ in self.class_names]
        for entry in self.entries:
            for label in entry.labels:
                carriers[label].append(entry.id)
        return tuple(tuple(ids) for ids in carriers)

    def _bytes(self, path: str, digest: str) -> bytes:
        file = self.root / path
        content = read_regular(file, MAX_IMAGE_BYTES)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DataError(f"{file} has changed since it was listed; start the command again")
        return content


def mask_fault(mask: UInt8[ndarray, "height width"], entry: ImageEntry, num_classes: int) -> str | None:
    """The reason why a mask does not fit its image or the classes, or None."""
    if mask.shape != (entry.height, entry.width):
        return (
            f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels for an image of {entry.width} x {entry.height}; "
            "expected equal sizes"
        )
    outside = mask[(mask >= num_classes) & (mask != IGNORE_INDEX)]
    if outside.size:
        return (
            f"mask value {outside.min()}; expected 0 to {num_classes - 1} ({num_classes - 1} classes) or {IGNORE_INDEX}"
        )
    return None


def _own_colours(colours: Mapping[tuple[int, int, int], int]) -> list[object]:
    """The colours of masks, if they differ from those of PASCAL VOC, which are the default."""
    if not colours:
        return []
    from mcis_cli.data.palette import voc_palette

    usual = voc_palette().tolist()
    listed = sorted((value, list(colour)) for colour, value in colours.items())
    return [] if all(usual[value] == colour for value, colour in listed) else [*listed]


def count_domains(catalogue: Catalogue) -> dict[Domain, int]:
    """The number of images of each domain."""
    counts = Counter(entry.domain for entry in catalogue.entries)
    return {domain: counts[domain] for domain in DOMAINS if counts[domain]}


def _part(entry: ImageEntry, part: Part) -> object:
    match part:
        case "images":
            return entry.digest
        case "labels":
            if entry.is_negative:
                return ["negative"] if entry.domain == "target" else [entry.domain, "negative"]
            return entry.labels if entry.domain == "target" else [entry.domain, *entry.labels]
        case "masks":
            return entry.mask_digest
        case "saliency":
            return entry.saliency_digest
        case "splits":
            return sorted(entry.splits)


_AS_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)  # `json.dumps` would build one for each line


def _line(value: object) -> bytes:
    return _AS_JSON.encode(value).encode() + b"\n"
