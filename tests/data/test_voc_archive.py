"""PASCAL VOC as it comes: unpacked from its archive, from `mcis init` to `mcis report`."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from chains import SMALL, write_shapes

ANNOTATION = "<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
OBJECT = "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>1</xmin></bndbox></object>"


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"VOCdevkit/VOC2012/{name}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_archive(shapes: Path, file: Path) -> None:
    """The archive of VOC 2012 in small: annotations, lists of several tasks, and masks for those of one of them."""
    with tarfile.open(file, "w") as archive:
        tags = [line.split() for line in (shapes / "image_tags.txt").read_text().splitlines()]
        for image_id, *names in tags:
            objects = "".join(OBJECT.format(name=name) for name in names)
            add(archive, f"Annotations/{image_id}.xml", ANNOTATION.format(name=image_id, objects=objects).encode())
            add(archive, f"JPEGImages/{image_id}.jpg", (shapes / f"JPEGImages/{image_id}.jpg").read_bytes())
        for split in ("train", "trainval", "val"):
            ids = (shapes / f"ImageSets/Segmentation/{split}.txt").read_text()
            add(archive, f"ImageSets/Segmentation/{split}.txt", ids.encode())
            add(archive, f"ImageSets/Main/{split}.txt", ids.encode())
            add(archive, f"ImageSets/Action/jumping_{split}.txt", b"train-0000 1 1\n")
            for name in {name for _, *names in tags for name in names}:
                signs = "".join(f"{one} {'1' if name in names else '-1'}\n" for one, *names in tags)
                add(archive, f"ImageSets/Main/{name}_{split}.txt", signs.encode())
        for mask in sorted((shapes / "SegmentationClass").glob("*.png")):
            add(archive, f"SegmentationClass/{mask.name}", mask.read_bytes())
            add(archive, f"SegmentationObject/{mask.name}", mask.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the archive alone."""
    write_archive(write_shapes(tmp_path / "shapes"), tmp_path / "VOCtrainval_11-May-2012.tar")
    shutil.rmtree(tmp_path / "shapes")
    return tmp_path


def test_the_way_into_the_archive_is_told(call, folder):
    answer = call("init", "VOCtrainval_11-May-2012.tar", cwd=folder)
    assert (answer.code, answer.out) == (2, "")
    assert "is an archive; expected the folder that is in it; unpack it: tar xf" in answer.err
    with tarfile.open(folder / "VOCtrainval_11-May-2012.tar") as archive:
        archive.extractall(folder, filter="data")
    answer = call("init", "VOCdevkit", cwd=folder)
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean VOCdevkit/VOC2012?" in answer.err


@pytest.mark.slow
def test_from_init_to_report(call, folder):
    with tarfile.open(folder / "VOCtrainval_11-May-2012.tar") as archive:
        archive.extractall(folder, filter="data")
    answer = call("init", "VOCdevkit/VOC2012", "--preset", "quick", cwd=folder)
    assert answer.code == 0, answer.err
    assert "layout voc, 22 images, 3 classes; train 16, trainval 22, val 6" in answer.err
    assert call("check", "--quiet", cwd=folder).code == 0
    sizes = [word for stage in SMALL.values() for word in stage if "=" in word]
    flags = [*sizes, "train-cls.epochs=1", "train-seg.epochs=1", "cams.image_size=64", "train-seg.batch_size=4"]
    given = [word for value in flags for word in ("--set", value)]
    answer = call("run", "--workers", "0", *given, cwd=folder)
    assert answer.code == 0, answer.err
    answer = call("report", "--device", "cpu", *given, cwd=folder)
    assert (answer.code, answer.lines) == (0, ["report.html"]), answer.err
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("disc", "star", "square"))
