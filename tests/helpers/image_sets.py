"""Tiny image sets for tests: files from arrays, sets of the layouts of VOC and COCO, and the archive of VOC 2012."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from mcis_cli.data.palette import write_mask_png

HEIGHT, WIDTH = 6, 9
TAGS = {"a1": "cat", "a2": "cat dog", "a3": "dog", "b1": "cat", "b2": "dog", "c1": "bird"}
SPLITS = {"train": ("a1", "a2", "a3", "c1"), "val": ("b1", "b2")}


def encode(array: ndarray, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format=format, **options)
    return stream.getvalue()


def photo(seed: int, height: int = HEIGHT, width: int = WIDTH) -> ndarray:
    """A photograph of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(file: Path, content: bytes | str) -> Path:
    """Write a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def mask_of(tags: str, classes: tuple[str, ...] = ("bird", "cat", "dog")) -> ndarray:
    """A mask with a row of void, and a column of each class that is named."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for column, name in enumerate(tags.split()):
        mask[:, column] = classes.index(name) + 1
    mask[0] = 255
    return mask


def write_voc(root: Path) -> Path:
    """Write the set of `TAGS` and `SPLITS`, with masks and saliency for every image."""
    for seed, (image_id, tags) in enumerate(TAGS.items()):
        write(root / f"JPEGImages/{image_id}.png", encode(photo(seed)))
        write(root / f"SegmentationClass/{image_id}.png", write_mask_png(mask_of(tags)))
        write(root / f"saliency/{image_id}.png", encode(photo(seed)[:, :, 0]))
    write(root / "image_tags.txt", "".join(f"{image_id} {tags}\n" for image_id, tags in TAGS.items()))
    for name, ids in SPLITS.items():
        write(root / f"ImageSets/Segmentation/{name}.txt", "\n".join(ids) + "\n")
    return root


CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "bird"}]
SQUARE = [[1.5, 1, 4, 1, 4, 4, 1.5, 4]]


def annotation(image_id: int, category_id: int, **more: object) -> dict[str, object]:
    """An object of COCO."""
    return {"id": 1, "image_id": image_id, "category_id": category_id, "segmentation": SQUARE, "iscrowd": 0, **more}


def write_coco(root: Path, **given: object) -> Path:
    """Two splits in the folders of COCO; ids of images and categories have gaps."""
    table = {
        "images": [{"id": 9, "file_name": "a.png"}, {"id": 400, "file_name": "b.png"}, {"id": 7, "file_name": "c.png"}],
        "categories": CATEGORIES,
        "annotations": [annotation(9, 90), annotation(9, 3), annotation(9, 3), annotation(400, 90, iscrowd=1)],
    }
    write(root / "annotations/instances_train2017.json", json.dumps({**table, **given}))
    val = {"images": [{"id": 1, "file_name": "a.png"}], "categories": CATEGORIES, "annotations": [annotation(1, 17)]}
    write(root / "annotations/instances_val2017.json", json.dumps(val))
    write(root / "annotations/captions_train2017.json", "no JSON at all")
    for seed, name in enumerate(("train2017/a", "train2017/b", "train2017/c", "val2017/a")):
        write(root / f"{name}.png", encode(photo(seed)))
    return root


VOC_ANNOTATION = "<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
VOC_OBJECT = "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>1</xmin></bndbox></object>"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"VOCdevkit/VOC2012/{name}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_voc_archive(shapes: Path, file: Path) -> None:
    """The archive of VOC 2012 in small: annotations, lists of several tasks, and masks for those of one of them."""
    with tarfile.open(file, "w") as archive:
        tags = [line.split() for line in (shapes / "image_tags.txt").read_text().splitlines()]
        for image_id, *names in tags:
            objects = "".join(VOC_OBJECT.format(name=name) for name in names)
            _add(archive, f"Annotations/{image_id}.xml", VOC_ANNOTATION.format(name=image_id, objects=objects).encode())
            _add(archive, f"JPEGImages/{image_id}.jpg", (shapes / f"JPEGImages/{image_id}.jpg").read_bytes())
        for split in ("train", "trainval", "val"):
            ids = (shapes / f"ImageSets/Segmentation/{split}.txt").read_text()
            _add(archive, f"ImageSets/Segmentation/{split}.txt", ids.encode())
            _add(archive, f"ImageSets/Main/{split}.txt", ids.encode())
            _add(archive, f"ImageSets/Action/jumping_{split}.txt", b"train-0000 1 1\n")
            for name in {name for _, *names in tags for name in names}:
                signs = "".join(f"{one} {'1' if name in names else '-1'}\n" for one, *names in tags)
                _add(archive, f"ImageSets/Main/{name}_{split}.txt", signs.encode())
        _add(archive, "classes.txt", (shapes / "classes.txt").read_bytes())  # VOC orders its classes by name
        for mask in sorted((shapes / "SegmentationClass").glob("*.png")):
            _add(archive, f"SegmentationClass/{mask.name}", mask.read_bytes())
            _add(archive, f"SegmentationObject/{mask.name}", mask.read_bytes())


def replace_text(file: Path, old: str, new: str) -> None:
    """Change a text that is in a file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
