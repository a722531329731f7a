"""Names of files and folders that mean a split of the images: `train2017`, `val_images`, `imagesTr`."""

import re

_SPELLINGS = {
    "train": "train training tr",
    "val": "val valid validation",
    "test": "test testing ts",
    "trainval": "trainval",
    "dev": "dev",
    "eval": "eval",
}
_SPLITS = {word: split for split, words in _SPELLINGS.items() for word in words.split()}
_FILES = ("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpg", "jpegs", "files")
_SETS = ("data", "dataset", "set", "split", "list", "folder", "dir")
_LABELS = ("annotation", "annotations", "labels", "instances", "coco")
_BESIDE = frozenset((*_FILES, *_SETS, *_LABELS))


def split_of_name(name: str) -> str | None:
    """The split that a name means, ignoring numbers and words such as `images`; None if it means none."""
    words = re.findall(r"[^\W\d_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
    named = [_SPLITS[word] for word in words if word in _SPLITS]
    return named[0] if len(named) == 1 and all(word in _BESIDE for word in words if word not in _SPLITS) else None
