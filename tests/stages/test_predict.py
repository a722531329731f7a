"""Masks for new photographs: the stage, and the command that writes them."""

import json

import numpy as np
import pytest
import torch
from image_sets import encode
from PIL import Image
from run_commands import mcis
from tiny_chain import CLASSES, options

from mcis_cli.config import EvalConfig
from mcis_cli.data.palette import voc_palette
from mcis_cli.maps.crf import crf_on_present, dense_crf
from mcis_cli.stages.engine.predictor import load_segmenter
from mcis_cli.stages.predict import run as predict


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
        ("train-seg", "nowhere", 2, "nowhere does not exist: expected a photograph, a folder of them, or a pattern"),
        ("pseudo", "photos", 2, "was made by pseudo: expected a network of train-seg"),
        ("deadbeef00", "photos", 3, "no artifact has an id that starts with deadbeef00"),
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
        assert "c.png is a photograph and would be overwritten; choose another folder with --output" in answer.err
    assert (photos / "c.png").read_bytes() == before
    assert not (photos / "a.png").exists()


def test_masks_are_not_written_among_the_photographs_of_a_folder(call, network, photos):
    """They would be photographs for the next command, and two files of an id for an image set."""
    (photos / "broken.png").unlink()
    before = sorted(photos.rglob("*"))
    for images, output in (("photos", "photos"), ("photos", "photos/../photos"), ("./photos/", "photos")):
        answer = call("predict", network.path, images, "-o", output, cwd=photos.parent)
        assert (answer.code, answer.out) == (2, "")
        assert "masks would lie among the photographs of photos and be treated as photographs" in answer.err
    assert sorted(photos.rglob("*")) == before


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
    monkeypatch.setattr("mcis_cli.stages.predict.run.run", lambda *_: pytest.fail("the network was loaded"))
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


def test_json_has_the_labels_of_each_mask_and_the_fault_of_each_photograph_without_one(call, network, photos):
    answer = call("predict", network.path, "photos", "--json", "-q", cwd=photos.parent)
    assert answer.code == 2
    first, broken, last = map(json.loads, answer.lines)
    assert broken.keys() == {"image", "error"}
    assert broken["image"] == "photos/broken.png"
    assert (first["image"], first["mask"]) == ("photos/a.jpg", "masks/a.png")
    assert last["mask"] == "masks/inside/b.png"
    mask = expected_mask(network, photos / "a.jpg")
    assert (first["height"], first["width"]) == mask.shape
    assert {one["value"]: one["pixels"] for one in first["labels"]} == {
        value: int((mask == value).sum()) for value in np.unique(mask).tolist()
    }
    for one in first["labels"]:
        assert one["label"] == ("background", *CLASSES)[one["value"]]
        assert one["area"] == pytest.approx(one["pixels"] / mask.size, abs=1e-6)
        assert 1 / 4 < one["confidence"] <= 1  # the highest of four probabilities


def test_confidence_is_the_mean_probability_of_the_label_over_its_pixels():
    probabilities = np.array([[[0.75, 0.25, 0.5]], [[0.25, 0.75, 0.5]]], dtype=np.float32)
    regions = predict.regions_of(np.array([[0, 1, 0]], dtype=np.uint8), probabilities)
    assert regions == (predict.Region(0, 2, 0.625), predict.Region(1, 1, 0.75))


def test_a_pattern_finds_photographs_and_keeps_the_structure_below_its_folder(call, network, photos):
    answer = call("predict", network.path, "photos/**/*.[jJ][pP][gG]", cwd=photos.parent)
    assert answer.code == 0, answer.err
    assert answer.lines == ["masks/a.png", "masks/inside/b.png"]
    assert call("predict", network.path, "pho*s", cwd=photos.parent).lines == [
        "masks/photos/a.png",
        "masks/photos/inside/b.png",
    ]
    nothing = call("predict", network.path, "photos/*.tif", cwd=photos.parent)
    assert (nothing.code, nothing.out) == (2, "")
    assert "no photograph in photos/*.tif" in nothing.err


@pytest.mark.parametrize("between", ["\n", "\0"])
def test_a_list_on_stdin_keeps_the_structure_below_the_folder_that_is_shared(network, photos, between):
    listed = between.join(["photos/inside/b.JPG", "photos/gone.jpg", "photos/a.jpg", ""])
    answer = mcis("predict", network.path, "-", cwd=photos.parent, piped=listed)
    assert answer.code == 2
    assert answer.lines == ["masks/inside/b.png", "masks/a.png"]
    assert "no mask for 1 of 3 photographs, the other 2 written: cannot read photos/gone.jpg" in answer.err


def test_an_empty_list_is_told(network, tmp_path):
    answer = mcis("predict", network.path, "-", cwd=tmp_path, piped="\n")
    assert (answer.code, answer.out) == (2, "")
    assert "the list on stdin names no photograph" in answer.err


def test_photographs_of_formats_that_are_not_read_are_told(call, network, photos):
    (photos / "broken.png").unlink()
    (photos / "phone.heic").write_bytes(b"x")
    answer = call("predict", network.path, "photos", cwd=photos.parent)
    assert answer.code == 0
    assert "left out: 1 file (photos/phone.heic) of a format that is not read; save them as JPEG" in answer.err
    alone = photos.parent / "alone"
    alone.mkdir()
    (alone / "phone.heic").write_bytes(b"x")
    assert "found alone/phone.heic" in call("predict", network.path, "alone", cwd=photos.parent).err
