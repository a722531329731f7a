"""Lists of lines `path tag`: what they may hold, and what is not silently treated as a tag."""

import re
from pathlib import Path

import pytest
from image_sets import encode, photo, write

from mcis_cli.config import DataConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.layouts.listing import Found
from mcis_cli.data.layouts.tag_lists import read_tag_list
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError


def read(root: Path, text: str, list_tags: str = "one") -> Found:
    for seed, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png")):
        write(root / name, encode(photo(seed)))
    return read_tag_list(write(root / "list.txt", text), list_tags)  # type: ignore[arg-type]


def faults(found: Found) -> dict[str, str]:
    assert all(finding.severity == "error" for finding in found.findings)
    return {finding.code: finding.message for finding in found.findings}


def test_paths_are_relative_to_the_list_and_ids_have_no_extension(tmp_path: Path) -> None:
    found = read(tmp_path, "cat/1.png cat\n./dog/1.png dog\n\ncat/2 cat\r\n")
    assert found.images == {"cat/1": "cat/1.png", "dog/1": "dog/1.png", "cat/2": "cat/2.png"}
    assert found.tags == {"cat/1": {"cat"}, "dog/1": {"dog"}, "cat/2": {"cat"}}
    assert not found.findings


def test_an_image_may_have_several_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "cat/1.png cat\ncat/1.png dog\n").tags == {"cat/1": {"cat", "dog"}}


def test_a_further_column_is_no_tag_unless_that_is_said(tmp_path: Path) -> None:
    lines = "cat/1.png cat cat\ncat/2.png dog cat\n"
    assert (
        "line 1: 2 tags ('cat' 'cat'); expected one; --list-tags first" in faults(read(tmp_path, lines))["several-tags"]
    )
    assert read(tmp_path, lines, "first").tags == {"cat/1": {"cat"}, "cat/2": {"dog"}}
    assert read(tmp_path, lines, "all").tags == {"cat/1": {"cat"}, "cat/2": {"cat", "dog"}}


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("cat/9.png cat", "missing-image", "list.txt line 1: no image 'cat/9.png' in"),
        ("../cat/1.png cat", "bad-id", "leaves its folder"),
        ("cat/1.png", "no-tag", "no tag after 'cat/1.png'; expected `path tag`"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, line: str, code: str, message: str) -> None:
    found = read(tmp_path, f"{line}\ncat/2.png cat\n")
    assert message in faults(found)[code]
    assert set(found.images) >= {"cat/2"}


def test_two_files_that_differ_by_extension_are_a_fault(tmp_path: Path) -> None:
    write(tmp_path / "cat/1.jpg", encode(photo(5), "JPEG"))
    assert "by extension only" in faults(read(tmp_path, "cat/1.png cat\ncat/1.jpg cat\n"))["same-id"]


def read_target(root: Path, text: str, **settings: object) -> Catalogue:
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/3 of 4.jpg")):
        write(root / name, encode(photo(seed), "JPEG" if name.endswith("jpg") else "PNG"))
    return read_catalogue(DataConfig(root=str(write(root / "list.txt", text)), **settings))  # type: ignore[arg-type]


def tags_of(images: Catalogue) -> dict[str, set[str]]:
    return {entry.id: {images.class_names[label] for label in entry.labels} for entry in images.entries}


def test_the_target_may_be_a_list_with_several_tags_on_a_line(tmp_path: Path) -> None:
    images = read_target(tmp_path, "a/1.png cat\nb/3 of 4.jpg cat dog\na/2.png\n")
    assert (images.layout, images.root) == ("list", tmp_path)
    assert tags_of(images) == {"a/1": {"cat"}, "a/2": set(), "b/3 of 4": {"cat", "dog"}}
    assert images["a/2"].is_negative, "a line without a tag"
    assert images.split_names == ("train",)


@pytest.mark.parametrize(
    "line", ["a/1.png potted plant, cat", "a/1.png\tpotted plant; cat", "a/1.png,potted plant,cat"]
)
def test_tags_of_two_words_are_separated_by_commas(tmp_path: Path, line: str) -> None:
    assert tags_of(read_target(tmp_path, f"{line}\na/2.png cat\n")) == {"a/1": {"potted plant", "cat"}, "a/2": {"cat"}}


def test_an_absolute_path_names_an_image_anywhere(tmp_path: Path) -> None:
    other = write(tmp_path / "elsewhere/x.png", encode(photo(9)))
    images = read_target(tmp_path / "lists", f"{other} cat\na/1.png dog\n")
    image_id = str(other.with_suffix("")).removeprefix("/")
    assert images.ids == tuple(sorted((image_id, "a/1")))
    assert images.read_image(image_id).tolist() == photo(9).tolist()


def test_tags_may_be_in_a_table_or_in_lines_by_id(tmp_path: Path) -> None:
    paths = "a/1.png\nb/3 of 4.jpg\n"
    write(tmp_path / "tags.csv", "image,tags,split\na/1.png,cat,train\na/2.png,dog,val\nb/3 of 4.jpg,cat;dog,val\n")
    images = read_target(tmp_path, paths, tags="tags.csv")
    assert tags_of(images) == {"a/1": {"cat"}, "b/3 of 4": {"cat", "dog"}}
    assert images.split("val").ids == ("b/3 of 4",), "of the listed images"
    write(tmp_path / "by_id.txt", "a/1 dog\na/2 cat\n")
    images = read_target(tmp_path, paths, tags="by_id.txt")
    assert tags_of(images) == {"a/1": {"dog"}, "b/3 of 4": set()}
    assert not images["b/3 of 4"].is_labelled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no images in"),
        ("a/1.png\na/2.png\n", "no class names in the tags of"),
        ("a/1.png cat\na/9.png cat\n", "list.txt line 2: no image 'a/9.png' in"),
        ("../a/1.png cat\n", "leaves its folder"),
        ("/../a/1.png cat\n", "leaves its folder"),
        ("a/1.png cat\na/1.bmp cat\n", "no image 'a/1.bmp'"),
    ],
)
def test_a_faulty_list_of_the_target_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_target(tmp_path, text)
    assert "\n" not in str(error.value)


def test_the_layout_list_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no file; expected a list of images"):
        read_catalogue(DataConfig(root=str(tmp_path), layout="list"))


def test_the_list_of_a_set_is_the_set_itself(tmp_path: Path) -> None:
    """Ids, digests and tags are those of the folder, so every artifact is, too."""
    images = read_target(tmp_path, "a/1.png cat\na/2.png dog\nb/3 of 4.jpg cat dog\n")
    table = write(tmp_path / "tags.csv", "image,tags\na/1.png,cat\na/2.png,dog\nb/3 of 4.jpg,cat;dog\n")
    assert images.id == read_catalogue(DataConfig(root=str(table))).id
