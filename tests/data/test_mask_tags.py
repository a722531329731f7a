"""Tags from masks: only with the flag, and with a message."""

import os
import shutil

import numpy as np
import pytest
from image_sets import TAGS, encode, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

CLASSES = "bird\ncat\ndog\n"


@pytest.fixture
def root(tmp_path):
    """A set with masks and names of classes, and no tags."""
    write_voc(tmp_path / "set")
    (tmp_path / "set/image_tags.txt").unlink()
    write(tmp_path / "set/classes.txt", CLASSES)
    return tmp_path / "set"


def test_tags_are_the_classes_in_the_masks(root):
    found = read_catalogue(DataConfig(root=str(root), tags_from_masks=True))
    for entry in found.entries:
        assert {found.class_names[label] for label in entry.labels} == set(TAGS[entry.id].split())


@pytest.mark.parametrize(
    ("values", "is_negative"),
    [((0,), True), ((0, 255), True), ((255,), False), ((2,), False), ((0, 2), False)],
)
def test_an_image_whose_mask_is_background_alone_is_a_negative(root, values, is_negative):
    """A mask that is wholly ignored has no information: its image is unlabelled."""
    write(root / "SegmentationClass/a1.png", encode(np.resize(np.array(values, np.uint8), (6, 9))))
    found = read_catalogue(DataConfig(root=str(root), tags_from_masks=True))["a1"]
    assert found.is_negative is is_negative
    assert found.labels == ((1,) if 2 in values else ())


def test_what_was_remembered_of_masks_before_is_read_anew(root, tmp_path):
    """What an earlier version kept of a mask says nothing of background."""
    mask = root / "SegmentationClass/a1.png"
    write(mask, encode(np.zeros((6, 9), np.uint8)))
    os.utime(mask, (1, 1))  # old enough for what is seen of it to be remembered
    with StatCache(tmp_path / "facts") as cache:
        cache.put(mask, "mask-values-1", mask.stat(), {"sha256": "0" * 64, "values": []})
        for _ in ("read", "remembered"):
            found = read_catalogue(DataConfig(root=str(root), tags_from_masks=True), cache)
            assert found["a1"].is_negative


def test_without_the_flag_there_are_none_and_the_training_says_how(call, root):
    assert not any(entry.labels for entry in read_catalogue(DataConfig(root=str(root))).entries)
    answer = call("train-cls", "set", "--backbone", "lite0", cwd=root.parent)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "has a tag: expected one at least; its masks may give them with --tags-from-masks, which is" in answer.err


def test_check_tells_where_the_tags_are_from(call, root):
    answer = call("check", "set", "--tags-from-masks", "--refs", "0", cwd=root.parent)
    assert "tags from the masks, which is pixel supervision" in answer.err
    assert answer.code == 0


def test_tags_that_are_there_are_not_mixed_with_others(root):
    write(root / "image_tags.txt", "a1 cat\n")
    with pytest.raises(DataError, match=r"has tags, from .*image_tags\.txt: none are taken from masks; leave out"):
        read_catalogue(DataConfig(root=str(root), tags_from_masks=True))


def test_masks_that_cannot_give_tags_are_one_line(root):
    write(root / "SegmentationClass/a1.png", encode(np.full((6, 9), 4, np.uint8)))
    with pytest.raises(DataError, match=r"a1\.png: mask value 4; expected 0 to 3 or 255"):
        read_catalogue(DataConfig(root=str(root), tags_from_masks=True))
    write(root / "SegmentationClass/a1.png", b"")
    with pytest.raises(DataError, match=r"a1\.png: an empty file"):
        read_catalogue(DataConfig(root=str(root), tags_from_masks=True))
    shutil.rmtree(root / "SegmentationClass")
    with pytest.raises(DataError, match="no masks in"):
        read_catalogue(DataConfig(root=str(root), tags_from_masks=True))
