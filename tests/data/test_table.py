from pathlib import Path

import pytest
from image_sets import write

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.listing import Found
from mcis_cli.data.layouts.table import find_table, read_table
from mcis_cli.errors import DataError


def read(root: Path, text: str | bytes, name: str = "tags.csv", images: str = "a.jpg b.jpg") -> Found:
    for image in images.split():
        write(root / image, b"")
    return read_table(write(root / name, text), root)


def test_one_column_of_tags(tmp_path: Path) -> None:
    found = read(tmp_path, "image,tags\na.jpg,cat;dog\nb.jpg,\n")
    assert found.images == {"a": "a.jpg", "b": "b.jpg"}
    assert found.tags == {"a": {"cat", "dog"}, "b": frozenset()}
    assert found.splits == {}
    assert found.class_order is None
    assert found.findings == ()


@pytest.mark.parametrize("header", ["image,tags", "File,Labels", "PATH, label", "filename,tag"])
def test_columns_are_known_by_several_names(tmp_path: Path, header: str) -> None:
    assert read(tmp_path, f"{header}\na.jpg,cat\n").tags == {"a": {"cat"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tags.csv", b"\xef\xbb\xbfimage,tags\r\na.jpg,cat;dog\r\n\r\n"),
        ("tags.csv", b'image,tags\n"a.jpg","cat, dog"\n'),
        ("tags.csv", b'image;tags\na.jpg;"cat;dog"\n'),
        ("tags.csv", b"image,tags\n./a.jpg, cat | dog \n"),
        ("tags.csv", b"image,tags\na.jpg,cat\na.jpg,dog\n"),
        ("tags.csv", b"image,tags\na,cat;dog\n"),
        ("tags.tsv", b"image\ttags\na.jpg\tcat;dog\n"),
        ("TAGS.TSV", b"image\ttags\ra.jpg\tcat,dog\r"),
    ],
)
def test_tables_as_other_programs_write_them(tmp_path: Path, name: str, text: bytes) -> None:
    found = read(tmp_path, text, name)
    assert found.findings == ()
    assert found.images == {"a": "a.jpg"}
    assert found.tags == {"a": {"cat", "dog"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tags.csv", "a.jpg,cat;dog\nb.jpg,\n"),
        ("tags.csv", "./a.jpg;cat|dog\nb.jpg;\n"),
        ("tags.tsv", "a\tcat|dog\nb\t\n"),
    ],
)
def test_two_columns_need_no_header(tmp_path: Path, name: str, text: str) -> None:
    found = read(tmp_path, text, name)
    assert found.tags == {"a": {"cat", "dog"}, "b": frozenset()}
    assert found.findings == ()


def test_a_header_is_one_though_an_image_is_called_like_its_column(tmp_path: Path) -> None:
    found = read(tmp_path, "image,tags\na,cat\nimage,dog\n", images="a.jpg image.jpg")
    assert found.tags == {"a": {"cat"}, "image": {"dog"}}


def test_one_column_a_class_orders_the_classes(tmp_path: Path) -> None:
    found = read(tmp_path, "image,dog,cat,split\na.jpg,1,0,train\nb.jpg,1.0,TRUE,val;small\n")
    assert found.tags == {"a": {"dog"}, "b": {"cat", "dog"}}
    assert found.class_order == ("dog", "cat")
    assert found.splits == {"train": {"a"}, "val": {"b"}, "small": {"b"}}


def test_paths_in_folders_keep_them_in_the_id(tmp_path: Path) -> None:
    found = read(tmp_path, "image,tags\nx/a.jpg,cat\nx\\b.jpg,dog\n", images="x/a.jpg x/b.jpg")
    assert found.images == {"x/a": "x/a.jpg", "x/b": "x/b.jpg"}


@pytest.mark.parametrize(
    ("row", "code", "match"),
    [
        ("gone.jpg,cat", "missing-image", "tags.csv line 3: no image 'gone.jpg' in "),
        ("gone,cat", "missing-image", "line 3: no image 'gone'"),
        ("../a.jpg,cat", "bad-id", "line 3: the image id '../a' leaves its folder"),
        ("/a.jpg,cat", "bad-id", "leaves its folder"),
        (",cat", "bad-id", "line 3: an empty image id"),
        ("b.jpg", "bad-row", "line 3: 1 cell; expected 2, as in the header"),
        ("b.jpg,cat,dog", "bad-row", "line 3: 3 cells; expected 2"),
        ("a.png,cat", "same-id", "line 3: two files for 'a'"),
    ],
)
def test_a_bad_row_is_a_finding_that_names_its_line(tmp_path: Path, row: str, code: str, match: str) -> None:
    found = read(tmp_path, f"image,tags\na.jpg,cat\n{row}\n", images="a.jpg a.png b.jpg")
    (finding,) = found.findings
    assert (finding.severity, finding.code) == ("error", code)
    assert match in finding.message


@pytest.mark.parametrize(
    ("path", "there", "alike"),
    [
        ("001.jpg", "images/001.jpg", True),
        ("photos/001.jpg", "images/001.jpg", True),
        ("images/IMG_1.jpg", "images/img_1.JPG", True),
        ("images/001.jpg", "images/001.png", True),
        ("images/001.jpg", "images/0011.jpg", False),
        ("001.jpg", "saliency/001.png", False),
        ("001.jpg", "images/001.txt", False),
    ],
)
def test_a_path_that_leads_nowhere_names_the_image_that_may_be_meant(
    tmp_path: Path, path: str, there: str, alike: bool
) -> None:
    (finding,) = read(tmp_path, f"image,tags\n{path},cat\n", images=there).findings
    told = f"found {there!r} there; write paths as seen from the folder" if alike else "add it or drop the row"
    assert finding.message.endswith(f"line 2: no image {path!r} in {tmp_path}; {told}")


@pytest.mark.parametrize("row", ["cat,a.jpg", "a.jpg,cat,train"])
def test_a_first_row_that_is_no_header_is_told_so(tmp_path: Path, row: str) -> None:
    found = ", ".join(map(repr, row.split(",")))
    with pytest.raises(
        DataError, match=rf"tags\.csv: no header above the first row \({found}\); write one: image over"
    ):
        read(tmp_path, f"{row}\n", images="a.jpg")


def test_bad_rows_are_gathered_by_kind(tmp_path: Path) -> None:
    found = read(tmp_path, "image,tags\nx.jpg,cat\ny.jpg,cat\nz.jpg,cat\na.jpg,cat\n")
    (finding,) = found.findings
    assert finding.ids == ("x", "y", "z")
    assert finding.message.endswith("(and 2 more)")


def test_a_cell_that_is_neither_0_nor_1_is_a_finding(tmp_path: Path) -> None:
    (finding,) = read(tmp_path, "image,cat,width\na.jpg,1,640\n").findings
    assert finding.code == "bad-cell"
    assert "line 2: '640' in column 'width'; expected 0 or 1" in finding.message


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"tags\.csv: an empty table"),
        ("name,tags\na,b\n", r"tags\.csv: no column of images; found 'name', 'tags'; name one of them image, file"),
        ("image,split\na,b\n", r"tags\.csv: no column of tags; found 'image', 'split'"),
        ("image,cat,Cat\n", r"tags\.csv: two columns named 'cat'"),
        ('image,tags\n"a.jpg,cat\n', r"tags\.csv line 3: no row of a table \(unexpected end of data\)"),
        (b"image,tags\n\xff", r"tags\.csv: not UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str | bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(tmp_path, text)


def test_the_table_is_the_root_or_named_or_the_only_one(tmp_path: Path) -> None:
    assert find_table(DataConfig(), tmp_path) is None
    first = write(tmp_path / "one.csv", "")
    assert find_table(DataConfig(), tmp_path) == first
    second = write(tmp_path / "two.TSV", "")
    assert find_table(DataConfig(tags="two.TSV"), tmp_path) == second
    assert find_table(DataConfig(tags="tags.txt"), tmp_path) is None
    assert find_table(DataConfig(), first) == first
    with pytest.raises(DataError, match=r"2 tables in .* \('one\.csv', 'two\.TSV'\); .* --set data\.tags=NAME"):
        find_table(DataConfig(), tmp_path)
