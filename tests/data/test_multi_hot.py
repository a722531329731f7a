"""Tags as an array of 0 and 1 with a list of images beside it."""

import numpy as np
import pytest
from image_sets import encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue, read_listing
from mcis_cli.errors import DataError

TAGS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])


@pytest.fixture
def root(tmp_path):
    """Three images in a folder, an array, and its list in another order than the alphabet's."""
    np.save(tmp_path / "labels.npy", TAGS.astype(np.float32))
    write(tmp_path / "labels.txt", "images/b.png\nimages/a\nimages/c.png\n")
    write(tmp_path / "classes.txt", "dog\ncat\nbird\n")
    for seed, name in enumerate("abc"):
        write(tmp_path / f"images/{name}.png", encode(photo(seed)))
    return tmp_path


@pytest.mark.parametrize("named", [{}, {"tags": "labels.npy"}, {"layout": "table"}])
def test_rows_are_images_and_columns_the_classes(root, named):
    found = read_catalogue(DataConfig(root=str(root), **named))
    assert found.layout == "table"
    assert found.class_names == ("dog", "cat", "bird")
    assert {entry.id: entry.labels for entry in found.entries} == {
        "images/a": (),
        "images/b": (0, 2),
        "images/c": (1,),
    }


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", ">f8"])
def test_any_plain_numbers_will_do(root, dtype):
    np.save(root / "labels.npy", TAGS.astype(dtype))
    assert read_listing(DataConfig(root=str(root / "labels.npy"))).items[1].tags == {"dog", "bird"}


def test_a_folder_of_voc_takes_it_as_its_tags(tmp_path):
    write_voc(tmp_path)
    write(tmp_path / "hot.txt", "a1.png\nb2\n")
    np.save(tmp_path / "hot.npy", np.array([[1, 0], [1, 1]], bool))
    config = DataConfig(root=str(tmp_path), tags="hot.npy", classes=("cat", "dog"))
    tags = {item.id: item.tags for item in read_listing(config).items}
    assert tags["a1"] == {"cat"}
    assert tags["b2"] == {"cat", "dog"}
    assert tags["a2"] == set()


def test_a_class_of_the_list_may_be_the_background_which_has_no_column(root):
    write(root / "classes.txt", "background\ndog\ncat\nbird\n")
    assert read_listing(DataConfig(root=str(root))).class_names == ("dog", "cat", "bird")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (TAGS[:2], r"labels\.npy: an array of the shape \(2, 3\); expected \(3, 3\)"),
        (TAGS[:, :2], r"shape \(3, 2\); expected \(3, 3\)"),
        (TAGS[0], r"shape \(3,\)"),
        (TAGS * 2, r"labels\.npy: 2 for image 'images/b\.png' and class 'dog'; expected 0 or 1"),
        (np.where(TAGS, np.nan, 0.0), "nan for image"),
        (np.array([{"a": 1}], dtype=object), "values of dtype"),
    ],
)
def test_what_does_not_fit_is_one_line(root, array, message):
    np.save(root / "labels.npy", array)
    with pytest.raises(DataError, match=message):
        read_catalogue(DataConfig(root=str(root)))


def test_what_is_missing_beside_it_is_told(root):
    (root / "images/c.png").unlink()
    with pytest.raises(DataError, match=r"labels\.txt: no image 'images/c\.png'"):
        read_catalogue(DataConfig(root=str(root)))
    write(root / "labels.txt", "../a\nimages/a\nimages/b\n")
    with pytest.raises(DataError, match="leaves its folder"):
        read_catalogue(DataConfig(root=str(root)))
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"no names for its columns; expected classes\.txt"):
        read_catalogue(DataConfig(root=str(root)))
    (root / "labels.txt").unlink()
    with pytest.raises(DataError, match=r"no list of images beside it; expected labels\.txt"):
        read_catalogue(DataConfig(root=str(root), tags="labels.npy"))


def test_of_two_arrays_one_has_to_be_chosen(root):
    np.save(root / "other.npy", TAGS)
    write(root / "other.txt", "images/a\n")
    with pytest.raises(DataError, match=r"2 arrays of tags in .* \('labels\.npy', 'other\.npy'\); expected one"):
        read_catalogue(DataConfig(root=str(root)))
