"""Tar shards: what becomes a sample, what is refused, and that members are read where they are."""

import io
import os
import pickle
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from image_sets import encode, mask_of, photo, write
from layout_writers import add_member, pack

from mcis_cli.config import DataConfig
from mcis_cli.data import tar_members
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.check import check
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

CAT = encode(photo(1))
DOG = encode(photo(2), "JPEG")
SHARD: Mapping[str, bytes | str] = {
    "a/1.png": CAT,
    "a/1.cls": "cat",
    "a/2.v1.jpg": DOG,
    "b/3.jpg": DOG,
    "b/3.json": '{"labels": ["cat", "potted plant"], "split": ["val", "small"]}',
}


def read(root: Path, **settings: object) -> Catalogue:
    return read_catalogue(DataConfig(root=str(root), **settings))  # type: ignore[arg-type]


def tags_of(images: Catalogue) -> dict[str, set[str]]:
    return {entry.id: {images.class_names[label] for label in entry.labels} for entry in images.entries}


def codes(root: Path) -> dict[str, str]:
    found = check(DataConfig(root=str(root)), num_references=0, workers=0)
    return {one.code: one.message for one in found if one.severity != "note"}


def test_a_key_ends_at_the_first_dot_of_the_name(tmp_path: Path) -> None:
    root = pack(tmp_path / "x.tar", {"a.b/1.jpg": DOG, "a.b/1.txt": "cat\npotted plant\n", "c.jpg": DOG, "c.txt": ""})
    images = read(root)
    assert (images.layout, images.root) == ("shards", tmp_path)
    assert tags_of(images) == {"a.b/1": {"cat", "potted plant"}, "c": set()}
    assert images["c"].is_negative
    assert images.read_file("a.b/1") == DOG


def test_masks_and_saliency_maps_are_members_too(tmp_path: Path) -> None:
    mask, grey = write_mask_png(mask_of("bird")), encode(photo(3)[:, :, 0])
    members = {"1.jpg": DOG, "1.png": mask, "1.saliency.png": grey, "2.png": CAT, "2.seg.png": mask, "1.cls": "0"}
    images = read(pack(tmp_path / "x.tar", {**members, "2.cls": "0"}), classes=["bird"])
    assert images.read_mask("1").tolist() == images.read_mask("2").tolist() == mask_of("bird").tolist()
    assert images.read_saliency("1").shape == (6, 9)
    assert images["2"].saliency is None


def test_splits_are_those_of_the_json_or_of_the_name(tmp_path: Path) -> None:
    pack(tmp_path / "my-train-0.tar", {**SHARD, "a/2.cls": "cat"})
    pack(tmp_path / "my-val-0.tar", {"c.jpg": encode(photo(7), "JPEG"), "c.cls": "cat"})
    images = read(tmp_path)
    assert images.split("small").ids == ("b/3",)
    assert images.split("val").ids == ("b/3", "c")
    assert images.split("train").ids == ("a/1",), "a/2.v1.jpg has an ending that is not read"
    assert "left out: 1 member of the shards" in codes(tmp_path)["other-member"]


def test_numbers_are_those_of_the_listed_classes(tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", {"1.jpg": DOG, "1.cls": "1 0", "2.png": CAT, "2.json": "1"})
    assert tags_of(read(tmp_path)) == {"1": {"0", "1"}, "2": {"1"}}
    write(tmp_path / "classes.txt", "cat\ndog\n")
    assert tags_of(read(tmp_path)) == {"1": {"cat", "dog"}, "2": {"dog"}}
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(
        DataError, match=r"class number 1; expected 0 to 0, the listed classes; correct the tags or the list$"
    ):
        read(tmp_path)


def test_shards_of_a_folder_have_its_content(tmp_path: Path) -> None:
    """So keys and ids of all artifacts are those of the folder."""
    pack(tmp_path / "tars/x.tar", {"a/1.png": CAT, "a/1.cls": "cat", "b/2.jpg": DOG, "b/2.cls": "dog"})
    write(tmp_path / "folder/a/1.png", CAT)
    write(tmp_path / "folder/b/2.jpg", DOG)
    write(tmp_path / "folder/tags.csv", "image,tags\na/1.png,cat\nb/2.jpg,dog\n")
    assert read(tmp_path / "tars").id == read(tmp_path / "tars/x.tar").id == read(tmp_path / "folder").id


def test_tags_may_be_in_a_file_beside(tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", {"a/1.png": CAT, "b/2.jpg": DOG})
    write(tmp_path / "by_id.txt", "a/1 cat\nb/2 dog\n")
    assert tags_of(read(tmp_path, tags="by_id.txt")) == {"a/1": {"cat"}, "b/2": {"dog"}}


def test_unchanged_shards_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pack(tmp_path / "x.tar", {"1.jpg": DOG, "1.cls": "cat", "2.png": CAT, "2.cls": "dog"})
    os.utime(root, (1, 1))
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    config = DataConfig(root=str(root))
    with StatCache(tmp_path / "index") as cache:
        (tmp_path / "tmp").mkdir()
        first = read_catalogue(config, cache)
    monkeypatch.setattr(tar_members, "_known", {})
    with StatCache(tmp_path / "index") as cache, monkeypatch.context() as patched:
        patched.setattr("mcis_cli.data.tar_members.open_regular", lambda *_: pytest.fail("read again"))
        assert read_catalogue(config, cache) == first


def read_one(task: tuple[bytes, str]) -> bytes:
    packed, image_id = task
    images: Catalogue = pickle.loads(packed)
    return images.read_file(image_id)


def test_other_processes_read_members(tmp_path: Path) -> None:
    images = read(pack(tmp_path / "x.tar", {"1.jpg": DOG, "1.cls": "cat", "2.png": CAT, "2.cls": "dog"}))
    tasks = [(pickle.dumps(images), image_id) for image_id in images.ids]
    assert list(ordered_map(read_one, tasks, workers=2, processes=True)) == [DOG, CAT]
    descriptors = {os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)}
    assert not any("x.tar" in name for name in descriptors), "nothing stays open"


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


def link(kind: bytes) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)

    return add


def named(name: str) -> Callable[[tarfile.TarFile], None]:
    return lambda archive: add_member(archive, name, DOG)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (named("../1.jpg"), "the member '../1.jpg' has a name that is not used: the image id '../1' leaves its folder"),
        (named("a/../../1.jpg"), "leaves its folder"),
        (named("/etc/1.jpg"), "leaves its folder"),
        (named("a\n1.jpg"), "has characters that are no text"),
        (named("0.png"), "the member '0.png' is in it twice"),
        (named("y" * 300 + ".jpg"), "an image id of 300 characters"),
        (link(tarfile.SYMTYPE), "is a link, a device or a sparse file"),
        (link(tarfile.LNKTYPE), "is a link, a device or a sparse file"),
        (link(tarfile.FIFOTYPE), "is a link, a device or a sparse file"),
    ],
)
def test_hostile_members_are_refused_in_one_line(
    add: Callable[[tarfile.TarFile], None], message: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add_member(archive, "0.cls", "cat")
        add_member(archive, "0.png", CAT)
        add(archive)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    assert "x.tar" in str(error.value)


def whole(tmp_path: Path) -> bytes:
    return pack(tmp_path / "whole", {"0.cls": "cat", "0.png": CAT, "1.png": CAT}).read_bytes()


@pytest.mark.parametrize("length", [1, 500, 512, 700, 1024, 1300, 2048, 2200, 3000])
def test_a_truncated_archive_is_refused(length: int, tmp_path: Path) -> None:
    content = whole(tmp_path)
    assert len(content) > 3000
    write(tmp_path / "set/x.tar", content[:length])
    with pytest.raises(DataError, match=r"x\.tar: not a whole tar archive \(.*\); copy it again"):
        read(tmp_path / "set")


def test_damaged_headers_and_other_files_are_refused(tmp_path: Path) -> None:
    content = bytearray(whole(tmp_path))
    second = content.index(b"0.png")
    content[second + 150] ^= 1  # its checksum
    for other in (bytes(content), b"no archive at all", b"\x00" * 100):
        write(tmp_path / "set/x.tar", other)
        with pytest.raises(DataError, match="not a whole tar archive"):
            read(tmp_path / "set")


def test_an_empty_shard_is_left_out(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {})
    pack(tmp_path / "1.tar", {"1.jpg": DOG, "1.cls": "cat"})
    assert read(tmp_path).ids == ("1",)


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    for name in ("x.tar", "x.tar.gz", "x.tgz"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        with tarfile.open(folder / name, "w:gz") as archive:
            add_member(archive, "0.cls", "cat")
        with pytest.raises(DataError, match=r"is compressed; expected a plain tar.*; decompress it"):
            read(folder)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "no images in"),
        ({"1.cls": "cat"}, "no images in"),
        ({"1.jpg": DOG, "1.jpeg": DOG, "1.cls": "cat"}, "two images in one sample, 1.jpg and 1.jpeg; keep one"),
        ({"1.jpg": DOG, "1.json": "{"}, "x.tar/1.json: not JSON in UTF-8"),
        ({"1.jpg": DOG, "1.json": "[" * 100_000}, "x.tar/1.json: not JSON in UTF-8"),
        ({"1.jpg": DOG, "1.cls": b"\xff\xfe"}, "x.tar/1.cls: not text in UTF-8"),
        ({"1.jpg": DOG, "1.json": '{"tags": [1.5]}'}, "tags that are neither names nor numbers"),
        ({"1.jpg": DOG, "1.json": '{"split": {}, "tags": "dog"}'}, "1.json: a split that is no name; expected 'train'"),
        ({"1.jpg": DOG, "1.json": '{"caption": "a cat"}'}, "1 image without tags; expected KEY.cls, KEY.json"),
        ({"1.jpg": DOG, "1.txt": "x" * 2**21}, "expected tags in at most 1,048,576"),
        ({"1.jpg": b"", "1.txt": "cat"}, "x.tar/1.jpg: an empty file"),
    ],
)
def test_faults_are_one_line(members: Mapping[str, bytes | str], message: str, tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read(tmp_path, layout="shards")
    assert "\n" not in str(error.value)


def test_a_key_in_two_shards_is_a_fault_that_names_both(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        pack(tmp_path / name, {"1.jpg": DOG, "1.cls": "cat"})
    with pytest.raises(DataError, match=r"two samples '1' in .*: in x\.tar and in y\.tar; rename one$"):
        read(tmp_path)
    assert "same-id" in codes(tmp_path)


def test_a_shard_that_changes_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    root = pack(tmp_path / "x.tar", {"1.jpg": DOG, "1.cls": "cat", "2.png": CAT, "2.cls": "cat"})
    images = read(root)
    pack(root, {"2.png": CAT, "2.cls": "cat", "1.jpg": encode(photo(8), "JPEG"), "1.cls": "cat"})
    assert images.read_file("2") == CAT, "the same bytes at another place"
    with pytest.raises(DataError, match=r"x\.tar/1\.jpg has changed since it was listed"):
        images.read_file("1")
    pack(root, {"2.png": CAT, "2.cls": "cat"})
    with pytest.raises(DataError, match=r"has no member '1\.jpg'"):
        images.read_file("1")


def test_a_folder_may_be_called_like_an_archive(tmp_path: Path) -> None:
    file = write(tmp_path / "x.tar/y.tar/1.jpg", DOG)
    assert read_regular(file, 2**20) == DOG
    with pytest.raises(DataError, match="No such file"):
        read_regular(tmp_path / "x.tar/2.jpg", 2**20)


def test_scan_reads_names_and_places(tmp_path: Path) -> None:
    content = whole(tmp_path)
    for name, offset, size in tar_members.scan(io.BytesIO(content), "x"):
        assert content[offset : offset + size] == (b"cat" if name == "0.cls" else CAT)
