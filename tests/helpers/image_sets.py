"""Tiny image sets for tests: files from arrays, and a set of the VOC layout with six rectangular images."""

import io
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
