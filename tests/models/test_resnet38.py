"""ResNet-38: names and shapes of its layers, the arithmetic of a narrow one, taps, weights of PSA and SEAM."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.errors import UsageError, WeightsError
from mcis_cli.models import backbones
from mcis_cli.models.backbones import Backbone, _resnet38, build_backbone
from mcis_cli.models.equivariance import PixelCorrelation
from mcis_cli.models.resnet38 import resnet38
from mcis_cli.store import open_store

BLOCKS = {"b2": 3, "b3": 3, "b4": 6, "b5": 3, "b6": 1, "b7": 1}


@pytest.fixture
def backbone() -> Backbone:
    with torch.device("meta"):  # 105 million weights, which nothing here reads
        return build_backbone("resnet38")


def names_of(stage: str) -> list[str]:
    return [stage, *(f"{stage}_{number}" for number in range(1, BLOCKS[stage]))]


def test_layers_have_their_published_names_and_shapes(backbone: Backbone) -> None:
    """38 layers that count: the first, two in each of 15 blocks, three in each of two, and the classifier on top."""
    shapes = {name: tuple(tensor.shape) for name, tensor in backbone.trunk.state_dict().items()}
    convs = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    shortcuts = {name for name in convs if name.endswith("conv_branch1.weight")}
    assert len(convs) - len(shortcuts) == 38 - 1
    assert shortcuts == {f"b{stage}.conv_branch1.weight" for stage in range(2, 8)}
    assert convs["conv1a.weight"] == (64, 3, 3, 3)
    assert convs["b4_5.conv_branch2b1.weight"] == (512, 512, 3, 3)
    assert convs["b5.conv_branch2a.weight"] == (512, 512, 3, 3)
    assert convs["b5_1.conv_branch2a.weight"] == (512, 1024, 3, 3)
    assert convs["b6.conv_branch2a.weight"] == (512, 1024, 1, 1)
    assert convs["b6.conv_branch2b1.weight"] == (1024, 512, 3, 3)
    assert convs["b7.conv_branch2b2.weight"] == (4096, 2048, 1, 1)
    assert shapes["b6.bn_branch2b2.running_var"] == (1024,)
    assert shapes["bn7.weight"] == (4096,)


def narrow() -> nn.Sequential:
    """One of 2 to 128 channels, its batch norm with statistics, as it is in training with frozen batch norm."""
    generator = torch.Generator().manual_seed(5)
    network = nn.Sequential(resnet38(width=2)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.4 if parameter.dim() == 4 else 1.0, generator=generator)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    return network


def by_the_table(state: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """What the published description says, written out; the activated input of each block by the name of the block."""

    def activated(name: str, inputs: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scaled = (inputs - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return (scaled * weight[:, None, None] + bias[:, None, None]).clamp(min=0)

    def conv(name: str, inputs: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(inputs, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation)

    found, x = {}, conv("conv1a", images)
    for stage in BLOCKS:
        for number, name in enumerate(names_of(stage)):
            stride = 2 if stage in ("b2", "b3", "b4") and not number else 1
            found[name] = a = activated(f"{name}.bn_branch2a", x)
            if stage in ("b6", "b7"):
                y = activated(f"{name}.bn_branch2b1", conv(f"{name}.conv_branch2a", a))
                y = activated(f"{name}.bn_branch2b2", conv(f"{name}.conv_branch2b1", y, dilation=4))
                y = conv(f"{name}.conv_branch2b2", y)
            else:
                first = 2 if name in ("b5_1", "b5_2") else 1
                y = activated(f"{name}.bn_branch2b1", conv(f"{name}.conv_branch2a", a, stride, first))
                y = conv(f"{name}.conv_branch2b1", y, dilation=2 if stage == "b5" else 1)
            x = (conv(f"{name}.conv_branch1", a, stride) if not number else x) + y
    found["end"] = activated("bn7", x)
    return found


def test_a_narrow_one_computes_what_the_table_says() -> None:
    network, images = narrow().double(), torch.randn(2, 3, 19, 26, dtype=torch.float64)
    expected = by_the_table(network.state_dict(), images)
    with torch.inference_mode():
        assert torch.allclose(network(images), expected["end"])
    assert expected["end"].shape == (2, 128, 3, 4)


def test_taps_are_the_activated_inputs_of_stages_5_and_6_and_the_end() -> None:
    backbone = Backbone(_resnet38(8, "classification", width=2), nn.Sequential(), name="narrow", output_stride=8).eval()
    images = torch.randn(1, 3, 41, 34, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        lower, middle, end = backbone.taps(images)
        expected = by_the_table(backbone.trunk.state_dict(), images)
        assert torch.equal(backbone(images), end)
    assert backbone.tap_channels == (16, 32)
    for found, name in ((lower, "b5"), (middle, "b6"), (end, "end")):
        assert torch.allclose(found, expected[name], rtol=1e-3, atol=1e-5)


def test_taps_of_the_published_one(backbone: Backbone) -> None:
    levels = backbone.taps(torch.zeros(1, 3, 64, 96, device="meta"))
    assert [tuple(level.shape) for level in levels] == [(1, 512, 8, 12), (1, 1024, 8, 12), (1, 4096, 8, 12)]
    assert backbone.tap_channels == (512, 1024)
    assert backbone.num_features == 4096


def test_whole_channels_are_dropped_in_training_alone() -> None:
    torch.manual_seed(0)
    block = resnet38(width=2)["b7"]
    inputs, kept = torch.rand(1, 64, 3, 3), []
    block.dropout_2b1.register_forward_hook(lambda module, args, output: kept.append(output))
    block.eval().dropout_2b1.train()
    block(inputs)
    block.eval()(inputs)
    dropped = (kept[0] == 0).all(dim=(2, 3)) & ~(kept[1] == 0).all(dim=(2, 3))
    assert 0 < dropped.sum() < 32
    partly = (kept[0] == 0) & ~dropped[..., None, None]
    assert not (partly & (kept[1] != 0)).any()


def test_other_strides_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"resnet38 does not support output stride 16: expected 8; .*SECTION.output_stride=8"
    ):
        build_backbone("resnet38", output_stride=16, role="segmentation")


@pytest.mark.parametrize(
    "extra",
    [
        {"fc8.weight": (20, 4096, 1, 1)},  # PSA's classifier
        {
            "f8_3.weight": (64, 512, 1, 1),
            "f8_5.weight": (256, 4096, 1, 1),
            "f9.weight": (448, 448, 1, 1),
        },  # AffinityNet
        {"fc8.weight": (21, 4096, 1, 1), "f8_4.weight": (128, 1024, 1, 1), "f9.weight": (192, 195, 1, 1)},  # SEAM
    ],
)
def test_weights_of_psa_and_seam_fit(backbone: Backbone, extra: dict[str, tuple[int, ...]]) -> None:
    on_top = {name: torch.zeros(shape, device="meta") for name, shape in extra.items()}
    backbone.initialise({**backbone.trunk.state_dict(), **on_top})


def test_what_does_not_fit_is_listed(backbone: Backbone) -> None:
    state = dict(backbone.trunk.state_dict())
    state["b3.conv_branch1.weight"] = torch.zeros(256, 128, 3, 3, device="meta")
    state["b8.conv_branch2a.weight"] = state.pop("b7.conv_branch2a.weight")
    with pytest.raises(WeightsError) as caught:
        backbone.initialise(state)
    assert "3 layers of another kind (b7.conv_branch2a.weight is missing; b8.conv_branch2a.weight is unknown; " in str(
        caught.value
    )
    assert "b3.conv_branch1.weight is (256, 128, 3, 3), not (256, 128, 1, 1)" in str(caught.value)


# A training, and what it starts from: all of it as it is, but narrow

NARROW = (
    8  # with 4, which are 8 channels in the first layers that learn, the kernels that PyTorch takes end the process
)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What SEAM publishes, of 8 to 512 channels and drawn at random, in seam.pth; ResNet-38 is as narrow."""
    monkeypatch.setattr(backbones, "_resnet38", partial(_resnet38, width=NARROW))
    torch.manual_seed(7)
    backbone = build_backbone("resnet38")
    correlation = PixelCorrelation(backbone.tap_channels)
    state = {**backbone.trunk.state_dict(), **correlation.state_dict(), "fc8.weight": torch.randn(21, 512, 1, 1)}
    torch.save(state, tmp_path / "seam.pth")
    return {name: value for name, value in state.items() if name != "fc8.weight"}


def of_lid20(call, chain, weights: str, *given: str, cwd: Path) -> dict[str, np.ndarray]:
    """What a single step of the preset's training makes of published weights, by their names."""
    sizes = ("image_size=107", "long_side=[107,120]", "batch_pairs=16", "pairing=rings", "epochs=1", "precision=fp32")
    settings = [word for size in (*sizes, *given) for word in ("--set", f"train-cls.{size}")]
    answer = call("train-cls", chain.folder / "shapes", "--preset", "lid20", "--weights", weights, *settings, cwd=cwd)
    assert answer.code == 0, answer.err
    made = open_store(cwd / ".mcis").get(answer.lines[0])
    assert made.manifest["provenance"]["computed"] == {"steps": 1}
    assert all(np.isfinite(value).all() for value in made.tensors().values())
    parts = ("backbone.trunk.", "pixel_correlation.")
    return {name.removeprefix(part): one for name, one in made.tensors().items() for part in parts if part in name}


@pytest.mark.slow
def test_a_step_of_the_challenge_learns_in_all_but_the_first_stages_and_batch_norm(call, chain, published, tmp_path):
    found = of_lid20(call, chain, "seam.pth", cwd=tmp_path)
    assert found.keys() == published.keys()
    moved = {name for name, value in published.items() if not np.array_equal(found[name], value)}
    convs = {name for name, value in published.items() if value.dim() == 4}
    assert moved == {name for name in convs if not name.startswith(("conv1a", "b2"))}
    for name in ("f8_3.weight", "f8_4.weight", "f9.weight"):
        assert np.abs(found[name] - published[name].numpy()).max() < 0.1 * np.abs(found[name]).max()


@pytest.mark.slow
def test_tensors_of_seam_arrive_by_way_of_the_store(call, chain, published, tmp_path):
    answer = call("import", "--weights", "seam.pth", "--backbone", "resnet38", cwd=tmp_path)
    assert answer.code == 0, answer.err
    imported = open_store(tmp_path / ".mcis").get(answer.lines[0])
    assert imported.tensors().keys() == published.keys()
    assert all(np.array_equal(imported.tensors()[name], value) for name, value in published.items())
    found = of_lid20(call, chain, imported.id[:12], "lr=1e-9", cwd=tmp_path)
    for name, value in published.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6)
