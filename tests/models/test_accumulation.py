"""Maps accumulated over epochs (OAA): beside a loop over positions, and by the weights that each epoch left."""

import copy

import numpy as np
import pytest
import torch

from mcis_cli.models.accumulation import accumulated
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier


def loops(epochs: list[np.ndarray], num_labels: int) -> np.ndarray:
    """The rule, position by position."""
    num_classes, height, width = epochs[0].shape
    result = np.zeros(epochs[0].shape)
    for k in range(num_classes):
        taken = []
        for maps in epochs:
            means = [maps[c].mean() for c in range(num_classes)]
            if sum(mean > means[k] for mean in means) < num_labels:
                taken.append(maps[k])
        for one in taken or [epochs[-1][k]]:
            highest = max(one.max(), 0)
            for y in range(height):
                for x in range(width):
                    result[k, y, x] = max(result[k, y, x], max(one[y, x], 0) / (highest + 1e-8))
    return result


@pytest.mark.parametrize("num_labels", [0, 1, 2, 4])
@pytest.mark.parametrize("num_epochs", [1, 3])
def test_accumulated_maps_are_those_of_a_loop_over_positions(num_epochs: int, num_labels: int) -> None:
    epochs = [np.random.default_rng(epoch).normal(-0.3, 1, (4, 3, 5)) for epoch in range(num_epochs)]
    found = accumulated(map(torch.from_numpy, epochs), num_labels)
    np.testing.assert_allclose(found.numpy(), loops(epochs, num_labels), rtol=0, atol=1e-12)


def test_a_class_counts_where_it_is_predicted_and_by_its_last_map_where_it_never_is() -> None:
    """By hand: the first class is predicted in the first epoch alone, the third one never."""
    first = torch.tensor([[[4.0, 2.0]], [[1.0, 0.0]], [[0.0, 0.2]]])
    last = torch.tensor([[[1.0, 4.0]], [[9.0, 3.0]], [[0.1, 0.2]]])
    expected = torch.tensor([[[1.0, 0.5]], [[1.0, 1 / 3]], [[0.5, 1.0]]])
    torch.testing.assert_close(accumulated([first, last], 1), expected)


@pytest.mark.parametrize(("frozen_stages", "new_layers"), [(5, 1), (4, 0)])
def test_kept_epochs_give_the_maps_of_the_networks_of_those_epochs(frozen_stages: int, new_layers: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("lite0", output_stride=16, new_layers=new_layers)
    backbone.freeze_stages(frozen_stages)
    model = CoAttentionClassifier(backbone, 3).eval()
    model.keep_epochs(2)
    assert model.kept_epochs is not None
    assert any("trunk" in name for name in model.kept_epochs.state_dict()) == (frozen_stages < 5)
    networks = []
    for epoch in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.01 * torch.randn_like(parameter)
        networks.append(copy.deepcopy(model))
        if epoch < 2:
            model.keep_epoch(epoch)
    image = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        found = list(model.maps_after_epochs(image))
        expected = [one.activation_maps(one.features(image)) for one in networks]
    assert len(found) == 3
    for after, maps in zip(found, expected, strict=True):
        torch.testing.assert_close(after, maps)
    assert not torch.allclose(expected[0], expected[2])
