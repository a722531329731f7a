"""DeepLab-LargeFOV: shapes, field of view, and which parameters are new."""

import pytest
import torch
from torch import Tensor, nn

from mcis_cli.config import resolve
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.deeplab import DeepLabLargeFOV, enlarged
from mcis_cli.stages.engine.networks import build_segmenter, describe_segmenter

NUM_CLASSES = 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "lite0"])
def test_logits_have_network_resolution(name: str) -> None:
    backbone = build_backbone(name, role="segmentation")
    network = DeepLabLargeFOV(backbone, NUM_CLASSES, head_channels=8, dilation=12)
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, 48, 64))
    assert logits.shape == (2, NUM_CLASSES, 6, 8)


def test_field_of_view_is_the_dilated_kernel() -> None:
    """One cell of the features reaches nine cells of the logits, `dilation` apart."""
    network = DeepLabLargeFOV(nn.Identity(), NUM_CLASSES, head_channels=8, dilation=3, num_features=3)
    features = torch.rand(1, 3, 9, 11, requires_grad=True)
    network(features)[0, 0, 4, 5].backward()
    reached = features.grad.abs().sum(1)[0].nonzero().tolist()
    assert reached == [[row, column] for row in (1, 4, 7) for column in (2, 5, 8)]


def test_dropout_works_in_training_only() -> None:
    network = DeepLabLargeFOV(nn.Identity(), NUM_CLASSES, head_channels=8, dilation=1, dropout=0.5, num_features=3)
    features = torch.rand(1, 3, 4, 5)

    def varies() -> bool:
        return not torch.equal(network(features), network(features))

    torch.manual_seed(0)
    assert varies()
    network.eval()
    assert not varies()


def test_new_parameters_are_those_of_the_head() -> None:
    backbone = build_backbone("lite0", role="segmentation")
    network = DeepLabLargeFOV(backbone, NUM_CLASSES, head_channels=8, dilation=12)
    new = network.new_parameters()
    assert [tuple(parameter.shape) for parameter in new[::2]] == [(8, 320, 3, 3), (8, 8, 1, 1), (NUM_CLASSES, 8, 1, 1)]
    assert len(new) == 6


def test_head_follows_the_generator() -> None:
    def first_weight(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return DeepLabLargeFOV(
            nn.Identity(), 2, head_channels=8, dilation=1, num_features=3, generator=generator
        ).new_parameters()[0]

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))


# Facts of DeepLab-LargeFOV's network on VGG-16 (Chen et al. 2015, and OAA after it): kernel, stride, padding, dilation.
LARGE_FOV = [
    *[("conv", 64, 3, 1, 1, 1)] * 2,
    ("max", None, 3, 2, 1, 1),
    *[("conv", 128, 3, 1, 1, 1)] * 2,
    ("max", None, 3, 2, 1, 1),
    *[("conv", 256, 3, 1, 1, 1)] * 3,
    ("max", None, 3, 2, 1, 1),
    *[("conv", 512, 3, 1, 1, 1)] * 3,
    ("max", None, 3, 1, 1, 1),
    *[("conv", 512, 3, 1, 2, 2)] * 3,
    ("max", None, 3, 1, 1, 1),
    ("average", None, 3, 1, 1, 1),
    ("conv", 1024, 3, 1, 12, 12),
    ("dropout", 0.5, None, None, None, None),
    ("conv", 1024, 1, 1, 0, 1),
    ("dropout", 0.5, None, None, None, None),
    ("conv", 21, 1, 1, 0, 1),
]


def large_fov() -> DeepLabLargeFOV:
    config = resolve({"train-seg": {"backbone": "vgg16"}}, "paper").train_seg
    with torch.device("meta"):
        network = build_segmenter(describe_segmenter(config, 21))
    assert isinstance(network, DeepLabLargeFOV)
    return network


def facts(layer: nn.Module) -> tuple[object, ...] | None:
    def one(value: object) -> object:
        return value[0] if isinstance(value, tuple) else value

    if isinstance(layer, nn.Conv2d):
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return ("conv", layer.out_channels, *map(one, geometry))
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(layer, nn.MaxPool2d) else "average"
        return (kind, None, *map(one, (layer.kernel_size, layer.stride, layer.padding)), 1)
    return ("dropout", layer.p, None, None, None, None) if isinstance(layer, nn.Dropout) else None


def test_vgg16_is_deeplab_large_fov_layer_by_layer() -> None:
    found = [one for layer in large_fov().modules() if (one := facts(layer)) is not None]
    assert found == LARGE_FOV


@pytest.mark.parametrize(("side", "sides"), [(65, [33, 17, 9]), (321, [161, 81, 41])])
def test_pools_of_large_fov_keep_the_grid_of_8k_plus_1_pixels(side: int, sides: list[int]) -> None:
    found: list[int] = []
    pools = [layer for layer in large_fov().modules() if isinstance(layer, nn.MaxPool2d)]
    shown = torch.zeros(1, 1, side, side)
    for pool in pools[:3]:
        shown = pool(shown)
        found.append(shown.shape[-1])
    assert found == sides


def small_head() -> DeepLabLargeFOV:
    return DeepLabLargeFOV(nn.Identity(), 21, head_channels=16, dilation=12, num_features=3)


def published_layers() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (64, 3 * 49), "0.bias": (64,), "3.weight": (64, 64), "3.bias": (64,)}
    return {f"classifier.{name}": torch.rand(shape, generator=draw) for name, shape in shapes.items()}


def test_fc6_and_fc7_are_decimated_from_the_fully_connected_layers_of_imagenet() -> None:
    """16 of 64 outputs here, as 1024 of 4096 on VGG-16."""
    network, state = small_head(), published_layers()
    assert network.initialise_fully_connected(state)
    fc6, fc7 = network.head[0], network.head[3]
    assert isinstance(fc6, nn.Conv2d)
    assert isinstance(fc7, nn.Conv2d)
    published = state["classifier.0.weight"].view(64, 3, 7, 7)
    assert fc6.weight[5, 2, 1, 2] == published[20, 2, 3, 6]
    assert fc7.weight[3, 9, 0, 0] == state["classifier.3.weight"][12, 36]
    assert fc6.bias is not None
    assert fc6.bias[15] == state["classifier.0.bias"][60]
    assert [tuple(one.shape) for one in network.new_parameters()] == [(21, 16, 1, 1), (21,)]


@pytest.mark.parametrize("missing", ["classifier.0.weight", "classifier.3.bias"])
def test_without_fully_connected_layers_the_head_starts_anew(missing: str) -> None:
    network, state = small_head(), published_layers()
    del state[missing]
    before = [parameter.clone() for parameter in network.head.parameters()]
    assert not network.initialise_fully_connected(state)
    assert all(torch.equal(*pair) for pair in zip(before, network.head.parameters(), strict=True))
    assert len(network.new_parameters()) == 6


def test_scores_with_aligned_corners_are_those_of_caffe_on_8k_plus_1_pixels() -> None:
    """Caffe's Interp with zoom factor 8: pixel 8i has the score of cell i, and lines lie between."""
    logits = torch.rand(1, 2, 3, 4)
    found = enlarged(logits, (17, 25), align_corners=True)
    torch.testing.assert_close(found[:, :, ::8, ::8], logits)
    torch.testing.assert_close(found[0, 0, 0, 3], (logits[0, 0, 0, 0] * 5 + logits[0, 0, 0, 1] * 3) / 8)
    assert not torch.allclose(enlarged(logits, (17, 25), align_corners=False)[:, :, ::8, ::8], logits)


def test_the_head_of_the_released_code_has_no_bias_before_the_scores() -> None:
    config = resolve({}, "released").train_seg
    description = describe_segmenter(config, 21)
    assert description["head_bias"] is False
    network = DeepLabLargeFOV(
        nn.Identity(), 21, head_channels=256, dilation=12, bias=False, init="released", num_features=64
    )
    first, second, scores = (layer for layer in network.head if isinstance(layer, nn.Conv2d))
    assert (first.bias, second.bias) == (None, None)
    assert scores.bias is not None
    assert 0.95 < first.weight.abs().max() / (3 / (9 * 64)) ** 0.5 <= 1
    assert 0.95 < second.weight.abs().max() / (3 / 256) ** 0.5 <= 1
    assert scores.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.1)
