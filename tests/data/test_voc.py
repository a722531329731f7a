from pathlib import Path

import pytest
from image_sets import SPLITS, TAGS, encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.listing import Found
from mcis_cli.data.layouts.voc import read_annotation, read_tag_file, read_voc
from mcis_cli.errors import DataError

ANNOTATION = """<annotation><filename>a1.jpg</filename>
  <object><name>cat</name><difficult>1</difficult><part><name>head</name></part></object>
  <object><name> dog </name></object><object><name>cat</name></object>
</annotation>"""


def read(root: Path, **settings: str) -> Found:
    return read_voc(DataConfig(root=str(root), **settings), root)  # type: ignore[arg-type]


def test_images_tags_and_splits_are_found(tmp_path: Path) -> None:
    found = read(write_voc(tmp_path))
    assert found.images == {image_id: f"JPEGImages/{image_id}.png" for image_id in TAGS}
    assert found.tags == {image_id: frozenset(tags.split()) for image_id, tags in TAGS.items()}
    assert found.splits == {name: frozenset(ids) for name, ids in SPLITS.items()}
    assert found.tag_source == str(tmp_path / "image_tags.txt")
    assert found.findings == ()


def test_tags_come_from_the_file_that_is_named(tmp_path: Path) -> None:
    write(write_voc(tmp_path) / "mine.txt", "a1.png bird\r\na1 cat\r\n\r\na2\r\n")
    assert read(tmp_path, tags="mine.txt").tags == {"a1": {"bird", "cat"}, "a2": frozenset()}
    with pytest.raises(DataError, match=r"cannot read .*gone\.txt"):
        read(tmp_path, tags="gone.txt")


def test_an_id_that_ends_like_a_file_is_kept_where_there_is_such_an_image(tmp_path: Path) -> None:
    file = write(tmp_path / "tags.txt", "a.jpg cat\nb.jpg dog\nc.d dog\n")
    assert read_tag_file(file, {"a.jpg": "a.jpg.png"})[0].keys() == {"a.jpg", "b", "c.d"}


def test_without_a_tag_file_tags_come_from_annotations(tmp_path: Path) -> None:
    (write_voc(tmp_path) / "image_tags.txt").unlink()
    assert read(tmp_path).tag_source is None
    write(tmp_path / "Annotations/a1.xml", ANNOTATION)
    write(tmp_path / "Annotations/elsewhere.xml", "not read: there is no such image")
    write(tmp_path / "Annotations/a2.xml", "<annotation>")
    found = read(tmp_path)
    assert found.tags == {"a1": {"cat", "dog"}}
    assert [(finding.code, finding.ids) for finding in found.findings] == [("bad-annotation", ("a2",))]


def test_difficult_objects_count_and_parts_do_not() -> None:
    assert read_annotation(ANNOTATION.encode(), "a1.xml") == {"tags": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"<annotation>", r"a1\.xml: not well-formed XML \("),
        (b"", r"a1\.xml: not well-formed XML \("),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "not well-formed XML"),
        (b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", r"a1\.xml: XML with a DOCTYPE; expected none"),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "XML with a DOCTYPE"),
        (b"<a>" + b" " * (4 << 20) + b"</a>", "4,194,311 bytes of XML; expected at most 4,194,304"),
    ],
)
def test_annotations_that_cannot_be_trusted_are_refused(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_annotation(content, "a1.xml")


def test_main_serves_where_there_are_no_lists_of_segmentation(tmp_path: Path) -> None:
    for file in (write_voc(tmp_path) / "ImageSets/Segmentation").iterdir():
        file.unlink()
    assert read(tmp_path).splits == {}
    write(tmp_path / "ImageSets/Main/train.txt", "a1\na2\n")
    write(tmp_path / "ImageSets/Main/cat_train.txt", "a1  1\na2 -1\n")
    assert read(tmp_path).splits == {"train": {"a1", "a2"}}


def test_lists_of_paths_and_ids_with_spaces_are_understood(tmp_path: Path) -> None:
    write(write_voc(tmp_path) / "JPEGImages/my cat.jpg", encode(photo(9), "JPEG"))
    write(tmp_path / "ImageSets/Segmentation/aug.txt", "/JPEGImages/a1.jpg /SegmentationClass/a1.png\n")
    write(tmp_path / "ImageSets/Segmentation/spaces.txt", "my cat\n")
    splits = read(tmp_path).splits
    assert splits["aug"] == {"a1"}
    assert splits["spaces"] == {"my cat"}


def write_class_lists(root):
    """A set whose tags are in the lists of ImageSets/Main alone."""
    write_voc(root)
    (root / "image_tags.txt").unlink()
    for name in ("train", "val"):
        (root / f"ImageSets/Segmentation/{name}.txt").unlink()
    write(root / "ImageSets/Main/dining_table_train.txt", "a1  1\na2 -1\na3  0\n")
    write(root / "ImageSets/Main/cat_train.txt", "a1 -1\na2  1\na3 -1\n")
    write(root / "ImageSets/Main/cat_val.txt", "b1  1\nb2 -1\n")
    write(root / "ImageSets/Main/dog_val.txt", "b1 -1\nb2 -1\n")


def test_lists_of_classes_give_tags_splits_and_classes(tmp_path):
    write_class_lists(tmp_path)
    found = read_voc(DataConfig(root=str(tmp_path)), tmp_path)
    assert found.class_order == ("cat", "dining_table", "dog")
    assert found.tags == {
        "a1": {"dining_table"},
        "a2": {"cat"},
        "a3": {"dining_table"},  # all of them difficult
        "b1": {"cat"},
        "b2": set(),
    }
    assert found.splits == {"train": {"a1", "a2", "a3"}, "val": {"b1", "b2"}}


def test_plain_lists_go_before_those_of_classes(tmp_path):
    write_class_lists(tmp_path)
    write(tmp_path / "ImageSets/Main/train.txt", "a1\n")
    assert read_voc(DataConfig(root=str(tmp_path)), tmp_path).splits == {"train": {"a1"}}


def test_annotations_go_before_lists_of_classes(tmp_path):
    write_class_lists(tmp_path)
    write(tmp_path / "Annotations/a1.xml", "<annotation><object><name>fox</name></object></annotation>")
    found = read_voc(DataConfig(root=str(tmp_path)), tmp_path)
    assert found.tags == {"a1": {"fox"}}
    assert found.class_order is None
