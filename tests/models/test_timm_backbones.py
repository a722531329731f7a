"""Backbones of timm: what is taken and refused, what they say of themselves, and a chain with a tiny one."""

import json
import subprocess
import sys

import backbones as page
import pytest
import timm
import torch
from repairs import commands_of
from run_commands import mcis
from safetensors.torch import save_file
from tiny_chain import write_shapes
from torch import nn

from mcis_cli.config import resolve
from mcis_cli.errors import UsageError, WeightsError
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.timm_networks import is_listed
from mcis_cli.store import open_store
from mcis_cli.training.initial_weights import initial_weights_identity, missing_weights

TINY = "timm:test_resnet"


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        "| `timm:test_resnet` | 8, 16 | 0.4 | 96 | 48, 192 | 5 | not negative | yes | yes |",
        "| `timm:test_convnext.r160_in1k` | 8, 16 | 0.2 | 64 | 32, 48 | 4 | of either sign | yes | yes |",
        "| `timm:test_efficientnet` | 8, 16 | 0.1 | 256 | 32, 48 | 5 | of either sign | yes | yes |",
    ],
)
def test_small_ones_make_a_step_of_both_trainings(row):
    assert page.try_backbone(row.split("`")[1]).row() == row


def test_the_page_has_a_row_of_each_network_that_is_tried():
    rows = [line for line in page.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `timm:")]
    assert [row.split("`")[1] for row in rows] == [f"timm:{name}" for name in page.NAMES]
    assert all(row.endswith("| yes | yes |") for row in rows)


def test_published_weights_fit_and_their_classifier_is_left_out():
    published = timm.create_model("test_resnet", pretrained=False).state_dict()
    backbone = build_backbone(TINY)
    backbone.initialise(published)
    own = backbone.trunk.state_dict()
    assert published.keys() - own.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(published[name], value) for name, value in own.items())
    with pytest.raises(WeightsError, match=r"do not fit timm:test_resnet: .*conv1.0.weight is missing"):
        backbone.initialise(timm.create_model("test_convnext", pretrained=False).state_dict())


def test_images_are_normalised_as_in_timms_own_training():
    for name, mean in (("test_resnet", 0.5), ("test_efficientnet", 0.485)):
        assert build_backbone(f"timm:{name}").mean[0] == mean


def test_batch_norm_stays_frozen_and_stages_freeze_from_below():
    backbone = build_backbone(TINY).train()
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    trainable = []
    for num_stages in range(6):
        backbone.freeze_stages(num_stages)
        trainable.append([name for name, weight in backbone.trunk.named_parameters() if weight.requires_grad])
    assert trainable[0][0].startswith("conv1")
    assert [names[0].split(".")[0] for names in trainable[1:5]] == ["layer1", "layer2", "layer3", "layer4"]
    assert trainable[5] == []
    with pytest.raises(
        UsageError, match=r"cannot freeze 5 stages of timm:test_convnext: expected 0 to 4; lower the number"
    ):
        build_backbone("timm:test_convnext").freeze_stages(5)


@pytest.mark.parametrize(
    "name", ["hf_hub:a/b", "hf-hub:a/b", "local-dir:/etc", "../resnet18", "", "resnet18.a.b", "a b"]
)
def test_settings_take_no_addresses(name):
    with pytest.raises(
        UsageError, match=r"train-cls.backbone = .* is not accepted: expected vgg16, .*timm:NAME with a"
    ):
        resolve({"train-cls": {"backbone": f"timm:{name}"}})


def test_names_are_those_that_timm_lists():
    assert is_listed("resnet18")
    assert is_listed("resnet18.a1_in1k")
    assert not is_listed("resnet18.mine")
    assert not is_listed("hf_hub:someone/network")
    with pytest.raises(
        UsageError, match=r"timm .* has no network 'resnet19'; did you mean timm:resnet18\? \(--backbone"
    ):
        build_backbone("timm:resnet19")


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "densenet121", "vgg11"])
def test_networks_without_maps_at_an_output_stride_are_refused(name):
    with pytest.raises(
        UsageError, match=rf"timm's {name} gives no maps of features with output stride 8: found .*; take"
    ):
        build_backbone(f"timm:{name}")


def test_a_tag_is_known_without_torch_and_found_where_there_is_none():
    assert initial_weights_identity(TINY, None) == "timm:test_resnet.r160_in1k"
    code = (
        "import sys; from mcis_cli.training.initial_weights import initial_weights_identity as identity;"
        "print(identity('timm:resnet18.a1_in1k', None)); assert not {'torch', 'timm'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "timm:resnet18.a1_in1k\n"


def test_networks_without_published_weights_want_a_file():
    with pytest.raises(
        WeightsError, match=r"timm publishes no weights of 'resnet50t', .*use another --backbone, such as lite0"
    ):
        initial_weights_identity("timm:resnet50t", None)


def test_weights_that_timm_would_download_are_missing_until_they_are_in_its_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    missing = missing_weights("timm:resnet18")
    assert missing is not None
    name = missing.removeprefix("the weights of ").split()[0]
    assert missing == (
        f"the weights of {name} are not on this machine and would be downloaded; if you are offline, use --preset best "
        "or --backbone lite0, which need no download, or give --weights FILE"
    )
    repository = tmp_path / f"models--timm--{name}"
    for file, content in (("refs/main", "abc"), ("snapshots/abc/model.safetensors", "")):
        (repository / file).parent.mkdir(parents=True)
        (repository / file).write_text(content)
    assert missing_weights("timm:resnet18") is missing_weights(f"timm:{name}") is None


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with images, and files of weights for the tiny networks."""
    folder = tmp_path_factory.mktemp("timm")
    write_shapes(folder / "shapes")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), folder / "tiny.pth")
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), folder / "vit.safetensors")
    return folder


@pytest.mark.slow
def test_without_a_connection_both_ways_out_are_named(work, tmp_path):
    answer = mcis(
        *("train-cls", "shapes", "--preset", "quick", "--backbone", TINY, "--store", tmp_path / "store"),
        cwd=work,
        real=True,  # the variables are read by an import
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "empty"),
    )
    assert (answer.code, answer.out) == (2, "")
    (line,) = [line for line in answer.err.splitlines() if "error" in line]
    assert line.startswith("mcis: error: the weights of test_resnet.r160_in1k are not on this machine and timm cannot")
    assert "use --backbone lite0, which needs no download, or fetch model.safetensors of " in line
    assert "https://huggingface.co/timm/test_resnet.r160_in1k on another machine and give --weights FILE" in line
    assert "Retry" not in answer.err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weights"), [(TINY, "tiny.pth"), ("timm:test_vit", "vit.safetensors")])
def test_a_chain_with_one_runs_to_the_end_and_is_made_again(call, work, name, weights):
    """Artifacts name the network, and what is built from them alone is the same again."""
    store = f"store of {weights}"

    def made(*arguments):
        answer = call(*arguments, "--store", store, cwd=work)
        assert answer.code == 0, answer.err
        return answer

    common = ("--preset", "quick", "--epochs", "1", "--backbone", name, "--weights", weights)
    trained = made("train-cls", "shapes", *common, "--set", "train-cls.image_size=64")
    maps = made("cams", *trained.lines, "--refs", "1")
    masks = made("pseudo", *maps.lines, "--background", "constant")
    network = made("train-seg", *masks.lines, *common, "--set", "train-seg.crop=65")
    scores = json.loads(made("eval", *network.lines, "--json").out)
    assert 0 <= scores["metrics"]["mean_iou"] <= 1
    made("predict", *network.lines, "shapes/JPEGImages/val-0000.jpg", "-o", "masks")
    for artifact in (trained, network):
        stored = open_store(work / store).get(artifact.lines[0])
        assert stored.meta["model"]["backbone"] == name
        content = bytearray(stored.path.read_bytes())
        content[len(content) // 2] ^= 1
        stored.path.chmod(0o644)
        stored.path.write_bytes(content)
    for command in commands_of(call("verify", "--repair", "--json", "--store", store, cwd=work)):
        words = [weights if word == "FILE" else word for word in command]
        assert call(*words, "--store", store, cwd=work).code == 0, words
    assert all(open_store(work / store).get(artifact.lines[0]).is_intact() for artifact in (trained, network))
