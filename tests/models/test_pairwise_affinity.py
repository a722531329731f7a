"""AffinityNet: pairs, their labels, the loss, each against loops over positions; and the network on each backbone."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.pairwise_affinity import (
    PairwiseAffinity,
    affinities,
    affinity_loss,
    pair_labels,
    pair_offsets,
    reduced_labels,
)

HEIGHT, WIDTH, CHANNELS = 6, 9, 5
RADIUS = 5


def pairs():
    """Every two positions nearer than the radius, each pair once, the upper one (or the left one) first."""
    positions = list(product(range(HEIGHT), range(WIDTH)))
    for first, second in product(positions, positions):
        if first < second and math.dist(first, second) < RADIUS:
            yield first, second


def embedding(batch=2):
    return torch.randn(batch, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def labels(batch=2):
    values = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)
    return values[torch.randint(4, (batch, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))]


def test_radius_5_has_34_offsets_no_two_of_them_opposite():
    offsets = pair_offsets(RADIUS)
    assert len(offsets) == len(set(offsets)) == 34
    assert not {(-down, -right) for down, right in offsets} & set(offsets)
    assert all(math.hypot(*offset) < RADIUS for offset in offsets)


def test_affinities_are_those_of_a_loop_over_pairs():
    found, given = affinities(embedding(), pair_offsets(RADIUS)), embedding()
    number = {offset: index for index, offset in enumerate(pair_offsets(RADIUS))}
    expected = torch.zeros_like(found)
    for (y, x), (v, u) in pairs():
        distance = (given[:, :, y, x] - given[:, :, v, u]).abs().mean(1)
        expected[:, number[v - y, u - x], y, x] = torch.exp(-distance)
    torch.testing.assert_close(found, expected)
    assert (expected > 0).sum() == 2 * len(list(pairs()))


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (6, 3)])
def test_a_grid_smaller_than_the_radius_has_the_pairs_that_are_in_it(size):
    found = affinities(torch.zeros(1, 2, *size), pair_offsets(RADIUS))
    positions = list(product(*map(range, size)))
    num_pairs = sum(a < b and math.dist(a, b) < RADIUS for a, b in product(positions, positions))
    assert found.shape == (1, 34, *size)
    assert found.sum() == num_pairs  # equal positions have affinity 1


def test_labels_of_pairs_and_the_loss_are_those_of_a_loop_over_pairs():
    found, given = affinities(embedding(), pair_offsets(RADIUS)), labels()
    terms = {"background": [], "foreground": [], "negative": []}
    for image, ((y, x), (v, u)) in product(range(2), pairs()):
        here, there = int(given[image, y, x]), int(given[image, v, u])
        if 255 in (here, there):
            continue
        distance = (embedding()[image, :, y, x] - embedding()[image, :, v, u]).abs().mean()
        a = math.exp(-float(distance))
        if here != there:
            terms["negative"].append(-math.log(1 - a + 1e-5))
        else:
            terms["background" if here == 0 else "foreground"].append(-math.log(a + 1e-5))
    loss = affinity_loss(found, pair_labels(given, pair_offsets(RADIUS)))
    means = {name: sum(values) / len(values) for name, values in terms.items()}
    for name, mean in means.items():
        assert float(loss[name]) == pytest.approx(mean, rel=1e-5)
    expected = means["background"] / 4 + means["foreground"] / 4 + means["negative"] / 2
    assert float(loss["total"]) == pytest.approx(expected, rel=1e-5)


def test_a_pair_has_one_label_at_most_and_none_where_a_position_is_ignored():
    found = pair_labels(labels(), pair_offsets(RADIUS))
    assert (torch.stack(found).sum(0) <= 1).all()
    ignored = pair_labels(torch.full((1, HEIGHT, WIDTH), 255, dtype=torch.uint8), pair_offsets(RADIUS))
    assert not torch.stack(ignored).any()


def test_a_batch_without_any_pair_has_no_loss_and_a_gradient_of_zero():
    given = embedding(1).requires_grad_()
    nothing = pair_labels(torch.full((1, HEIGHT, WIDTH), 255, dtype=torch.uint8), pair_offsets(RADIUS))
    loss = affinity_loss(affinities(given, pair_offsets(RADIUS)), nothing)["total"]
    loss.backward()
    assert loss == 0
    assert (given.grad == 0).all()


def test_labels_are_reduced_to_what_most_of_a_cell_has():
    given = torch.tensor([[[0, 0, 3, 3], [0, 7, 255, 3]]], dtype=torch.uint8)
    assert reduced_labels(given, (1, 2)).tolist() == [[[0, 3]]]
    assert reduced_labels(given[:, :, 1:3], (1, 1)).item() == 0  # 0, 3, 7 and 255 once each: the minimum
    assert reduced_labels(given, (2, 4)).equal(given)


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "lite0"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_network_takes_three_levels_of_any_backbone(name, output_stride):
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride, role="segmentation")
        network = PairwiseAffinity(backbone)
        images = torch.zeros(1, 3, 64, 96)
        assert network(images).shape == (1, 448, 64 // output_stride, 96 // output_stride)


def test_a_backbone_without_batch_norm_has_group_norm_before_the_first_activation():
    with torch.device("meta"):
        plain, normalised = (PairwiseAffinity(build_backbone(name, role="segmentation")) for name in ("vgg16", "lite0"))
    groups = [module.num_groups for module in plain.modules() if isinstance(module, nn.GroupNorm)]
    assert groups == [8, 16, 32]
    assert not any(isinstance(module, nn.GroupNorm) for module in normalised.modules())


def test_the_new_layers_are_those_that_no_published_weights_fill():
    with torch.device("meta"):
        network = PairwiseAffinity(build_backbone("lite0", role="segmentation"))
    new = {id(parameter) for parameter in network.new_parameters()}
    named = [name for name, parameter in network.named_parameters() if id(parameter) in new]
    assert named == ["f8_3.weight", "f8_4.weight", "f8_5.weight", "f9.weight"]
