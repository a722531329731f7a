import os
from pathlib import Path

import pytest
from image_sets import HEIGHT, WIDTH, encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache


def read(root: Path, **settings: object) -> Catalogue:
    return read_catalogue(DataConfig(root=str(root), **settings))  # type: ignore[arg-type]


def write_table(root: Path) -> Path:
    for seed, name in enumerate(("a.jpg", "b.png")):
        write(root / "photos" / name, encode(photo(seed), "JPEG" if name.endswith("jpg") else "PNG"))
    return write(root / "set.csv", "image,tags,split\nphotos/a.jpg,cat;dog,train\nphotos/b.png,cat,val\n")


def write_folders(root: Path) -> Path:
    for seed, name in enumerate(("cat/a.jpg", "cat/b.jpg", "dog/a.jpg")):
        write(root / name, encode(photo(seed), "JPEG"))
    return root


def test_the_voc_layout(tmp_path: Path) -> None:
    catalogue = read(write_voc(tmp_path))
    assert catalogue.layout == "voc"
    assert catalogue.split_names == ("train", "val")
    entry = catalogue["c1"]
    assert (entry.image, entry.mask, entry.saliency) == (
        "JPEGImages/c1.png",
        "SegmentationClass/c1.png",
        "saliency/c1.png",
    )
    assert (entry.height, entry.width, entry.labels, entry.splits) == (HEIGHT, WIDTH, (0,), frozenset({"train"}))


@pytest.mark.parametrize("name", ["", "set.csv"])
def test_a_table_is_found_by_itself_or_given(tmp_path: Path, name: str) -> None:
    write_table(tmp_path)
    catalogue = read(tmp_path / name)
    assert (catalogue.layout, catalogue.root) == ("table", tmp_path)
    assert catalogue.ids == ("photos/a", "photos/b")
    assert catalogue.split("train")["photos/a"].labels == (0, 1)
    assert catalogue.read_image("photos/b").shape == (HEIGHT, WIDTH, 3)


def test_a_folder_per_class(tmp_path: Path) -> None:
    catalogue = read(write_folders(tmp_path))
    assert catalogue.layout == "folders"
    assert catalogue.carriers(0) == ("cat/a", "cat/b")
    assert catalogue.split("train").ids == catalogue.ids


def test_the_layout_may_be_given(tmp_path: Path) -> None:
    write_table(write_folders(tmp_path))
    assert read(tmp_path).layout == "table"
    assert read(tmp_path, layout="folders").ids == ("cat/a", "cat/b", "dog/a", "photos/a", "photos/b")


def test_any_number_of_classes(tmp_path: Path) -> None:
    rows = "".join(f"a.png,class{k:03}\n" for k in range(200))
    write(tmp_path / "a.png", encode(photo(0)))
    write(tmp_path / "set.csv", "image,tags\n" + rows)
    assert read(tmp_path).num_classes == 201


def test_a_relative_root_reads_the_same_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_voc(tmp_path / "set")
    write(tmp_path / "other/a1.png", encode(photo(7)[:, :, 0]))
    monkeypatch.chdir(tmp_path)
    catalogue = read(Path("set"), saliency="../other")
    assert catalogue.read_saliency("a1").shape == (HEIGHT, WIDTH)
    assert catalogue.digest("images", "labels", "masks") == read(tmp_path / "set").digest("images", "labels", "masks")


def test_a_cached_reading_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    config = DataConfig(root=str(write_voc(tmp_path)))
    with StatCache(None) as cache:
        assert read_catalogue(config, cache) == read_catalogue(config, cache) == read_catalogue(config)


def test_what_is_no_image_set_tells_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*gone; expected an image set"):
        read(tmp_path / "gone")
    looked_for = r"looked for JPEGImages/ of the VOC layout; an export of Roboflow "
    with pytest.raises(DataError, match=rf"no image set in {tmp_path}; {looked_for}"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"a\.png is a file; expected a folder, a table in \.csv, \.tsv,"):
        read(write(tmp_path / "a.png", encode(photo(0))))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv is a pipe or a device; expected a folder, a table"):
        read(tmp_path / "pipe.csv")


def test_the_folder_one_level_below_is_proposed(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2012")
    with pytest.raises(DataError, match=r"did you mean .*VOC2012\?"):
        read(tmp_path)


@pytest.mark.parametrize(("images", "table"), [("images", "shop/Tags.CSV"), ("JPEGImages", None)])
def test_the_folder_above_photographs_is_proposed(tmp_path: Path, images: str, table: str | None) -> None:
    write(tmp_path / f"shop/{images}/1.png", encode(photo(0)))
    if table:
        write(tmp_path / table, b"")
    with pytest.raises(
        DataError, match=rf"no image set in {tmp_path}/shop/{images}; .* did you mean {tmp_path}/shop\?"
    ):
        read(tmp_path / "shop" / images)


def test_a_layout_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table in .*; expected one \.csv or \.tsv file"):
        read(write_voc(tmp_path), layout="table")
    with pytest.raises(DataError, match=r"set\.csv is a file; expected a folder for the layout voc"):
        read(write_table(tmp_path), layout="voc")


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("JPEGImages/a1.png", b"", r"JPEGImages/a1\.png: an empty file"),
        ("JPEGImages/a1.png", b"no", r"JPEGImages/a1\.png: not a readable image"),
        ("JPEGImages/a1.jpg", b"", "two files for 'a1' in .*JPEGImages"),
        ("image_tags.txt", "a1 cat\na2 fox\n", r"unknown tag 'fox' of image 'a2' in .*image_tags\.txt"),
        ("image_tags.txt", b"\xff", r"image_tags\.txt: not UTF-8 text"),
        ("ImageSets/Segmentation/val.txt", b"\xff", r"val\.txt: not UTF-8 text"),
        ("classes.txt", "cat\ncat\n", r"the class 'cat' is named twice in .*classes\.txt"),
    ],
)
def test_each_fault_is_one_line_that_names_the_file(
    tmp_path: Path, file: str, content: bytes | str, match: str
) -> None:
    write(write_voc(tmp_path) / "classes.txt", "background\nbird\ncat\ndog\n")
    write(tmp_path / file, content)
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_several_faults_are_counted_and_the_command_is_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for name in ("a1", "a2", "a3"):
        write(root / f"JPEGImages/{name}.png", b"")
    with pytest.raises(DataError, match=r"a1\.png: an empty file.* \(and 2 more faults: `mcis check .*` lists them\)"):
        read(root)


def test_lists_with_ids_without_image_are_an_error_only_when_used(tmp_path: Path) -> None:
    write(write_voc(tmp_path) / "ImageSets/Segmentation/official.txt", "a1\n2007_000001\n")
    catalogue = read(tmp_path)
    assert len(catalogue.split("train")) == 4
    with pytest.raises(DataError, match=r"'official' of .* lists images that do not exist: 1, .* '2007_000001'"):
        catalogue.split("official")


VOC_MINI = Path(__file__).parents[3] / "shared/data/voc-mini"


@pytest.mark.skipif(not VOC_MINI.is_dir(), reason="the real photographs are not here")
def test_real_photographs() -> None:
    catalogue = read(VOC_MINI, saliency="../saliency/u2netp")
    assert (len(catalogue), catalogue.num_classes) == (1459, 21)
    assert len(catalogue.split("train")) == 1232
    assert len(catalogue.split("train").carriers(catalogue.class_names.index("person"))) == 409
    entry = catalogue["2007_000032"]
    assert catalogue.read_mask(entry.id).shape == catalogue.read_saliency(entry.id).shape == (entry.height, entry.width)
