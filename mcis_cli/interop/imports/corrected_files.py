"""Corrected masks in the files that annotation tools write: the image of each, and its pixels.

A folder or an archive holds masks as PNG (class indices, or colours of PASCAL VOC or of a labelmap.txt), COCO JSON, or
CVAT's annotations.xml; a file is COCO JSON, Label Studio's JSON, or that XML.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8

from mcis_cli.config import DataConfig
from mcis_cli.data.archives import open_archive
from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue
from mcis_cli.data.formats import MASK_SUFFIXES, MAX_IMAGE_BYTES, id_fault
from mcis_cli.data.images import decode_mask
from mcis_cli.data.layouts import label_studio
from mcis_cli.data.layouts.coco import MAX_JSON_BYTES, Collected, find_instances, outlines_of, parse_instances
from mcis_cli.data.layouts.layout import Outlines
from mcis_cli.data.layouts.listing import image_id_of, index_files
from mcis_cli.data.layouts.names import mask_colours, read_label_map
from mcis_cli.data.palette import voc_palette
from mcis_cli.data.regular_files import open_regular, read_regular
from mcis_cli.errors import DataError
from mcis_cli.interop.coco_masks import outline_masks
from mcis_cli.interop.imports.cvat import MAX_BYTES, cvat_outlines

XML, VOC_MASKS = "annotations.xml", "SegmentationClass"
KINDS = (
    "expected a folder of PNG masks, COCO JSON, an export of Label Studio as JSON, or an export of CVAT as "
    "'Segmentation mask 1.1', 'COCO 1.0' or 'CVAT for images 1.1'"
)
MAX_ARCHIVE_BYTES, MAX_UNPACKED_BYTES = 2**32, 2**34
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Mask = UInt8[np.ndarray, "height width"]


def read_corrected(path: Path, images: Catalogue, of: str) -> Iterator[tuple[str, Mask]]:
    """The masks in a folder, an archive or a file.

    Args:
        path: the folder or file.
        images: those that may have one.
        of: how messages call what has these images.

    Yields:
        Ids with masks: 0 background, k + 1 for class k, 255 ignored.

    Raises:
        DataError: nothing that can be read, an unknown image or class, or an invalid mask or outline.
    """
    names = ImageNames(images, of)
    if path.is_dir():
        yield from _of_folder(path, images, names)
    elif path.suffix.lower() == ".zip" and path.is_file():
        with _unpacked(path) as folder:
            yield from _of_folder(folder, images, names)
    elif path.suffix.lower() in (".json", ".xml") and path.is_file():
        yield from outline_masks(_outlines(path, images, names), images)
    else:
        found = "a file of another kind" if path.exists() else "nothing"
        raise DataError(f"{path}: found {found}; {KINDS}")


class ImageNames:
    """The images of a catalogue by the names that tools give them: paths or addresses, with or without extension."""

    def __init__(self, images: Catalogue, of: str) -> None:
        self._of, self._num_images = of, len(images)
        self._exact = {name: one.id for one in images.entries for name in (image_id_of(one.image), one.id)}
        self._last: dict[str, set[str]] = {}
        for name, image_id in self._exact.items():
            self._last.setdefault(name.rpartition("/")[2], set()).add(image_id)

    def find(self, reference: str, where: str) -> str:
        """The id of an image.

        Raises:
            DataError: there is no such image, or several may be meant.
        """
        if (plain := image_id_of(reference)) in self._exact:
            return self._exact[plain]
        stem = image_id_of(label_studio.path_of(reference))
        for tail in (stem.split("/", folders)[-1] for folders in range(stem.count("/") + 1)):
            if tail in self._exact:
                return self._exact[tail]
        last = stem.rpartition("/")[2]
        found = self._last.get(last) or self._last.get(label_studio.UPLOADED.sub("", last)) or set()
        if len(found) == 1:
            return next(iter(found))
        if found:
            first, second, *_ = sorted(found)
            raise DataError(f"{where}: {reference!r:.200} may be {first!r} or {second!r}; name it by its whole path")
        raise DataError(
            f"{where}: no image {reference!r:.200} among the {self._num_images} of {self._of}; give the masks that "
            "were corrected, or remove it"
        )


def _of_folder(folder: Path, images: Catalogue, names: ImageNames) -> Iterator[tuple[str, Mask]]:
    if (folder / XML).is_file():
        yield from outline_masks(_outlines(folder / XML, images, names), images)
    elif not (folder / VOC_MASKS).is_dir() and (files := find_instances(DataConfig(), folder)):
        for file in files:
            yield from outline_masks(_outlines(file, images, names), images)
    else:
        yield from _of_pngs(folder, images, names)


def _of_pngs(folder: Path, images: Catalogue, names: ImageNames) -> Iterator[tuple[str, Mask]]:
    place = folder / VOC_MASKS if (folder / VOC_MASKS).is_dir() else folder
    paths, findings = index_files(place, place, MASK_SUFFIXES)
    if findings:
        raise DataError(findings[0].message)
    if not paths:
        raise DataError(f"{folder}: no masks; {KINDS}")
    unknown = [name for name in read_label_map(folder) if name not in images.class_names]
    palette = [(red, green, blue) for red, green, blue in voc_palette().tolist()]
    colours = mask_colours(folder, [*images.class_names, *unknown])
    colours = colours or {palette[value]: value for value in (*range(images.num_classes), IGNORE_INDEX)}
    for stem, path in paths.items():
        file = place / path
        image_id = names.find(stem, str(file))
        mask = decode_mask(read_regular(file, MAX_IMAGE_BYTES), str(file), colours)
        beyond = mask[(mask >= images.num_classes) & (mask != IGNORE_INDEX)]
        if beyond.size and unknown:
            name = unknown[min(int(beyond.min()) - images.num_classes, len(unknown) - 1)]
            raise DataError(f"{file} is of {name!r:.80} of labelmap.txt, which is no class; {_known(images)}")
        yield image_id, mask


def _known(images: Catalogue) -> str:
    return f"expected one of {', '.join(sorted(images.class_names)[:5])}"


def _outlines(file: Path, images: Catalogue, names: ImageNames) -> Iterator[Outlines]:
    """The outlines of the images that have any; of Label Studio also of submitted tasks without a region."""
    if file.suffix.lower() == ".xml":
        yield from cvat_outlines(read_regular(file, MAX_BYTES), str(file), names.find)
        return
    if label_studio.is_export(file):
        yield from label_studio.outlines_of(file, names.find)
        return
    found = parse_instances(read_regular(file, MAX_JSON_BYTES), str(file))
    annotated = {image for image, _ in found.objects}
    ids = {number: names.find(name, f"{file}: images") for number, name in found.images.items() if number in annotated}
    yield from outlines_of(Collected(images.root), ids, file)


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the files of an archive.

    Raises:
        DataError: it is not an archive, or has names that leave its folder, or is too large.
    """
    file, _ = open_regular(path, MAX_ARCHIVE_BYTES)
    with file, TemporaryDirectory() as folder, open_archive(file, str(path), _METHODS) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        if fault := next(filter(None, (id_fault(one.filename) for one in members)), None):
            raise DataError(f"{path}: {fault}; export again")
        if sum(one.file_size for one in members) > MAX_UNPACKED_BYTES:
            raise DataError(f"{path}: more than {MAX_UNPACKED_BYTES:,} bytes when unpacked; export fewer images")
        try:
            archive.extractall(folder, members)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise DataError(f"{path}: cannot be unpacked ({error!s:.80}); export or copy it again") from error
        yield Path(folder)
