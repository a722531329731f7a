"""What `mcis check` reports about files that nothing reads."""

import os
from pathlib import Path

from image_sets import encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.check import check
from mcis_cli.data.layouts.left_out import left_out
from mcis_cli.data.reading import read_listing


def told(root: Path, **settings: str) -> dict[str, tuple[str, ...]]:
    """Names by kind."""
    config = DataConfig(root=str(root), **settings)
    return {finding.code: finding.ids for finding in left_out(config, read_listing(config))}


def test_a_plain_set_has_nothing_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    write(root / "README", "")
    write(root / "notes.txt", "")
    write(root / ".DS_Store", "")
    write(root / ".hidden/x.jpg", "")
    write(root / "Annotations/a1.xml", "<annotation/>")
    write(root / "SegmentationObject/a1.png", "")
    assert told(root) == {}


def test_each_kind_is_told_once_with_its_names(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    for name in ("x.heic", "y.CR2", "z.avif"):
        write(root / f"JPEGImages/{name}", "")
    write(root / "JPEGImages/IMG_0001", encode(photo(0)))
    (root / "JPEGImages/gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "JPEGImages/pipe.jpg")
    write(root / "stray.jpg", encode(photo(0)))
    write(root / "JPEGImages/below/w.png", encode(photo(0)))
    assert told(root) == {
        "dangling-link": ("JPEGImages/gone.jpg",),
        "no-file": ("JPEGImages/pipe.jpg",),
        "other-format": ("JPEGImages/x.heic", "JPEGImages/y.CR2", "JPEGImages/z.avif"),
        "stray-photo": ("JPEGImages/below/w.png", "stray.jpg"),
        "without-extension": ("JPEGImages/IMG_0001",),
    }
    findings = {finding.code: finding for finding in check(DataConfig(root=str(root)))}
    assert findings["other-format"].severity == "warning"
    assert findings["other-format"].message == (
        "left out: 3 files ('JPEGImages/x.heic', 'JPEGImages/y.CR2', 'JPEGImages/z.avif') of a format that is not "
        "read; save them as JPEG or PNG"
    )


def test_photographs_beside_a_table_and_beside_the_folders_of_classes_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"table/{name}.png", encode(photo(0)))
    write(tmp_path / "table/tags.csv", "image,tags\na.png,cat\nb.png,dog\n")
    write(tmp_path / "table/masks/a.png", encode(photo(0)[:, :, 0]))
    assert told(tmp_path / "table") == {"stray-photo": ("c.png",)}
    for name in ("cat/1", "dog/2", "3", "cat/nested/4"):
        write(tmp_path / f"folders/{name}.png", encode(photo(0)))
    assert told(tmp_path / "folders") == {"stray-photo": ("3.png", "cat/nested/4.png")}


def test_folders_that_the_settings_name_are_not_looked_into(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "set")
    write(root / "truth/a1.png", encode(photo(0)[:, :, 0]))
    write(root / "truth/unused.png", encode(photo(0)[:, :, 0]))
    assert told(root, masks="truth") == {}
    assert told(root) == {"stray-photo": ("truth/a1.png", "truth/unused.png")}
