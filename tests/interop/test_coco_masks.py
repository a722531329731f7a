"""Ground truth from outlines of COCO: what pycocotools draws, and nothing without the command."""

import json

import numpy as np
import pytest
from image_sets import encode, photo, write
from PIL import Image
from pycocotools.coco import COCO

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.run_lengths import encode_rle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 40, 60
STAR = [10.5, 2, 14, 15.25, 28, 16, 16, 22, 20, 36, 10, 26, 1, 35, 5, 20, 1.5, 12, 8, 14]
SQUARE = [20, 10, 50, 10, 50, 30, 20, 30]
CROWD = np.zeros((HEIGHT, WIDTH), bool)
CROWD[0:12, 30:60] = True


def annotation(number, category, outline, crowd=0):
    area = 0
    named = {"id": number, "image_id": 5, "category_id": category, "area": area, "bbox": [0, 0, 1, 1]}
    return {**named, "segmentation": outline, "iscrowd": crowd}


@pytest.fixture
def root(tmp_path):
    """A val split of one image: a star over a square, and a crowd behind both; one of train without outlines."""
    image = {"id": 5, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    categories = [{"id": 4, "name": "star"}, {"id": 2, "name": "square"}]
    annotations = [
        annotation(1, 4, [STAR]),
        annotation(2, 2, [SQUARE]),
        annotation(3, 2, {**encode_rle(CROWD)}, crowd=1),
    ]
    for split, listed in (("val", annotations), ("train", [])):
        write(tmp_path / f"coco/images/{split}/a.png", encode(photo(0, HEIGHT, WIDTH)))
        table = {"images": [image], "categories": categories, "annotations": listed}
        write(tmp_path / f"coco/annotations/instances_{split}.json", json.dumps(table))
    return tmp_path / "coco"


def test_masks_are_written_where_scores_look_for_them(call, root):
    assert read_catalogue(DataConfig(root=str(root)))["images/val/a"].mask is None
    answer = call("coco-masks", "coco", cwd=root.parent)
    assert (answer.code, answer.lines) == (0, [str(root / "masks")])
    images = read_catalogue(DataConfig(root=str(root)))
    assert images["images/train/a"].mask is None
    mask = images.read_mask("images/val/a")
    api = COCO(root / "annotations/instances_val.json")
    star, square = (api.annToMask(api.anns[number]).astype(bool) for number in (1, 2))
    expected = np.where(CROWD, 255, 0)
    expected[square] = images.class_names.index("square") + 1
    expected[star] = images.class_names.index("star") + 1
    np.testing.assert_array_equal(mask, expected)
    assert set(np.unique(mask)) == {0, 1, 2, 255}


def test_masks_that_are_there_are_kept_unless_told(call, root):
    write(root / "masks/mine.png", b"mine")
    answer = call("coco-masks", "coco", cwd=root.parent)
    assert (answer.code, answer.out) == (2, "")
    assert "masks is not empty, it contains 'mine.png'" in answer.err
    assert call("coco-masks", "coco", "-o", "elsewhere", "--split", "all", cwd=root.parent).code == 0
    with Image.open(root.parent / "elsewhere/images/train/a.png") as empty:
        assert not np.asarray(empty).any()


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        (None, r"annotations[0] has no outline"),
        ([3, 4], r"annotations[0] has no outline"),
        ([], "annotations[0] has no outline"),
        ([[1, 2]], "annotations[0] has an invalid polygon"),
        ([[1, 2, 30, 20]], "annotations[0] has an invalid polygon"),
        ([[1, 2, 3]], "annotations[0] has an invalid polygon"),
        ([[1, 2, "x", 4]], "annotations[0] has an invalid polygon"),
        ([[1, 2, 1e300, 4]], "annotations[0] has an invalid polygon"),
        ([[float("nan"), 2]], "annotations[0] has an invalid polygon"),
        ([[-9e5, 0, 9e5, 0, 0, 9e5]], "annotations[0] has an invalid polygon"),
        ([[0, 0, 40, 40] * 10**5], "annotations[0] has an invalid polygon"),
        (
            {"size": [10**6, 10**6], "counts": "0"},
            "annotations[0] has invalid run lengths, of the size [1000000, 1000000]",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [3]}, "annotations[0] has invalid run lengths"),
        ({"size": [HEIGHT, WIDTH]}, "annotations[0] has invalid run lengths"),
    ],
)
def test_an_outline_that_is_none_is_one_line(call, root, outline, message):
    table = json.loads((root / "annotations/instances_val.json").read_text())
    table["annotations"] = [annotation(1, 4, outline)]
    write(root / "annotations/instances_val.json", json.dumps(table))
    answer = call("coco-masks", "coco", cwd=root.parent)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert message in answer.err


def test_another_layout_has_no_outlines(call, root):
    write(root.parent / "zoo/cat/a.png", encode(photo(0)))
    answer = call("coco-masks", "zoo", cwd=root.parent)
    assert answer.code == 2
    assert "zoo has the layout folders: expected one with outlines, as COCO has them" in answer.err


def test_corners_outside_are_cut(call, root):
    table = json.loads((root / "annotations/instances_val.json").read_text())
    table["annotations"] = [annotation(1, 4, [[-999, -999, 999, -999, 999, 999, -999, 999]])]
    write(root / "annotations/instances_val.json", json.dumps(table))
    assert call("coco-masks", "coco", cwd=root.parent).code == 0
    with Image.open(root / "masks/images/val/a.png") as mask:
        assert (np.asarray(mask) > 0).all()


def sized(root, width, height, **more):
    """The val file with this size of its image, and what else it says of it."""
    table = json.loads((root / "annotations/instances_val.json").read_text())
    table["images"][0] |= {"width": width, "height": height}
    table["annotations"] = [annotation(1, 4, [[0, 0, width / 3, 0, width / 3, height, 0, height]], **more)]
    write(root / "annotations/instances_val.json", json.dumps(table))


@pytest.mark.parametrize("factor", [2, 3, 1])
def test_sizes_in_the_proportions_of_the_photograph_are_scaled(call, root, factor):
    sized(root, WIDTH * factor, HEIGHT * factor)
    assert call("coco-masks", "coco", cwd=root.parent).code == 0
    with Image.open(root / "masks/images/val/a.png") as mask:
        assert (np.asarray(mask)[:, : WIDTH // 3] > 0).all()
        assert not np.asarray(mask)[:, WIDTH // 3 + 1 :].any()


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [(HEIGHT, WIDTH, ", its size before"), (WIDTH + 1, HEIGHT, ""), (WIDTH, 2 * HEIGHT, ""), (640, 480, "")],
)
def test_sizes_of_other_proportions_are_an_error_with_both(call, root, width, height, told):
    sized(root, width, height)
    answer = call("coco-masks", "coco", cwd=root.parent)
    assert (answer.code, answer.out) == (2, "")
    assert f"found annotations for {width} x {height} pixels{told}" in answer.err
    assert f"the photograph 'images/val/a.png' has {WIDTH} x {HEIGHT}; export" in answer.err


@pytest.mark.parametrize("names", [("one", "two"), ("b", "a"), ("cats2017", "dogs2017")])
def test_an_image_in_several_files_has_the_objects_of_all(call, root, names):
    table = json.loads((root / "annotations/instances_val.json").read_text())
    for name in ("train", "val"):
        (root / f"annotations/instances_{name}.json").unlink()
    for name, category, left in zip(names, (4, 2), (0, 5), strict=True):
        outline = [[left, 0, left + 2, 0, left + 2, 3, left, 3]]
        listed = [annotation(1, category, outline)]
        images = [{**table["images"][0], "file_name": "val/a.png"}]
        content = json.dumps({**table, "images": images, "annotations": listed})
        write(root / f"annotations/instances_{name}.json", content)
    assert call("coco-masks", "coco", "--split", "all", cwd=root.parent).code == 0
    with Image.open(root / "masks/images/val/a.png") as mask:
        assert set(np.unique(np.asarray(mask))) == {0, 1, 2}
