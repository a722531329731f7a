"""DeepLab-V3: shapes, its three rates, and batches that its batch norm cannot take."""

import pytest
import torch
from torch import nn

from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.deeplab import DeepLabV3

NUM_CLASSES = 5


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "resnet101", "lite0"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_logits_have_network_resolution(name, output_stride):
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride, role="segmentation")
        network = DeepLabV3(backbone, NUM_CLASSES, dilation=6).eval()
        logits = network(torch.rand(2, 3, 64, 96))
    assert logits.shape == (2, NUM_CLASSES, 64 // output_stride, 96 // output_stride)


def test_three_convolutions_look_as_far_as_the_rate_twice_and_three_times_it():
    network = DeepLabV3(nn.Identity(), NUM_CLASSES, dilation=6, num_features=3)
    rates = [m.dilation[0] for m in network.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert rates == [6, 12, 18]


def small(seed=0):
    torch.manual_seed(seed)
    return DeepLabV3(nn.Identity(), NUM_CLASSES, dilation=1, num_features=3)


def test_a_batch_of_one_trains_with_the_running_statistics_of_its_pooled_features():
    network = small().train()
    pooling = network.head[0].convs[-1]
    before = pooling[2].running_mean.clone()
    network(torch.rand(1, 3, 4, 6)).sum().backward()
    assert torch.equal(pooling[2].running_mean, before)
    assert pooling[1].weight.grad is not None
    network(torch.rand(2, 3, 4, 6))
    assert not torch.equal(pooling[2].running_mean, before)


def test_other_layers_of_the_head_keep_learning_their_statistics():
    network = small().train()
    norm = network.head[2]
    before = norm.running_mean.clone()
    network(torch.rand(1, 3, 4, 6))
    assert not torch.equal(norm.running_mean, before)
    network.eval()
    after = norm.running_mean.clone()
    network(torch.rand(2, 3, 4, 6))
    assert torch.equal(norm.running_mean, after)


def test_new_parameters_are_those_of_the_head():
    with torch.device("meta"):
        network = DeepLabV3(build_backbone("lite0", role="segmentation"), NUM_CLASSES, dilation=6)
    new = {id(parameter) for parameter in network.new_parameters()}
    named = {name for name, parameter in network.named_parameters() if id(parameter) in new}
    assert named == {name for name, _ in network.named_parameters() if name.startswith("head.")}
