"""Masks in the layout of PASCAL VOC, for CVAT, Datumaro and the evaluation server of VOC."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mcis_cli.data.catalogue import IGNORE_INDEX
from mcis_cli.data.layouts.listing import BACKGROUND
from mcis_cli.data.palette import voc_palette, write_mask_png
from mcis_cli.errors import DataError
from mcis_cli.interop.exports.content import Export, File, Mask, require_file_name

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def voc_files(export: Export) -> Iterator[File]:
    """Masks, the list of their ids, and the files that declare the labels.

    SegmentationClass has the masks as they are, SegmentationObject one object for each class of an image, and none for
    ignored pixels, so that importers make shapes of classes, and none of background or void. `labels.json` is for
    CVAT's constructor of labels.

    Raises:
        DataError: a name is not allowed in labelmap.txt, or the split's name as a file name.
    """
    require_file_name(export.split, "the split")
    labels = label_map(export.class_names)
    ids: list[str] = []
    for image_id, mask in export.masks():
        objects = np.where(mask == IGNORE_INDEX, np.uint8(0), mask)
        yield File(Path(f"SegmentationClass/{image_id}.png"), write_mask_png(mask))
        yield File(Path(f"SegmentationObject/{image_id}.png"), write_mask_png(objects))
        ids.append(image_id)
    yield File(
        Path(f"ImageSets/Segmentation/{export.split}.txt"), "".join(f"{image_id}\n" for image_id in ids).encode()
    )
    yield File(Path("labels.json"), cvat_labels(export.class_names))
    yield File(Path("labelmap.txt"), labels)


def label_map(class_names: Sequence[str]) -> bytes:
    """Lines `name:red,green,blue::` of background, classes and void.

    Raises:
        DataError: a name would break its line.
    """
    void = next(name for name in ("void", "void_", "void__") if name not in class_names)
    values = {BACKGROUND: 0, **{name: k + 1 for k, name in enumerate(class_names)}, void: IGNORE_INDEX}
    for name in class_names:
        if ":" in name or name.startswith("#") or name != name.strip():
            raise DataError(
                f"the class {name!r:.80} cannot be written to labelmap.txt: expected no ':', no '#' and no blank at "
                "its ends; rename it, or choose another format"
            )
    colours = voc_palette().tolist()
    lines = [f"{name}:{','.join(map(str, colours[value]))}::\n" for name, value in values.items()]
    return "".join(["# label:color_rgb:parts:actions\n", *lines]).encode()


def cvat_labels(class_names: Sequence[str]) -> bytes:
    """The labels for CVAT's constructor of labels, in the colours of their mask values."""
    colours = voc_palette()[1:]
    labels = [
        {"name": name, "color": f"#{bytes(colour).hex()}", "attributes": []}
        for name, colour in zip(class_names, colours, strict=False)
    ]
    return (json.dumps(labels, indent=1, ensure_ascii=False) + "\n").encode()


def submission_files(export: Export) -> Iterator[File]:
    """Results in the layout of the evaluation server of PASCAL VOC (development kit of 2012, section 5.3)."""
    if export.class_names != VOC_CLASSES:
        export.options.reporter.warn(
            "the classes are not the 20 of PASCAL VOC in their order: the server will not score"
        )
    for image_id, mask in export.masks():
        place = Path(f"results/VOC2012/Segmentation/{export.competition}_test_cls/{image_id}.png")
        yield File(place, write_mask_png(_without_void(mask)))


def _without_void(mask: Mask) -> Mask:
    assert not (mask == IGNORE_INDEX).any(), "a network ignores no pixel"
    return mask
