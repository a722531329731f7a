"""Regions of another tool, a file for each image: a label image, or COCO run lengths, as Segment Anything writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from numpy import ndarray

from mcis_cli.config import PseudoConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.images import decode_labels
from mcis_cli.data.layouts.coco import read_json
from mcis_cli.data.layouts.listing import index_files
from mcis_cli.data.run_lengths import decode_rle
from mcis_cli.errors import DataError, first_few
from mcis_cli.maps.regions import Regions, of_labels, of_masks
from mcis_cli.stages.engine.file_digests import digest_of_all, digests_of, read_unchanged
from mcis_cli.stages.pseudo.material import Material, RegionFile
from mcis_cli.store import Store

SUFFIXES = frozenset({".png", ".json"})
MAX_MEMBERS = 2**28  # pixels of all regions of an image


@dataclass(frozen=True)
class RegionFiles:
    """The files of regions of tagged images.

    Attributes:
        paths: by image id.
        digests: of the files, as they were listed.
    """

    paths: dict[str, Path]
    digests: dict[Path, str]

    @property
    def digest(self) -> str:
        """The digest of all, for the recipe."""
        return digest_of_all(((image_id,), self.digests[path]) for image_id, path in self.paths.items())

    def read(self, image_id: str) -> RegionFile | None:
        """The content of the file of an image; None for a negative, which needs none."""
        path = self.paths.get(image_id)
        return None if path is None else RegionFile(str(path), read_unchanged(path, self.digests))


def list_files(folder: Path, images: Catalogue, store: Store | None) -> RegionFiles:
    """Find the file of each tagged image, named by its id.

    Args:
        folder: holds the files.
        images: the images.
        store: remembers the digests of unchanged files; None to read all.

    Raises:
        DataError: there is no such folder, or a file is missing or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"no regions at {folder}; expected slic, felzenszwalb, or a folder of files ID.png or ID.json")
    found, findings = index_files(folder, folder, SUFFIXES)
    if findings:
        raise DataError(findings[0].message)
    tagged = [entry.id for entry in images.entries if entry.labels]
    missing = [image_id for image_id in tagged if image_id not in found]
    if missing:
        raise DataError(
            f"regions missing in {folder} for {len(missing)} of {len(tagged)} images ({first_few(missing)}): expected "
            "ID.png or ID.json for each; add them, or give --regions slic or felzenszwalb"
        )
    paths = {image_id: folder / found[image_id] for image_id in tagged}
    return RegionFiles(paths, digests_of(list(paths.values()), store))


def find(config: PseudoConfig, material: Material) -> Regions:
    """The regions in the file of the image.

    Raises:
        DataError: it cannot be read, or is of another size.
    """
    assert material.region_file is not None, "read for regions of files"
    name, content = material.region_file
    height, width = material.size
    if name.lower().endswith(".json"):
        return of_masks(_masks(name, content, height, width))
    labels = decode_labels(content, name)
    if labels.shape != material.size:
        found = f"{labels.shape[1]} x {labels.shape[0]}"
        raise DataError(
            f"{name}: regions of {found} pixels; expected {width} x {height}, the size of the image; make the regions "
            "of this image"
        )
    return of_labels(labels)


def _masks(name: str, content: bytes, height: int, width: int) -> Iterator[Bool[ndarray, "height width"]]:
    table = read_json(content, name, outlines=True)
    records = table.get("annotations") if isinstance(table, dict) else table
    if not isinstance(records, list):
        raise DataError(f"{name}: no list of regions; expected a list, or one at 'annotations'; write it as COCO does")
    num_members = 0
    for number, record in enumerate(records):
        mask = _mask(record, height, width)
        num_members += 0 if mask is None else int(mask.sum())
        if mask is None or num_members > MAX_MEMBERS:
            size = "too many pixels" if mask is not None else _size_of(record)
            raise DataError(
                f"{name}: found {size} at 'segmentation' of region {number}; expected run lengths of COCO for "
                f"{width} x {height} pixels, the size of the image; write the regions again"
            )
        yield mask


def _mask(record: Any, height: int, width: int) -> Bool[ndarray, "height width"] | None:
    outline = record.get("segmentation") if isinstance(record, dict) else None
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        return None
    counts = outline.get("counts")
    return decode_rle(counts, height, width) if isinstance(counts, str | list) else None


def _size_of(record: Any) -> str:
    outline = record.get("segmentation") if isinstance(record, dict) else None
    size = outline.get("size") if isinstance(outline, dict) else None
    return f"invalid run lengths of the size {size!r:.40}" if size is not None else "no run lengths"
