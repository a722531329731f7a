"""Which folders are classes, which are splits, and which are neither."""

from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, photo, write

from mcis_cli.config import DataConfig
from mcis_cli.data.check import survey
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.palette import write_mask_png

SPLITS = {"train": range(8), "valid": range(8, 10), "test": range(10, 12)}


def look(root: Path) -> tuple[dict[str, tuple[tuple[str, ...], bool]], dict[str, Finding], tuple[str, ...]]:
    """Tags and whether it is a negative by image, findings by code, and the classes."""
    catalogue, findings = survey(DataConfig(root=str(root)), num_references=0, workers=0)
    by_code = {finding.code: finding for finding in findings}
    if catalogue is None:
        return {}, by_code, ()
    names = catalogue.class_names
    images = {e.id: (tuple(names[k] for k in e.labels), e.is_negative) for e in catalogue.entries}
    return images, by_code, names


def fill(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write(root / name, encode(photo(seed)))
    return root


@pytest.mark.parametrize(
    "folders",
    [("train", "valid", "test"), ("Train", "Val"), ("training", "testing"), ("train",), ("test", "validation")],
)
def test_folders_called_as_splits_are_no_classes(tmp_path, folders):
    fill(tmp_path, *(f"{folder}/{k}.png" for k, folder in enumerate(folders)))
    message = look(tmp_path)[1]["no-image-set"].message
    assert "have the names of splits and hold images" in message
    assert "_annotations.coco.json" in message


@pytest.mark.parametrize("junk", ["__MACOSX", "@eaDir", "__pycache__", ".ipynb_checkpoints", "$RECYCLE.BIN"])
@pytest.mark.parametrize("prefix", ["", "train/"])
def test_what_systems_leave_behind_is_no_class(tmp_path, junk, prefix):
    fill(tmp_path, *(f"{prefix}{name}/{k}.png" for k in range(3) for name in ("cat", "dog", junk)))
    fill(tmp_path, f"{junk}/train/cat/._1.png", f"{junk}/cat/2.png")
    images, found, names = look(tmp_path)
    assert names == ("cat", "dog")
    assert len(images) == 6
    assert found["splits"].message == "splits: train 6"


@pytest.mark.parametrize("folder", ["background", "Background", "negative", "none", "_background_", "Negatives"])
def test_folders_of_negatives(tmp_path, folder):
    fill(tmp_path, *(f"{name}/{k}.png" for k in range(3) for name in ("ant", "cat", folder)))
    images, found, names = look(tmp_path)
    assert names == ("ant", "cat")
    assert images[f"{folder}/0"] == ((), True)
    assert found["negatives"].message.startswith("3 negatives in 'train'")


def test_a_folder_may_be_called_negative_where_the_classes_say_so(tmp_path):
    fill(tmp_path, "negative/0.png", "positive/1.png")
    write(tmp_path / "classes.txt", "positive\nnegative\n")
    images, _, names = look(tmp_path)
    assert names == ("positive", "negative")
    assert images["negative/0"] == (("negative",), False)


@pytest.mark.parametrize("folder", ["gt", "labels", "masks_png"])
@pytest.mark.parametrize("as_colours", [False, True])
def test_a_folder_of_masks_is_no_class(tmp_path, folder, as_colours):
    fill(tmp_path, *(f"images/{k}.png" for k in range(4)))
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4] = 1
    content = encode(np.stack([mask * 200, mask, mask], axis=2)) if as_colours else write_mask_png(mask)
    for k in range(4):
        write(tmp_path / folder / f"{k}.png", content)
    _, found, names = look(tmp_path)
    assert names == ("images",)
    assert f"name them with --set data.masks={folder}" in found["masks-beside"].message


def test_classes_that_number_their_images_alike_are_classes(tmp_path):
    fill(tmp_path, *(f"{name}/{k}.png" for k in range(3) for name in ("cat", "dog")))
    assert look(tmp_path)[2] == ("cat", "dog")


@pytest.mark.parametrize("kind", ["classes", "boxes", "masks"])
def test_exports_of_roboflow_by_table(tmp_path, kind):
    for split, ids in SPLITS.items():
        fill(tmp_path, *(f"{split}/{k}.png" for k in ids))
        if kind == "classes":
            rows = "".join(f"{k}.png, {int(k % 2 == 0)}, {k % 2}, 0\n" for k in ids)
            write(tmp_path / split / "_classes.csv", f"filename, cat, dog, Unlabeled\n{rows}")
        elif kind == "boxes":
            rows = "".join(f"{k}.png,9,6,{('cat', 'dog')[k % 2]},1,1,4,4\n" for k in ids)
            write(tmp_path / split / "_annotations.csv", f"filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}")
        else:
            write(tmp_path / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
            for k in ids:
                write(tmp_path / split / f"{k}_mask.png", write_mask_png(np.full((6, 9), k % 2 + 1, np.uint8)))
    images, found, names = look(tmp_path)
    assert names == ("cat", "dog")
    assert found["splits"].message == "splits: test 2, train 8, val 2"
    if kind == "masks":
        assert found["companions"].message.startswith("12 masks")
    else:
        assert images["valid/9"] == (("dog",), False)
