from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_sets import encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import id_fault
from mcis_cli.data.layouts.assembling import assemble
from mcis_cli.data.layouts.listing import Found, Listing, index_files, read_lines, read_text
from mcis_cli.errors import DataError

PNG = frozenset({".png"})


def listing(root: Path, tags: dict[str, set[str]] | None = None, **settings: object) -> Listing:
    """A set of one image `x` with the tag `cat`, or as given."""
    write(root / "x.png", encode(photo(0)))
    given_tags = {name: frozenset(names) for name, names in (tags or {"x": {"cat"}}).items()}
    found = Found(images={"x": "x.png"}, tags=given_tags, tag_source="TAGS")
    return assemble(DataConfig(root=str(root), **settings), root, "voc", found)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "2007_000032", "train/cat/IMG 01", "ünï", "a.b", "..a"])
def test_plain_relative_paths_are_ids(name: str) -> None:
    assert id_fault(name) is None


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "an empty image id"),
        ("x" * 201, "an image id of 201 characters, expected at most 200"),
        ("/etc/passwd", "leaves its folder"),
        ("../a", "leaves its folder"),
        ("a/../b", "leaves its folder"),
        ("a//b", "leaves its folder"),
        ("./a", "leaves its folder"),
        ("a\0b", "no text"),
        ("a\nb", "no text"),
        ("a\x1b[31m", "no text"),
        ("a\udcff", "no text"),
    ],
)
def test_ids_that_could_leave_the_folder_or_break_a_line_are_refused(name: str, match: str) -> None:
    fault = id_fault(name)
    assert fault is not None
    assert match in fault
    assert fault.isprintable()


@given(st.text(max_size=30))
def test_an_accepted_id_stays_below_its_folder(name: str) -> None:
    if id_fault(name) is None:
        base = Path("/base")
        assert (base / name).is_relative_to(base)
        assert ".." not in (base / name).parts
        assert "\n" not in name


def test_files_are_indexed_by_path_without_extension(tmp_path: Path) -> None:
    for name in ("s/b/x.png", "s/a.PNG", "s/.hidden.png", "s/a.txt", "s/.git/x.png"):
        write(tmp_path / name, b"")
    assert index_files(tmp_path / "s", tmp_path, PNG) == ({"a": "s/a.PNG", "b/x": "s/b/x.png"}, ())
    assert index_files(tmp_path / "s", tmp_path, PNG, recursive=False) == ({"a": "s/a.PNG"}, ())


def test_files_outside_the_root_keep_their_whole_path(tmp_path: Path) -> None:
    write(tmp_path / "other/a.png", b"")
    paths, _ = index_files(tmp_path / "other", tmp_path / "root", PNG)
    assert paths == {"a": f"{tmp_path.as_posix()}/other/a.png"}


def test_two_files_with_one_id_and_ids_that_are_no_text_are_findings(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b\n.png"):
        write(tmp_path / name, b"")
    paths, findings = index_files(tmp_path, tmp_path, PNG | {".jpg"})
    assert paths == {"a": "a.jpg"}
    assert [(finding.severity, finding.code) for finding in findings] == [("error", "same-id"), ("error", "bad-id")]
    assert "two files for 'a'" in findings[0].message


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="folders nested too deeply, or a link to a folder above"):
        index_files(tmp_path, tmp_path, PNG)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the folder .*gone: No such file"):
        index_files(tmp_path / "gone", tmp_path, PNG)


def test_text_is_read_without_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    file = write(tmp_path / "list.txt", b"\xef\xbb\xbfa\r\n\r\n b \rc")
    assert read_text(file) == "a\n\n b \nc"
    assert read_lines(file) == ["a", "b", "c"]


def test_text_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.txt: No such file"):
        read_lines(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"list\.txt: not UTF-8 text \(byte 1\)"):
        read_lines(write(tmp_path / "list.txt", b"a\xff"))


def test_classes_come_from_the_settings_then_the_file_then_the_tags(tmp_path: Path) -> None:
    assert listing(tmp_path, {"x": {"dog", "cat"}}).class_names == ("cat", "dog")
    write(tmp_path / "classes.txt", "background\r\ndog\r\ncat\r\n")
    assert listing(tmp_path).class_names == ("dog", "cat")
    assert listing(tmp_path, classes=("fox", "cat")).class_names == ("fox", "cat")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("background",), "no class names in the setting data.classes"),
        (("cat", "cat"), "the class 'cat' is named twice"),
        (("cat", "background"), "'background' is among the classes"),
        (("cat", "a\nb"), r"the class name 'a\\nb' in .* is no plain text"),
        (("cat", " "), r"the class name ' ' in .* is no plain text"),
        (tuple(map(str, range(255))), "255 classes in .*; expected at most 254"),
    ],
)
def test_impossible_classes_are_refused(tmp_path: Path, names: tuple[str, ...], match: str) -> None:
    with pytest.raises(DataError, match=match):
        listing(tmp_path, classes=names)


def test_unknown_tags_are_gathered_by_tag(tmp_path: Path) -> None:
    findings = listing(tmp_path, {"x": {"cat", "fox"}, "y": {"fox"}}, classes=("cat",)).findings
    assert [finding.code for finding in findings] == ["unknown-tag", "tags-without-image"]
    assert findings[0].message.startswith("unknown tag 'fox' of image 'x' in TAGS; expected one of: cat")
    assert findings[0].ids == ("x", "y")
    assert (findings[1].severity, findings[1].ids) == ("warning", ("y",))


def test_without_splits_everything_is_train(tmp_path: Path) -> None:
    result = listing(tmp_path)
    assert result.items[0].splits == {"train"}
    assert result.missing == {"train": ()}


def test_masks_and_saliency_are_found_where_the_settings_say(tmp_path: Path) -> None:
    write(tmp_path / "gt/x.png", b"")
    write(tmp_path / "elsewhere/x.jpg", b"")
    item = listing(tmp_path / "root", masks="../gt", saliency=str(tmp_path / "elsewhere")).items[0]
    assert (tmp_path / "root" / str(item.mask)).samefile(tmp_path / "gt/x.png")
    assert (tmp_path / "root" / str(item.saliency)).samefile(tmp_path / "elsewhere/x.jpg")


@pytest.mark.parametrize("kind", ["masks", "saliency"])
def test_a_folder_of_the_settings_that_is_not_there_is_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=rf"no folder of {kind} at .*gone; correct it with --set data\.{kind}=FOLDER"):
        listing(tmp_path, **{kind: "gone"})


def test_companions_of_no_image_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "masks/x.png", b"")
    write(tmp_path / "masks/y.png", b"")
    result = listing(tmp_path)
    assert result.items[0].mask == "masks/x.png"
    assert [(f.severity, f.code, f.ids) for f in result.findings] == [("warning", "stray-masks", ("y",))]


def test_masks_may_leave_out_the_one_folder_that_all_images_are_in(tmp_path: Path) -> None:
    write(tmp_path / "masks/x.png", b"")
    found = Found(images={"photos/x": "photos/x.jpg"}, tags={"photos/x": frozenset({"cat"})}, tag_source="TAGS")
    assert assemble(DataConfig(), tmp_path, "table", found).items[0].mask == "masks/x.png"


def test_a_set_without_images_is_refused(tmp_path: Path) -> None:
    write_voc(tmp_path)
    with pytest.raises(DataError, match=r"no images in .* \(layout voc\); expected files ending in \.bmp, "):
        assemble(DataConfig(), tmp_path, "voc", Found(images={}, tags={}, tag_source=None))


def test_what_cannot_be_looked_at_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert index_files(tmp_path, tmp_path, frozenset({".jpg"})) == ({}, ())
