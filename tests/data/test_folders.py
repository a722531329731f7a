from pathlib import Path

import pytest
from image_sets import write

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.folders import has_class_folders, read_folders
from mcis_cli.data.layouts.listing import Found
from mcis_cli.errors import DataError


def read(root: Path, files: str, **settings: str) -> Found:
    for name in files.split():
        write(root / name, b"")
    return read_folders(DataConfig(root=str(root), **settings), root)  # type: ignore[arg-type]


def test_the_folder_is_the_tag(tmp_path: Path) -> None:
    found = read(tmp_path, "cat/a.jpg dog/a.jpg dog/b.PNG dog/notes.txt .cache/x.jpg")
    assert found.images == {"cat/a": "cat/a.jpg", "dog/a": "dog/a.jpg", "dog/b": "dog/b.PNG"}
    assert found.tags == {"cat/a": {"cat"}, "dog/a": {"dog"}, "dog/b": {"dog"}}
    assert found.splits == {}


def test_folders_of_splits(tmp_path: Path) -> None:
    found = read(tmp_path, "train/cat/a.jpg val/cat/a.jpg val/dog/b.jpg notes/readme.txt")
    assert found.images.keys() == {"train/cat/a", "val/cat/a", "val/dog/b"}
    assert found.splits == {"train": {"train/cat/a"}, "val": {"val/cat/a", "val/dog/b"}}
    assert found.class_order == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = read(tmp_path, "train/a.jpg bus/b.jpg")
    assert found.tags == {"bus/b": {"bus"}, "train/a": {"train"}}
    assert found.splits == {}


def test_masks_and_saliency_are_no_classes(tmp_path: Path) -> None:
    files = "cat/a.jpg masks/cat/a.png saliency/cat/a.png gt/a.png"
    assert read(tmp_path, files, masks="gt/new").class_order == ("cat",)


def test_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "fox").mkdir()
    assert read(tmp_path, "cat/a.jpg notes/readme.txt").class_order == ("cat",)


def test_folders_within_classes_are_told(tmp_path: Path) -> None:
    (finding,) = read(tmp_path, "cat/a.jpg cat/more/b.jpg").findings
    assert (finding.severity, finding.code, finding.ids) == ("warning", "nested-folders", ("cat/more",))


def test_ids_that_are_too_long_or_doubled_are_findings(tmp_path: Path) -> None:
    findings = read(tmp_path, f"{'c' * 100}/{'a' * 100}.jpg cat/a.jpg cat/a.png").findings
    assert [finding.code for finding in findings] == ["same-id", "bad-id"]


def test_folders_of_images_are_recognised(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", b"")
    write(tmp_path / "masks/a.png", b"")
    write(tmp_path / "docs/a.txt", b"")
    assert not has_class_folders(DataConfig(), tmp_path)
    write(tmp_path / "cat/a.jpg", b"")
    assert has_class_folders(DataConfig(), tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the folder .*gone: No such file"):
        read_folders(DataConfig(), tmp_path / "gone")
