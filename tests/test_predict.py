"""Masks for new photographs: the stage, and the command that writes them."""

import numpy as np
import pytest
import torch
from chains import options
from image_sets import encode
from PIL import Image

from mcis_cli.config import EvalConfig
from mcis_cli.data.palette import voc_palette
from mcis_cli.maps.crf import crf_on_present, dense_crf
from mcis_cli.stages import predict
from mcis_cli.stages.segmenting import load_segmenter


@pytest.fixture
def photos(chain, tmp_path):
    """A folder with two photographs, one of them in a folder of its own, one broken, and a file of another kind."""
    shapes = chain.folder / "shapes/JPEGImages"
    folder = tmp_path / "photos"
    (folder / "inside").mkdir(parents=True)
    (folder / "a.jpg").write_bytes((shapes / "val-0000.jpg").read_bytes())
    (folder / "inside/b.JPG").write_bytes((shapes / "val-0001.jpg").read_bytes())
    (folder / "broken.png").write_bytes(encode(np.zeros((9, 9, 3), np.uint8))[:40])
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture
def network(chain):
    return chain.made["train-seg"]


def expected_mask(network, file, refine=None):
    segmenter = load_segmenter(
        network, scales=(1.0,), flip=False, window=None, device=torch.device("cpu"), precision="fp32"
    )
    with Image.open(file) as opened:
        image = np.asarray(opened.convert("RGB"))
    probabilities = segmenter.probabilities(image)
    if refine:
        probabilities = refine(image, probabilities, **EvalConfig().crf_settings.model_dump())
    return probabilities.argmax(0)


@pytest.mark.parametrize("crf_labels", ["all", "present"])
def test_masks_come_in_order_and_a_broken_photograph_does_not_stop_the_rest(network, photos, crf_labels):
    config = EvalConfig(precision="fp32", crf=True, crf_labels=crf_labels)
    paths = [photos / "broken.png", photos / "a.jpg", photos / "nothing.jpg", photos / "inside/b.JPG"]
    found = list(predict.run(config, network, paths, options()))
    assert [one.path for one in found] == paths
    assert [one.mask is None for one in found] == [True, False, True, False]
    assert "broken.png" in found[0].fault
    assert found[2].fault == f"cannot read {photos / 'nothing.jpg'}: No such file or directory; replace or remove it"
    refine = crf_on_present if crf_labels == "present" else dense_crf
    for one in (found[1], found[3]):
        assert one.mask.dtype == np.uint8
        np.testing.assert_array_equal(one.mask, expected_mask(network, one.path, refine))


def test_the_command_writes_a_palette_png_for_each_photograph_and_leaves_with_2_for_the_broken_one(
    call, chain, network, photos
):
    answer = call("predict", network.id, "photos", "-o", "masks", "--store", chain.folder / ".mcis", cwd=photos.parent)
    assert answer.code == 2
    assert answer.lines == ["masks/a.png", "masks/inside/b.png"]
    warning, error = answer.err.splitlines()[-2:]
    assert warning.startswith("mcis: warning: ")
    assert "broken.png" in warning
    assert error.startswith("mcis: error: no mask for 1 of 3 photographs, the other 2 written: photos/broken.png: ")
    with Image.open(photos.parent / "masks/a.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:12] == voc_palette()[:4].ravel().tolist()
        np.testing.assert_array_equal(np.asarray(mask), expected_mask(network, photos / "a.jpg"))
    assert not (photos.parent / "masks/broken.png").exists()


def test_the_command_writes_overlays_beside_the_masks(call, chain, network, photos):
    answer = call(
        "predict", network.id[:8], "photos/a.jpg", "--overlay", "--store", chain.folder / ".mcis", cwd=photos.parent
    )
    assert answer.code == 0
    assert answer.lines == ["masks/a.png"]
    assert answer.err == ""
    with Image.open(photos.parent / "masks/a-overlay.png") as overlay, Image.open(photos / "a.jpg") as photograph:
        assert overlay.size == photograph.size


def test_two_photographs_with_one_mask_are_refused(call, chain, network, photos):
    (photos / "a.png").write_bytes(encode(np.zeros((9, 9, 3), np.uint8)))
    answer = call("predict", network.path, "photos", cwd=photos.parent)
    assert answer.code == 2
    assert answer.out == ""
    assert "would both be written to masks/a.png" in answer.err
    assert not (photos.parent / "masks").exists()


@pytest.mark.parametrize(
    ("reference", "images", "code", "message"),
    [
        ("train-seg", "nowhere", 2, "nowhere does not exist: expected a photograph or a folder of them"),
        ("pseudo", "photos", 2, "was made by pseudo: expected a network of train-seg"),
        ("deadbeef00", "photos", 3, "no artifact whose id starts with deadbeef00"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(call, chain, photos, reference, images, code, message):
    model = chain.made[reference].path if reference in chain.made else reference
    answer = call("predict", model, images, "--store", chain.folder / ".mcis", cwd=photos.parent)
    assert answer.code == code
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert message in answer.err


def test_a_folder_without_photographs_is_refused(call, network, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = call("predict", network.path, "empty", cwd=tmp_path)
    assert answer.code == 2
    assert "no photograph in empty" in answer.err


def test_photographs_are_never_written_over(call, chain, network, photos):
    (photos / "broken.png").unlink()
    with Image.open(photos / "a.jpg") as photograph:
        photograph.save(photos / "c.png")
    before = (photos / "c.png").read_bytes()
    for images in (["photos"], ["photos/c.png"]):
        answer = call("predict", network.path, *images, "-o", "photos", cwd=photos.parent)
        assert answer.code == 2
        assert "c.png is a photograph, and would be written over; choose another folder with --output" in answer.err
    assert (photos / "c.png").read_bytes() == before
    assert not (photos / "a.png").exists()


def test_masks_of_an_earlier_run_are_no_photographs(call, network, photos):
    (photos / "broken.png").unlink()
    for _ in range(2):
        answer = call("predict", network.path, ".", "-o", "masks", cwd=photos)
        assert answer.code == 0
        assert answer.lines == ["masks/a.png", "masks/inside/b.png"]


def test_a_folder_that_cannot_be_written_is_6(call, network, photos):
    (photos.parent / "taken").write_text("a file, no folder")
    answer = call("predict", network.path, "photos/a.jpg", "-o", "taken", cwd=photos.parent)
    assert answer.code == 6
    assert "taken" in answer.err
    assert answer.err == ("mcis: error: taken cannot be written: File exists; choose another folder with --output\n")


def test_a_folder_that_cannot_be_written_is_told_before_the_network_is_loaded(call, network, photos, monkeypatch):
    monkeypatch.setattr("mcis_cli.stages.predict.run", lambda *_: pytest.fail("the network was loaded"))
    answer = call("predict", network.path, "photos/a.jpg", "-o", "/proc/masks", cwd=photos.parent)
    assert (answer.code, answer.out) == (6, "")
    assert "/proc/masks cannot be written: " in answer.err


def test_a_gif_is_a_photograph_too(call, network, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.gif").write_bytes(encode(np.zeros((40, 50), np.uint8), "GIF"))
    assert call("predict", network.path, "photos", cwd=tmp_path).lines == ["masks/a.png"]


def test_where_no_photograph_can_be_read_nothing_is_said_to_be_written(call, network, photos):
    answer = call("predict", network.path, "photos/broken.png", cwd=photos.parent)
    assert (answer.code, answer.out) == (2, "")
    assert "error: no mask for 1 of 1 photograph, none written: photos/broken.png: " in answer.err
