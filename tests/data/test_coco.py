"""The layout of COCO: categories are tags, whatever their ids; outlines are not kept; hostile files are one line."""

import json

import pytest
from image_sets import CATEGORIES, annotation, encode, photo, write, write_coco
from PIL import Image

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts import coco
from mcis_cli.data.reading import read_catalogue, read_listing
from mcis_cli.errors import DataError


def test_categories_are_tags_in_the_order_of_their_ids(tmp_path):
    found = read_catalogue(DataConfig(root=str(write_coco(tmp_path))))
    assert found.layout == "coco"
    assert found.class_names == ("cat", "bird", "dog")
    assert {entry.id: (entry.labels, set(entry.splits)) for entry in found.entries} == {
        "train2017/a": ((0, 2), {"train"}),
        "train2017/b": ((2,), {"train"}),  # a crowd counts, too
        "train2017/c": ((), {"train"}),
        "val2017/a": ((1,), {"val"}),
    }
    assert not any(entry.mask for entry in found.entries)


@pytest.mark.parametrize("folder", ["images", "images/train", "images/train2017", "train", ""])
def test_images_are_found_where_people_keep_them(tmp_path, folder):
    write_coco(tmp_path / "made")
    (tmp_path / "set/annotations").mkdir(parents=True)
    (tmp_path / "made/annotations/instances_train2017.json").rename(
        tmp_path / "set/annotations/instances_train2017.json"
    )
    for name in "abc":
        write(tmp_path / "set" / folder / f"{name}.png", encode(photo(1)))
    found = read_listing(DataConfig(root=str(tmp_path / "set")))
    assert [item.image for item in found.items] == [f"{folder}/{name}.png".lstrip("/") for name in "abc"]


@pytest.mark.parametrize("root", ["set", "set/annotations/instances_val2017.json"])
def test_one_file_may_be_named(tmp_path, root):
    write_coco(tmp_path / "set")
    named = None if root.endswith("json") else "annotations/instances_val2017.json"
    found = read_listing(DataConfig(root=str(tmp_path / root), tags=named))
    assert [(item.id, item.tags) for item in found.items] == [("val2017/a", {"bird"})]


def test_an_image_that_is_not_there_is_an_error_that_names_file_and_image(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "train2017/b.png").unlink()
    message = r"instances_train2017\.json: no image 'b\.png'; looked in .*train2017, .*; add it or take it off the list"
    with pytest.raises(DataError, match=message):
        read_catalogue(DataConfig(root=str(tmp_path)))


def test_annotations_of_no_image_are_told(tmp_path):
    write_coco(tmp_path, annotations=[annotation(9, 3), annotation(5, 3)])
    (finding,) = read_listing(DataConfig(root=str(tmp_path))).findings
    assert (finding.severity, finding.message) == ("warning", "of no image: 1 annotation")


IMAGE = {"id": 1, "file_name": "a.png"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": None}, "no list 'images'"),
        ({"categories": {}}, "no list 'categories'"),
        ({"images": [IMAGE, 3]}, r"images\[1\] has None for 'id'; expected an integer"),
        ({"images": [{**IMAGE, "id": True}]}, r"images\[0\] has True for 'id'"),
        ({"images": [{**IMAGE, "file_name": 4}]}, r"images\[0\] has 4 for 'file_name'; expected a text"),
        ({"images": [IMAGE, IMAGE]}, r"two images have the id 1, the second is images\[1\]"),
        ({"images": [{"id": 1, "file_name": "../../etc/passwd.png"}], "annotations": []}, "leaves its folder"),
        (
            {"images": [{"id": 1, "file_name": "/etc/passwd"}], "annotations": []},
            "leaves its folder|no name of an image",
        ),
        ({"categories": [CATEGORIES[0]] * 2}, "two categories have the id 90"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]}, "category_id 90|named twice"),
        ({"annotations": [annotation(9, 4)]}, r"annotations\[0\] has category_id 4, which no category has"),
        ({"annotations": [annotation(9, 3), {"image_id": 9}]}, r"annotations\[1\] has None for 'category_id'"),
        (
            {"categories": [*CATEGORIES, {"id": 91, "name": "fox"}]},
            "val2017.json: its categories differ from",
        ),
    ],
)
def test_what_is_not_as_coco_has_it_is_one_line(tmp_path, given, message):
    write_coco(tmp_path, **given)
    with pytest.raises(DataError, match=message) as caught:
        read_catalogue(DataConfig(root=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not JSON"),
        (b'{"images": [}', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"images": [' + b"9" * 5000 + b"]}", "not JSON"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
        (b"[]", "no list 'images'"),
        (b"NaN", "no list 'images'"),
    ],
)
def test_hostile_json_is_one_line(content, message):
    with pytest.raises(DataError, match=message) as caught:
        coco.parse_instances(content, "x.json")
    assert str(caught.value).startswith("x.json: ")
    assert "\n" not in str(caught.value)


def test_json_of_very_many_lists_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(coco.json, "loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match="20,000,001 lists and objects; expected at most 20,000,000"):
        coco.parse_instances(b"[" * (coco.MAX_NESTED + 1), "x.json")


def test_what_outlines_objects_is_not_kept():
    read = coco.read_json(json.dumps({"annotations": [annotation(1, 2)]}).encode(), "x.json")
    assert read == {"annotations": [{"id": 1, "image_id": 1, "category_id": 2}]}


def test_check_and_init_say_that_it_is_coco(call, tmp_path):
    write_coco(tmp_path / "set")
    answer = call("check", "set", "--refs", "0", cwd=tmp_path)
    assert "note: layout coco, 4 images, tags from set/annotations/instances_train2017.json, " in answer.err
    answer = call("init", "set", cwd=tmp_path)
    assert answer.code == 0
    assert "set: layout coco, 4 images, 3 classes; train 3, val 1" in answer.err
    assert 'layout = "coco"' in (tmp_path / "mcis.toml").read_text()


def one_file(root, name, folder, *, file_name="{}.png", **image):
    """Three images in a folder, and one file of annotations that is called so."""
    for k in range(3):
        write(root / folder / f"{k}.png", encode(photo(k)))
    images = [{"id": k, "file_name": file_name.format(k), **image} for k in range(3)]
    table = {
        "info": {},
        "images": images,
        "annotations": [annotation(k, 3) for k in range(3)],
        "categories": CATEGORIES,
    }
    write(root / name, json.dumps(table))
    return root


@pytest.mark.parametrize(
    ("name", "folder", "splits"),
    [
        ("labels.json", "data", {"default", "train"}),  # FiftyOne
        ("result.json", "images", {"default", "train"}),  # Label Studio
        ("annotations.json", "images", {"default", "train"}),
        ("annotations/train.json", "images", {"train"}),
        ("annotations/train_annotations.json", "train", {"train"}),
        ("annotations/instances_default.json", "images/default", {"default", "train"}),  # CVAT
        ("train.json", "train", {"train"}),
    ],
)
def test_files_of_other_names_are_known_by_their_content(tmp_path, name, folder, splits):
    found = read_catalogue(DataConfig(root=str(one_file(tmp_path, name, folder))))
    assert found.layout == "coco"
    assert set(found.split_names) == splits
    assert {found.class_names[k] for entry in found.split("train").entries for k in entry.labels} == {"cat"}
    assert len(found) == 3


@pytest.mark.parametrize("name", ["captions_train.json", "person_keypoints_val.json", "panoptic_train.json"])
def test_other_annotations_of_coco_are_no_tags(tmp_path, name):
    root = one_file(tmp_path, f"annotations/{name}", "images")
    assert read_catalogue(DataConfig(root=str(root))).layout == "folders"


@pytest.mark.parametrize(("written", "found"), [("7.5", "7.5"), ("NaN", "nan"), ('"7"', "'7'")])
def test_an_id_that_is_none_is_told_as_it_stands(tmp_path, written, found):
    root = one_file(tmp_path, "annotations/instances_train.json", "images")
    file = root / "annotations/instances_train.json"
    file.write_text(file.read_text().replace('{"id": 0,', f'{{"id": {written},'))
    message = rf"images\[0\] has {found} for 'id'; expected an integer"
    with pytest.raises(DataError, match=message):
        read_catalogue(DataConfig(root=str(root)))


def tool(root, kind, height, width, exif=None):
    """An image that a tool gives this size; it has 6 x 9 pixels as it is stored."""
    outline = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]], "iscrowd": 0}
    photograph = encode(photo(0), "JPEG", **({} if exif is None else {"exif": exif}))
    write(root / ("a.jpg" if kind == "labelme" else "images/a.jpg"), photograph)
    if kind == "coco":
        images = [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}]
        table = {"images": images, "annotations": [outline], "categories": [{"id": 1, "name": "cat"}]}
        write(root / "annotations/instances_train.json", json.dumps(table))
    elif kind == "labelme":
        shape = {"label": "cat", "shape_type": "polygon", "points": [[0, 0], [4, 0], [4, 4]]}
        size = {"imageHeight": height, "imageWidth": width}
        write(root / "a.json", json.dumps({"shapes": [shape], "imagePath": "a.jpg", "flags": {}, **size}))
    else:
        size = {"original_height": height, "original_width": width}
        value = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["cat"]}
        tasks = [
            {
                "data": {"image": "a.jpg"},
                "annotations": [{"result": [{"type": "polygonlabels", **size, "value": value}]}],
            }
        ]
        write(root / "project.json", json.dumps(tasks))


@pytest.mark.parametrize("kind", ["coco", "labelme", "label-studio"])
@pytest.mark.parametrize(
    ("orientation", "height", "width", "told"),
    [
        (1, 6, 9, None),
        (1, 12, 18, None),  # in exact proportion
        (6, 9, 6, None),
        (6, 6, 9, "9 x 6 pixels, its size before its EXIF data turn it; the photograph has 6 x 9"),
        (1, 9, 6, "6 x 9 pixels, its size before its EXIF data turn it; the photograph has 9 x 6"),
        (1, 640, 640, "640 x 640 pixels; the photograph has 9 x 6"),
        (1, 6, 8, "8 x 6 pixels; the photograph has 9 x 6"),
    ],
)
def test_check_compares_sizes_with_those_of_the_photographs(call, tmp_path, kind, orientation, height, width, told):
    exif = Image.Exif()
    exif[0x112] = orientation
    tool(tmp_path / "set", kind, height, width, exif.tobytes())
    answer = call("check", "set", cwd=tmp_path)
    assert answer.code == (0 if told is None else 7), answer.err
    assert ("of another size in" in answer.err) == (told is not None)
    assert told is None or told in answer.err


@pytest.mark.parametrize(
    "content",
    ['{"info": "photographs of 2024"}', '{"images": 3, "licenses": []}', '["cat", "dog"]', '[{"id": 1}]', "{", ""],
)
def test_other_json_beside_folders_of_classes_is_no_layout(tmp_path, content):
    for name in ("cat", "dog"):
        write(tmp_path / f"{name}/1.png", encode(photo(len(name))))
        write(tmp_path / f"{name}/2.png", encode(photo(len(name) + 9)))
    write(tmp_path / "dataset-info.json", content)
    assert read_catalogue(DataConfig(root=str(tmp_path))).layout == "folders"
