"""DeepLab-LargeFOV: shapes, field of view, and which parameters are new."""

import pytest
import torch
from torch import Tensor, nn

from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.deeplab import DeepLabLargeFOV

NUM_CLASSES = 5


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
