"""Brushes of Label Studio and masks of labelme become ground truth; damaged ones are one line."""

import base64
import json

import numpy as np
import pytest
from image_sets import encode, photo, write

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.label_studio_brush import decode_brush, encode_brush
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError

# What label-studio-converter 0.0.59 writes for this brush.
BRUSH = np.array([[0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0]], bool)
RUNS = [0, 0, 0, 112, 57, 27, 254, 35, 0, 191, 255, 108, 2, 255, 252, 96, 17, 255, 225, 112, 0]


def packed(mask, *, as_literals):
    """The run lengths of a brush: runs of one value of at most 65536, or values one by one."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    starts = np.flatnonzero(np.diff(values, prepend=256 - int(values[0])))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        if as_literals:
            for at in range(start, end, 256):
                part = values[at : min(end, at + 256)]
                bits += f"010{len(part) - 1:08b}" + "".join(f"{value:08b}" for value in part)
        else:
            bits += f"111{end - start - 1:016b}{values[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_a_brush_is_what_its_writer_drew():
    np.testing.assert_array_equal(decode_brush(RUNS, 4, 7, "x"), BRUSH)


@pytest.mark.parametrize("as_literals", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_brushes_of_any_runs_are_read(seed, as_literals):
    random = np.random.default_rng(seed)
    mask = np.repeat(random.random((5 + seed, 3)) < 0.5, 40, axis=1)
    np.testing.assert_array_equal(decode_brush(packed(mask, as_literals=as_literals), *mask.shape, "x"), mask)


def test_a_brush_is_written_as_its_own_tool_writes_it():
    assert encode_brush(BRUSH) == RUNS


@pytest.mark.parametrize("fill", [None, False, True])
def test_brushes_are_read_as_they_were_written(fill):
    """One is longer than the longest run."""
    mask = np.random.default_rng(0).random((150, 170)) < 0.5 if fill is None else np.full((150, 170), fill)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), *mask.shape, "x"), mask)


@pytest.mark.parametrize(
    "runs",
    [None, "runs", [], [1, 2, 3], [*RUNS[:4], 255, *RUNS[5:]], RUNS[:-4], [256, *RUNS], [0, 0, 1, *RUNS[3:]], [True]],
)
def test_a_damaged_brush_is_one_line(runs):
    with pytest.raises(DataError, match="task 3, region 0 has no run lengths of 7 x 4 pixels at 'rle'"):
        decode_brush(runs, 4, 7, "task 3, region 0")


def region(kind, **value):
    return {"type": kind, "original_width": 7, "original_height": 4, "value": value}


def label_studio(root, *regions, tags=("cat", "dog")):
    for k in range(2):
        write(root / f"images/{k}.png", encode(photo(k, 4, 7)))
    results = [[*regions], [region("choices", choices=[tags[1]])]]
    tasks = [
        {"data": {"image": f"/data/upload/2/0a1b2c3d-{k}.png"}, "annotations": [{"result": result}]}
        for k, result in enumerate(results)
    ]
    write(root / "project.json", json.dumps(tasks))


def masks_of(call, root):
    """The masks that the command makes, by image."""
    answer = call("coco-masks", root, "--split", "all", cwd=root.parent)
    assert answer.code == 0, answer.err
    images = read_catalogue(DataConfig(root=str(root)))
    return images, {entry.id: images.read_mask(entry.id) for entry in images.entries if entry.mask}


def test_a_brush_becomes_ground_truth(call, tmp_path):
    polygon = region("polygonlabels", points=[[0, 0], [100 / 7, 0], [100 / 7, 25], [0, 25]], polygonlabels=["dog"])
    label_studio(tmp_path / "set", region("brushlabels", format="rle", rle=RUNS, brushlabels=["cat"]), polygon)
    images, masks = masks_of(call, tmp_path / "set")
    assert images.class_names == ("cat", "dog")
    expected = BRUSH.astype(np.uint8)
    expected[0, 0] = 2
    np.testing.assert_array_equal(masks["images/0"], expected)
    assert not masks["images/1"].any()  # submitted, with a tag and no outline


def labelme(root, shapes, **more):
    write(root / "a.png", encode(photo(0, 6, 9)))
    table = {"version": "5.5", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": None}
    write(root / "a.json", json.dumps({**table, "imageHeight": 6, "imageWidth": 9, **more}))


def mask_shape(mask, left, top, label="cat"):
    content = base64.b64encode(encode(mask)).decode()
    box = [[left, top], [left + mask.shape[1] - 1, top + mask.shape[0] - 1]]
    return {"label": label, "shape_type": "mask", "points": box, "mask": content, "group_id": None, "flags": {}}


@pytest.mark.parametrize("as_bits", [True, False])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (2, 1), (6, 4), (-1, -2), (2.0, 1.0)])
def test_a_mask_of_labelme_lies_at_the_place_of_its_box(call, tmp_path, as_bits, left, top):
    small = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]], bool)
    labelme(tmp_path / "set", [mask_shape(small if as_bits else small.astype(np.uint8) * 255, left, top)])
    _, masks = masks_of(call, tmp_path / "set")
    expected = np.zeros((6, 9), np.uint8)
    for row, column in np.argwhere(small):
        if 0 <= row + top < 6 and 0 <= column + left < 9:
            expected[int(row + top), int(column + left)] = 1
    np.testing.assert_array_equal(masks["a"], expected)


@pytest.mark.parametrize("name", ["__ignore__", "_background_"])
def test_shapes_that_are_no_class(call, tmp_path, name):
    dog = {"label": "dog", "shape_type": "rectangle", "points": [[0, 0], [9, 6]]}
    labelme(tmp_path / "set", [dog, mask_shape(np.ones((2, 3), bool), 1, 1, name)])
    images, masks = masks_of(call, tmp_path / "set")
    assert images.class_names == ("dog",)
    # An ignored region gives way to an object that lies over it; one of background is drawn as any other.
    assert set(np.unique(masks["a"])) == ({1} if name == "__ignore__" else {0, 1})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mask": "no base64!"}, "has a mask that cannot be read"),
        ({"mask": base64.b64encode(b"no image").decode()}, "not a readable image"),
        ({"mask": None}, "not a readable image"),
        ({"points": [[1], [2]]}, "has no points"),
        ({"points": []}, "has a mask that cannot be read"),
        ({"points": [[float("inf"), 0], [3, 3]]}, "has a mask that cannot be read"),
        ({"points": [[float("nan"), 0], [3, 3]]}, "has a mask that cannot be read"),
    ],
)
def test_a_damaged_mask_of_labelme_is_one_line(call, tmp_path, change, told):
    labelme(tmp_path / "set", [{**mask_shape(np.ones((2, 3), bool), 1, 1), **change}])
    answer = call("coco-masks", "set", "--split", "all", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "shapes[0]" in answer.err
    assert told in answer.err
    assert answer.err.count("\n") == 1


def coco(root, **size):
    write(root / "images/a.png", encode(photo(0, 6, 9)))
    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    names = ("cat", "__ignore__", "background")
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    places = [(0, square), (1, [[c + 4 for c in square[0]]])]
    objects = [{"image_id": 1, "category_id": k, "segmentation": outline, "iscrowd": 0} for k, outline in places]
    images = [{"id": 1, "file_name": "a.png", **size}]
    table = {"images": images, "annotations": objects, "categories": categories}
    write(root / "annotations/instances_train.json", json.dumps(table))


def test_an_ignored_category_of_coco_is_ignored(call, tmp_path):
    coco(tmp_path / "set", height=6, width=9)
    images, masks = masks_of(call, tmp_path / "set")
    assert images.class_names == ("cat",)
    assert set(np.unique(masks["images/a"])) == {0, 1, 255}
