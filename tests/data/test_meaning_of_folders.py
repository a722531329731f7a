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
    [
        *(("train", "valid", "test"), ("Train", "Val"), ("training", "testing"), ("train",), ("test", "validation")),
        *(("train2017", "val2017"), ("train_images", "test_images"), ("imagesTr", "imagesTs"), ("set-train",)),
        *(("train/images", "valid/images"), ("train", "dev", "eval")),
    ],
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


@pytest.mark.parametrize(("one", "two"), [("10", "2"), ("#1", "#2"), ("犬", "猫"), ("кот", "пёс")])
def test_classes_in_folders_of_splits_may_be_numbers_or_in_any_script(tmp_path, one, two):
    fill(tmp_path, f"train/{one}/a.png", f"train/{two}/b.png", f"val/{one}/c.png")
    images, found, names = look(tmp_path)
    assert names == (one, two)
    assert images[f"val/{one}/c"] == ((one,), False)
    assert found["splits"].message == "splits: train 2, val 1"


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


@pytest.mark.parametrize("names", [("train", "tests"), ("validated", "test"), ("cat", "train", "val"), ("test tube",)])
def test_classes_may_have_such_words_in_their_names(tmp_path, names):
    fill(tmp_path, *(f"{name}/{k}.png" for k in range(2) for name in names))
    assert look(tmp_path)[2] == tuple(sorted(names))


@pytest.mark.parametrize("name", ["{}_mask", "{}_gt", "mask-{}", "{}.labels"])
@pytest.mark.parametrize("photographs", ["images", "train"])
def test_masks_with_a_word_in_their_names_are_no_class(tmp_path, name, photographs):
    fill(tmp_path, *(f"{photographs}/{k:03}.png" for k in range(11)))
    for k in range(11):
        write(tmp_path / "labelled" / f"{name.format(f'{k:03}')}.png", encode(np.eye(6, 9, dtype=np.uint8) * 255))
    _, found, names = look(tmp_path)
    if photographs == "train":
        assert "the folders 'train' have the names of splits" in found["no-image-set"].message
    else:
        assert names == ("images",)
        assert "the folder 'labelled'" in found["masks-beside"].message


@pytest.mark.parametrize("folder", ["BACKGROUND_Google", "neg", "no_cat", "not-dog", "unlabeled", "empty", "clutter"])
def test_classes_that_sound_like_no_class_are_told(tmp_path, folder):
    fill(tmp_path, *(f"{name}/{k}.png" for k in range(2) for name in ("cat", "dog", folder)))
    assert repr(folder) in look(tmp_path)[1]["tags-of-nothing"].message


@pytest.mark.parametrize("name", ["negative space", "noble fir", "nothofagus", "background noise", "no parking"])
def test_some_names_only_look_so(tmp_path, name):
    fill(tmp_path, *(f"{one}/{k}.png" for k in range(2) for one in ("cat", "dog", name)))
    told = "tags-of-nothing" in look(tmp_path)[1]
    assert told == name.startswith(("negative", "background"))


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("tags.xlsx", "save it as CSV UTF-8"),
        ("annotations.xml", "CVAT for images; export PASCAL VOC 1.1 or COCO 1.0"),
        ("images/1.xml", "in the layout of VOC it is in Annotations/"),
        ("via_region_data.json", "JSON of a kind that is not known; export COCO"),
        ("data.yaml", "of YOLO"),
        ("labels/1.txt", "of YOLO"),
        ("all.zip", "an archive; unpack it"),
        ("labels.txt", "save it as tags.csv with columns image,tags"),
    ],
)
@pytest.mark.parametrize("images", ["images", "images/train", "train"])
def test_files_of_other_tools_are_named(tmp_path, file, told, images):
    fill(tmp_path, *(f"{images}/{k}.png" for k in range(3)))
    write(tmp_path / file, "{}")
    found = look(tmp_path)[1]
    message = (found.get("no-image-set") or found["one-folder"]).message
    assert f"{file!r} there is" in message
    assert told in message


@pytest.mark.parametrize("inner", ["cat/{}.png", "train/cat/{}.png", "JPEGImages/{}.png"])
@pytest.mark.parametrize("outer", ["images", "dataset-v2", "VOC2012"])
def test_the_folder_that_was_meant_is_named(tmp_path, inner, outer):
    fill(tmp_path, *(f"{outer}/{inner.format(k)}" for k in range(3)), *(f"__MACOSX/cat/{k}.png" for k in range(2)))
    assert f"did you mean {tmp_path / outer}?" in look(tmp_path)[1]["no-image-set"].message
