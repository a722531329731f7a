"""Lists of lines `path tag`: what they may hold, and what is not silently treated as a tag."""

from pathlib import Path

import pytest
from image_sets import encode, photo, write

from mcis_cli.data.layouts.listing import Found
from mcis_cli.data.layouts.tag_lists import read_tag_list


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
