"""The benchmarks: that they run, and that their baselines compute what the package computes."""

import numpy as np
import pytest
import torch
from released_maps import released_maps

from benchmarks import plain
from benchmarks.__main__ import ROWS
from benchmarks.measuring import QUICK, alternate, at_least, at_most
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import fuse_saliency
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.losses import pair_loss

pytestmark = pytest.mark.heavy

LONG_ROWS = ("scaling", "engine", "scale", "memory")  # which start many processes


def test_ways_take_turns_and_the_first_turn_does_not_count():
    turns = []
    taken = alternate(3, one=lambda: turns.append("one"), other=lambda: turns.append("other"))
    assert turns == ["one", "other"] * 4
    assert taken.keys() == {"one", "other"}


def test_a_single_turn_counts_itself():
    turns = []
    assert alternate(1, one=lambda: turns.append("one"))["one"] > 0
    assert turns == ["one"]


def test_a_row_says_whether_it_reached_its_target():
    assert at_least("a", "b", 2.0, 1.5).reached
    assert not at_most("a", "b", 2.0, 1.5).reached


def test_the_plain_loss_is_that_of_the_package():
    torch.manual_seed(0)
    model = CoAttentionClassifier(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()), 4, num_features=8)
    image_m, image_n = torch.rand(2, 3, 3, 12, 16)
    labels_m, labels_n = (torch.rand(2, 3, 4) > 0.5).float()
    found = plain.pair_loss(model, image_m, image_n, labels_m, labels_n)
    expected = pair_loss(model.forward_pair(image_m, image_n), labels_m, labels_n).total
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_plain_released_maps_are_those_of_the_authors_code():
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU())
    model = CoAttentionClassifier(backbone, 4, num_features=8, heads="separate")
    with torch.no_grad():
        model.co_class_head.weight.normal_()
        model.co_attention.affinity_weight.normal_(std=4)
    image, small, large = (torch.rand(1, 3, size, size) for size in (32, 24, 64))
    views = {"plain": image, "mirror": image.flip(-1), "smaller": small, "larger": large}
    others = {k: [torch.rand(1, 3, 32, 32) for _ in range(2)] for k in (0, 3)}
    with torch.inference_mode():
        features = {name: backbone(view)[0].double().numpy() for name, view in views.items()}
        of_others = {k: [backbone(one)[0].double().numpy() for one in some] for k, some in others.items()}
    weight = model.co_attention.affinity_weight.detach().double().numpy().T
    head = model.co_class_head.weight.detach().double().numpy()[:, :, 0, 0]
    expected = released_maps(features, of_others, weight, head)
    found = 255 * plain.released_maps(model, list(views.values()), others)
    assert np.abs(found - np.stack([expected[0], expected[3]])).max() <= 1.001
    assert np.mean(np.abs(found - np.stack([expected[0], expected[3]])) > 0.5) < 0.05


def test_the_plain_mask_is_that_of_the_package():
    draw = np.random.default_rng(0)
    maps = draw.random((2, 8, 10), dtype=np.float32)
    saliency = draw.integers(0, 256, (40, 50), dtype=np.uint8)
    rules = {"foreground_threshold": 0.3, "conflict_threshold": 0.99, "salient_threshold": 32 / 255}
    enlarged = normalise(enlarge(maps, 40, 50), "minmax")
    wide = saliency.astype(np.float32) / 255
    expected = fuse_saliency(enlarged, [1, 3], wide, **rules, confident_threshold=0.95, min_foreground=0.01)
    assert np.mean(plain.pseudo_mask(maps, [1, 3], saliency, 5) != expected) < 0.01  # two ways to enlarge


@pytest.mark.slow
@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.long if row in LONG_ROWS else ()) for row in ROWS])
def test_quick_rows_are_measured(row):
    rows = ROWS[row](QUICK)
    assert rows
    for found in rows:
        assert found.ratio > 0
        assert found.facts
