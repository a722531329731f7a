"""PASCAL VOC as it comes: unpacked from its archive, from `mcis init` to `mcis report`."""

import shutil
import tarfile
from pathlib import Path

import pytest
from image_sets import write_voc_archive
from tiny_chain import SMALL, write_shapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the archive alone."""
    write_voc_archive(write_shapes(tmp_path / "shapes"), tmp_path / "VOCtrainval_11-May-2012.tar")
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
