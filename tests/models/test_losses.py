"""Losses of a pair against loops over images and classes, and how labels divide into common and unshared ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcis_cli.models.classifier import PairScores
from mcis_cli.models.losses import (
    basic_loss,
    co_attention_loss,
    common_labels,
    contrastive_loss,
    pair_loss,
    unshared_labels,
)

LABELS_M = torch.tensor([[1.0, 1, 0], [1, 0, 0]])
LABELS_N = torch.tensor([[1.0, 0, 1], [1, 0, 0]])


def make_scores(seed: int = 0, batch: int = 2, num_foreground: int = 3) -> PairScores:
    generator = torch.Generator().manual_seed(seed)
    return PairScores(*(3 * torch.randn(6, batch, num_foreground, generator=generator, dtype=torch.float64)))


def cross_entropy_by_loops(scores: Tensor, labels: Tensor) -> float:
    total = 0.0
    for sample, row in enumerate(scores.tolist()):
        for index, score in enumerate(row):
            probability = 1 / (1 + math.exp(-score))
            total -= math.log(probability if labels[sample, index] else 1 - probability)
    return total / scores.numel()


def pair_loss_by_loops(scores: PairScores, labels_m: Tensor, labels_n: Tensor) -> tuple[float, float, float]:
    common, only_m, only_n = (torch.zeros_like(labels_m) for _ in range(3))
    for sample in range(len(labels_m)):
        for index in range(labels_m.shape[1]):
            has_m, has_n = bool(labels_m[sample, index]), bool(labels_n[sample, index])
            common[sample, index] = has_m and has_n
            only_m[sample, index] = has_m and not has_n
            only_n[sample, index] = has_n and not has_m
    return (
        cross_entropy_by_loops(scores.scores_m, labels_m) + cross_entropy_by_loops(scores.scores_n, labels_n),
        cross_entropy_by_loops(scores.common_scores_m, common) + cross_entropy_by_loops(scores.common_scores_n, common),
        cross_entropy_by_loops(scores.unshared_scores_m, only_m)
        + cross_entropy_by_loops(scores.unshared_scores_n, only_n),
    )


multi_hot = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=2).map(torch.tensor)


@given(seed=st.integers(0, 2**32), labels_m=multi_hot, labels_n=multi_hot)
@settings(max_examples=50, deadline=None)
def test_pair_loss_equals_loops(seed: int, labels_m: Tensor, labels_n: Tensor) -> None:
    scores = make_scores(seed)
    loss = pair_loss(scores, labels_m, labels_n)
    expected = pair_loss_by_loops(scores, labels_m, labels_n)
    assert (loss.basic.item(), loss.co_attention.item(), loss.contrastive.item()) == pytest.approx(expected)
    assert loss.total.item() == pytest.approx(sum(expected))


@given(labels_m=multi_hot, labels_n=multi_hot)
@settings(max_examples=50, deadline=None)
def test_common_and_unshared_labels_partition_the_labels(labels_m: Tensor, labels_n: Tensor) -> None:
    common = common_labels(labels_m, labels_n)
    assert torch.equal(common, common_labels(labels_n, labels_m))
    assert torch.equal(common + unshared_labels(labels_m, labels_n), labels_m.float())
    assert torch.equal(common + unshared_labels(labels_n, labels_m), labels_n.float())


def test_labels_by_hand() -> None:
    assert common_labels(LABELS_M, LABELS_N).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert unshared_labels(LABELS_M, LABELS_N).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert unshared_labels(LABELS_N, LABELS_M).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_undecided_scores_cost_log_two_for_each_image() -> None:
    """A logit of zero is a probability of one half whatever the label: log 2 in the mean, for two images."""
    zeros = torch.zeros(2, 3)
    loss = pair_loss(PairScores(*[zeros] * 6), LABELS_M, LABELS_N)
    for term in (loss.basic, loss.co_attention, loss.contrastive):
        assert term.item() == pytest.approx(2 * math.log(2))
    assert loss.total.item() == pytest.approx(6 * math.log(2))


@given(seed=st.integers(0, 2**32), labels_m=multi_hot, labels_n=multi_hot)
@settings(max_examples=20, deadline=None)
def test_swapping_the_pair_keeps_the_loss(seed: int, labels_m: Tensor, labels_n: Tensor) -> None:
    scores = make_scores(seed)
    swapped = PairScores(*(scores[index ^ 1] for index in range(6)))
    torch.testing.assert_close(
        pair_loss(swapped, labels_n, labels_m).total, pair_loss(scores, labels_m, labels_n).total
    )


def test_boolean_and_float_labels_cost_the_same() -> None:
    scores = make_scores()
    assert pair_loss(scores, LABELS_M, LABELS_N) == pair_loss(scores, LABELS_M.bool(), LABELS_N.bool())


def test_mean_weighting_halves_the_first_two_terms_only() -> None:
    scores = make_scores()
    by_sum, by_mean = (pair_loss(scores, LABELS_M, LABELS_N, weighting=weighting) for weighting in ("sum", "mean"))
    torch.testing.assert_close(by_mean.basic, by_sum.basic / 2)
    torch.testing.assert_close(by_mean.co_attention, by_sum.co_attention / 2)
    torch.testing.assert_close(by_mean.contrastive, by_sum.contrastive)


def test_unshared_rule_leaves_out_a_side_without_unshared_labels() -> None:
    """n has an extra class and m has none, so m's side counts under "always" only."""
    scores = make_scores()
    labels_m, labels_n = torch.tensor([[1, 0, 0], [1, 0, 0]]), torch.tensor([[1, 0, 1], [1, 0, 0]])
    always, unshared = (
        contrastive_loss(scores.unshared_scores_m, scores.unshared_scores_n, labels_m, labels_n, rule=rule)
        for rule in ("always", "unshared")
    )
    side_m = cross_entropy_by_loops(scores.unshared_scores_m, torch.zeros(2, 3))
    side_n = cross_entropy_by_loops(scores.unshared_scores_n, labels_n - labels_m)
    assert always.item() == pytest.approx(side_m + side_n)
    assert unshared.item() == pytest.approx(side_n)


def test_an_image_with_itself_has_common_labels_only() -> None:
    scores = make_scores()
    loss = pair_loss(scores, LABELS_M, LABELS_M, contrastive_rule="unshared")
    assert loss.contrastive == 0
    expected = basic_loss(scores.common_scores_m, scores.common_scores_n, LABELS_M, LABELS_M)
    torch.testing.assert_close(loss.co_attention, expected)
    torch.testing.assert_close(
        co_attention_loss(scores.common_scores_m, scores.common_scores_n, LABELS_M, LABELS_M), expected
    )


def test_missing_scores_and_a_switched_off_term_are_zero() -> None:
    scores = make_scores()
    basic_only = pair_loss(PairScores(*scores[:2]), LABELS_M, LABELS_N)
    assert basic_only.co_attention == basic_only.contrastive == 0
    assert basic_only.total == basic_only.basic > 0
    assert pair_loss(scores, LABELS_M, LABELS_N, contrastive=False).contrastive == 0


def test_large_logits_stay_finite_with_finite_gradients() -> None:
    scores = PairScores(*(torch.full((2, 3), 1e4, requires_grad=True) for _ in range(6)))
    loss = pair_loss(scores, LABELS_M, LABELS_N)
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(score.grad.isfinite().all() for score in scores)
