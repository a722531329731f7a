"""Co-attention against loops over positions, its invariants, and the cheap inference against the plain forward."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mcis_cli.models.co_attention import (
    CoAttention,
    affinity,
    attended_activations,
    attention,
    co_attend,
    contrastive_attention,
    mix,
    query,
    weigh_activations,
)
from mcis_cli.models.reference import common_mask, contrastive

CHANNEL, HEIGHT_M, WIDTH_M, HEIGHT_N, WIDTH_N = 5, 3, 4, 2, 6


def make_pair(seed: int = 0, dtype: torch.dtype = torch.float64, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Non-negative features of two images of different size, and W_P, which is not symmetric."""
    generator = torch.Generator().manual_seed(seed)
    features_m = torch.rand(batch, CHANNEL, HEIGHT_M, WIDTH_M, generator=generator, dtype=dtype)
    features_n = torch.rand(batch, CHANNEL, HEIGHT_N, WIDTH_N, generator=generator, dtype=dtype)
    affinity_weight = torch.randn(CHANNEL, CHANNEL, generator=generator, dtype=dtype)
    return features_m, features_n, affinity_weight


def co_attend_by_loops(features_m: Tensor, features_n: Tensor, affinity_weight: Tensor) -> Tensor:
    """F_m^{m∩n} of one image, position by position, from Eq. 2-4 in plain Python."""
    channel, height, width = features_m.shape
    positions_n = [(y, x) for y in range(features_n.shape[1]) for x in range(features_n.shape[2])]
    result = torch.zeros_like(features_m)
    for y in range(height):
        for x in range(width):
            logits = [
                sum(
                    float(features_m[i, y, x] * affinity_weight[i, j] * features_n[j, v, u])
                    for i in range(channel)
                    for j in range(channel)
                )
                for v, u in positions_n
            ]
            total = sum(math.exp(logit) for logit in logits)
            for logit, (v, u) in zip(logits, positions_n, strict=True):
                result[:, y, x] += math.exp(logit) / total * features_n[:, v, u]
    return result


def test_co_attend_equals_loops_over_positions() -> None:
    features_m, features_n, affinity_weight = make_pair()
    coattentive_m, coattentive_n = co_attend(features_m, features_n, affinity_weight)
    for sample in range(2):
        expected_m = co_attend_by_loops(features_m[sample], features_n[sample], affinity_weight)
        expected_n = co_attend_by_loops(features_n[sample], features_m[sample], affinity_weight.T)
        torch.testing.assert_close(coattentive_m[sample], expected_m)
        torch.testing.assert_close(coattentive_n[sample], expected_n)


def test_affinity_by_hand() -> None:
    """One channel, W_P = 2: P is twice the outer product of the features."""
    features_m = torch.tensor([[[1.0, 3.0]]])
    features_n = torch.tensor([[[5.0, 7.0, 0.5]]])
    expected = torch.tensor([[[10.0, 14.0, 1.0], [30.0, 42.0, 3.0]]])
    torch.testing.assert_close(affinity(features_m, features_n, torch.tensor([[2.0]])), expected)


def test_attention_by_hand() -> None:
    """P = [[0, log 3]]: m has one position, so A_m is one; n's two positions get 1/4 and 3/4."""
    attention_over_m, attention_over_n = attention(torch.tensor([[[0.0, math.log(3)]]]))
    torch.testing.assert_close(attention_over_m, torch.ones(1, 1, 2))
    torch.testing.assert_close(attention_over_n, torch.tensor([[[0.25], [0.75]]]))


def test_affinity_is_summed_in_float32_inside_autocast() -> None:
    """Only W_P F_n is bfloat16 there."""
    features_m, features_n, affinity_weight = make_pair(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = affinity(features_m.flatten(2), features_n.flatten(2), affinity_weight)
    half = [tensor.bfloat16() for tensor in (affinity_weight, features_n.flatten(2))]
    expected = features_m.flatten(2).mT @ (half[0] @ half[1]).float()
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@given(seed=st.integers(0, 2**32), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_each_attention_sums_to_one_over_its_own_positions(seed: int, scale: float) -> None:
    features_m, features_n, affinity_weight = make_pair(seed)
    attention_over_m, attention_over_n = attention(
        affinity(scale * features_m.flatten(2), features_n.flatten(2), affinity_weight)
    )
    torch.testing.assert_close(attention_over_m.sum(1), torch.ones(2, HEIGHT_N * WIDTH_N, dtype=torch.float64))
    torch.testing.assert_close(attention_over_n.sum(1), torch.ones(2, HEIGHT_M * WIDTH_M, dtype=torch.float64))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_swapping_the_pair_and_transposing_the_weight_swaps_the_outputs(seed: int) -> None:
    features_m, features_n, affinity_weight = make_pair(seed)
    coattentive_m, coattentive_n = co_attend(features_m, features_n, affinity_weight)
    swapped_n, swapped_m = co_attend(features_n, features_m, affinity_weight.T)
    torch.testing.assert_close(swapped_m, coattentive_m)
    torch.testing.assert_close(swapped_n, coattentive_n)


@given(seed=st.integers(0, 2**32), order=st.permutations(range(HEIGHT_N * WIDTH_N)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_positions_of_n_does_not_matter_to_m(seed: int, order: list[int]) -> None:
    features_m, features_n, affinity_weight = make_pair(seed)
    shuffled_n = features_n.flatten(2)[:, :, order].reshape(features_n.shape)
    coattentive_m, coattentive_n = co_attend(features_m, features_n, affinity_weight)
    shuffled_coattentive_m, shuffled_coattentive_n = co_attend(features_m, shuffled_n, affinity_weight)
    torch.testing.assert_close(shuffled_coattentive_m, coattentive_m)
    torch.testing.assert_close(shuffled_coattentive_n.flatten(2), coattentive_n.flatten(2)[:, :, order])


def test_co_attentive_features_stay_between_the_other_images_extremes() -> None:
    features_m, features_n, affinity_weight = make_pair()
    coattentive_m, _ = co_attend(features_m, features_n, affinity_weight)
    low, high = features_n.flatten(2).amin(2)[..., None, None], features_n.flatten(2).amax(2)[..., None, None]
    assert ((coattentive_m >= low - 1e-12) & (coattentive_m <= high + 1e-12)).all()


def test_co_attend_does_not_modify_its_arguments() -> None:
    pair = make_pair()
    before = [tensor.clone() for tensor in pair]
    co_attend(*pair)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(pair, before, strict=True))


def test_mixing_activations_equals_activating_mixed_features() -> None:
    features_m, features_n, affinity_weight = make_pair()
    class_head = nn.Conv2d(CHANNEL, 3, 1).double()
    _, attention_over_n = attention(affinity(features_m.flatten(2), features_n.flatten(2), affinity_weight))
    plain = class_head(mix(features_n, attention_over_n, (HEIGHT_M, WIDTH_M)))
    torch.testing.assert_close(mix(class_head(features_n), attention_over_n, (HEIGHT_M, WIDTH_M)), plain)


@pytest.mark.parametrize("bias", [True, False])
def test_weighing_activations_equals_activating_weighted_features(bias: bool) -> None:
    features_m, _, _ = make_pair()
    class_head = nn.Conv2d(CHANNEL, 3, 1, bias=bias).double()
    weight = torch.rand(2, 1, HEIGHT_M, WIDTH_M, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = weigh_activations(class_head(features_m), weight, class_head.bias)
    torch.testing.assert_close(result, class_head(features_m * weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attended_activations_equal_the_plain_forward_of_each_pair(dtype: torch.dtype) -> None:
    """One query for three references in one call, against three pairs and the features of Eq. 4."""
    torch.manual_seed(0)
    _, references, affinity_weight = make_pair(dtype=dtype, batch=3)
    features_m = make_pair(seed=1, dtype=dtype, batch=1)[0]
    class_head = nn.Conv2d(CHANNEL, 4, 1, dtype=dtype)
    query_m = query(features_m[0], affinity_weight)
    result = attended_activations(query_m, references, class_head(references))
    for index in range(3):
        coattentive_m, _ = co_attend(features_m, references[index : index + 1], affinity_weight)
        torch.testing.assert_close(result[index], class_head(coattentive_m)[0], rtol=1e-5, atol=1e-5)
        alone = attended_activations(query_m, references[index], class_head(references[index]))
        torch.testing.assert_close(alone, result[index])


def test_attended_mask_gives_the_contrastive_activations_of_the_plain_forward() -> None:
    """W_B F_r shares the softmax with the classes; the rest of Eq. 6-9 needs no features either."""
    features_m, features_r, _ = make_pair(dtype=torch.float32, batch=1)
    co_attention = CoAttention(CHANNEL, generator=torch.Generator().manual_seed(2))
    class_head = nn.Conv2d(CHANNEL, 4, 1)
    coattentive_m, _ = co_attend(features_m, features_r, co_attention.affinity_weight)
    plain = class_head(contrastive(features_m, coattentive_m, co_attention.mask_conv))

    mask_logit_r = co_attention.mask_conv(features_r)[0]
    attended = attended_activations(query(features_m[0], co_attention.affinity_weight), features_r[0], mask_logit_r)
    unshared = contrastive_attention(attended.sigmoid())
    result = weigh_activations(class_head(features_m)[0], unshared, class_head.bias)
    torch.testing.assert_close(result, plain[0], rtol=1e-5, atol=1e-5)


def test_attended_activations_of_half_precision_references_are_float32() -> None:
    features_m, references, affinity_weight = make_pair(dtype=torch.float32)
    query_m = query(features_m[0], affinity_weight)
    exact = attended_activations(query_m, references, references[:, :2])
    for dtype in (torch.float16, torch.bfloat16):
        result = attended_activations(query_m, references.to(dtype), references[:, :2].to(dtype))
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, exact, rtol=0.05, atol=0.05)


def test_common_mask_and_contrastive_attention_sum_to_one() -> None:
    features_m, features_n, _ = make_pair(dtype=torch.float32)
    co_attention = CoAttention(CHANNEL, generator=torch.Generator().manual_seed(2))
    coattentive_m, _ = co_attend(features_m, features_n, co_attention.affinity_weight)
    common_mask_m = common_mask(coattentive_m, co_attention.mask_conv)
    assert common_mask_m.shape == (2, 1, HEIGHT_M, WIDTH_M)
    torch.testing.assert_close(common_mask_m + contrastive_attention(common_mask_m), torch.ones_like(common_mask_m))
    expected = features_m - features_m * common_mask_m
    torch.testing.assert_close(contrastive(features_m, coattentive_m, co_attention.mask_conv), expected)


def test_identity_start_makes_affinity_a_scaled_dot_product() -> None:
    features_m, features_n, _ = make_pair(dtype=torch.float32)
    weight = CoAttention(CHANNEL, affinity_init="identity").affinity_weight
    expected = features_m.flatten(2).mT @ features_n.flatten(2) / math.sqrt(CHANNEL)
    torch.testing.assert_close(affinity(features_m.flatten(2), features_n.flatten(2), weight), expected)


def test_scaled_affinities_are_cosines_at_the_start_whatever_the_strength_of_the_features() -> None:
    features_m, features_n, _ = make_pair()
    module = CoAttention(CHANNEL, affinity_init="identity", affinity_scale=20.0).double()
    flat = features_m.flatten(2).mT, features_n.flatten(2)
    cosine = flat[0] @ flat[1] / (flat[0].norm(dim=2)[:, :, None] * flat[1].norm(dim=1)[:, None])
    for strength in (1, 1000):
        over_m, over_n = module.attentions(strength * features_m, features_n)
        torch.testing.assert_close(over_n, (20 * cosine).softmax(2).mT)
        torch.testing.assert_close(over_m, (20 * cosine).softmax(1))


def test_scaled_affinities_are_eq_2_of_features_of_unit_length() -> None:
    features_m, features_n, weight = make_pair()
    module = CoAttention(CHANNEL, affinity_scale=7.0).double()
    with torch.no_grad():
        module.affinity_weight.copy_(weight)
    found = module.attentions(features_m, features_n)
    unit_m, unit_n = (features / features.norm(dim=1, keepdim=True) for features in (features_m, features_n))
    over_m, over_n = attention(7 * affinity(unit_m.flatten(2), unit_n.flatten(2), weight))
    torch.testing.assert_close(found, (over_m, over_n))


def test_positions_without_features_attend_evenly_and_do_not_stop_learning() -> None:
    features_m, features_n, _ = make_pair()
    features_m[:, :, 0, 0] = 0
    features_m.requires_grad_()
    module = CoAttention(CHANNEL, affinity_scale=45.0).double()
    over_m, over_n = module.attentions(features_m, features_n)
    torch.testing.assert_close(over_n[:, :, 0], torch.full_like(over_n[:, :, 0], 1 / over_n.shape[1]))
    (over_m.square().sum() + over_n.square().sum()).backward()
    assert features_m.grad is not None
    assert features_m.grad.isfinite().all()
    assert module.affinity_weight.grad is not None
    assert module.affinity_weight.grad.any()


def test_uniform_start_is_bounded_and_follows_the_generator() -> None:
    first, again = (CoAttention(64, generator=torch.Generator().manual_seed(3)).affinity_weight for _ in range(2))
    assert torch.equal(first, again)
    assert 0.9 / 8 < first.abs().max() <= 1 / 8


# Three W_P, by the domains of the pair


def three(seed: int = 0, channels: int = CHANNEL) -> CoAttention:
    """Co-attention with three matrices, none of them symmetric."""
    generator = torch.Generator().manual_seed(seed)
    return CoAttention(channels, affinity_weights="per-domain-pair", generator=generator).double()


KINDS = [(False, False), (False, True), (True, False), (True, True)]


def coattentive_by_loops(
    module: CoAttention, pair: tuple[Tensor, Tensor], is_single: tuple[bool, bool], *, is_first: bool = True
) -> Tensor:
    """F_m^{m∩n} with the W_P of the pair's domains, spelled out. Of a mixed pair the target is on the left of W_P, of
    others the first image: asked about the second one, `is_first` is false."""
    features_m, features_n = pair
    assert module.affinity_weight_single is not None
    assert module.affinity_weight_mixed is not None
    match is_single:
        case (False, False):
            weight = module.affinity_weight
            return co_attend_by_loops(features_m, features_n, weight if is_first else weight.T)
        case (True, True):
            weight = module.affinity_weight_single
            return co_attend_by_loops(features_m, features_n, weight if is_first else weight.T)
        case (False, True):
            return co_attend_by_loops(features_m, features_n, module.affinity_weight_mixed)
    # P of (target n, single m) is F_nᵀ W F_m; m looks along its transpose, so each logit is f_nᵀ W f_m all the same.
    height, width = features_m.shape[1:]
    result = torch.zeros_like(features_m)
    for y in range(height):
        for x in range(width):
            logits = torch.stack(
                [
                    features_n[:, v, u] @ module.affinity_weight_mixed @ features_m[:, y, x]
                    for v in range(features_n.shape[1])
                    for u in range(features_n.shape[2])
                ]
            )
            result[:, y, x] = features_n.flatten(1) @ logits.softmax(0)
    return result


@torch.no_grad()
def test_a_mixed_batch_equals_loops_over_its_pairs_each_with_the_weight_of_its_domains() -> None:
    module = three()
    features_m, features_n, _ = make_pair(batch=6)
    kinds = [*KINDS, (True, False), (False, True)]
    single_m, single_n = (torch.tensor([kind[side] for kind in kinds]) for side in (0, 1))
    over_m, over_n = module.attentions(features_m, features_n, single_m, single_n)
    found_m = mix(features_n, over_n, features_m.shape[2:])
    found_n = mix(features_m, over_m, features_n.shape[2:])
    for pair, kind in enumerate(kinds):
        m, n = features_m[pair], features_n[pair]
        torch.testing.assert_close(found_m[pair], coattentive_by_loops(module, (m, n), kind))
        torch.testing.assert_close(found_n[pair], coattentive_by_loops(module, (n, m), kind[::-1], is_first=False))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_swapping_the_pair_swaps_the_outputs_where_the_weight_is_one_of_two_domains(kind: tuple[bool, bool]) -> None:
    """Mixed pairs have one matrix, whichever comes first; those of one domain have a side for m and one for n."""
    module = three()
    weight, swapped = module.weight_of(*kind), module.weight_of(*kind[::-1])
    assert torch.equal(weight, swapped.T if kind[0] != kind[1] else swapped)


def test_only_the_weight_of_the_domains_that_are_there_learns() -> None:
    module = three()
    features_m, features_n, _ = make_pair(batch=2)
    for kind, learns in zip(KINDS, ("weight", "weight_mixed", "weight_mixed", "weight_single"), strict=True):
        module.zero_grad(set_to_none=True)
        single_m, single_n = (torch.tensor([kind[side]] * 2) for side in (0, 1))
        module.attentions(features_m, features_n, single_m, single_n)[0].square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters() if "affinity" in name}
        assert all(gradient is not None for gradient in gradients.values()), "ranks add gradients up name by name"
        assert {name for name, gradient in gradients.items() if gradient is not None and gradient.any()} == {
            f"affinity_{learns}"
        }


def test_the_gradient_of_a_mixed_batch_is_the_sum_of_those_of_its_pairs() -> None:
    module = three()
    features_m, features_n, _ = make_pair(batch=4)
    single_m, single_n = (torch.tensor([kind[side] for kind in KINDS]) for side in (0, 1))
    module.attentions(features_m, features_n, single_m, single_n)[1].square().sum().backward()
    together = [parameter.grad for parameter in module.affinity_parameters()]
    module.zero_grad(set_to_none=True)
    for pair, kind in enumerate(KINDS):
        sides = features_m[pair : pair + 1].flatten(2), features_n[pair : pair + 1].flatten(2)
        attention(affinity(*sides, module.weight_of(*kind)))[1].square().sum().backward()
    for found, parameter in zip(together, module.affinity_parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_query_of_maps_goes_with_the_weight_of_both_domains(kind: tuple[bool, bool]) -> None:
    module = three()
    features_m, features_n, _ = make_pair(batch=1)
    found = attended_activations(query(features_m[0], module.weight_of(*kind)), features_n[0], features_n[0])
    torch.testing.assert_close(found, coattentive_by_loops(module, (features_m[0], features_n[0]), kind))


def test_one_weight_is_what_there_was_and_serves_every_domain() -> None:
    """Tensors, their names, order and values are those of a network that knows of no domains."""
    shared, other = (
        CoAttention(CHANNEL, affinity_weights=kind, generator=torch.Generator().manual_seed(1))
        for kind in ("shared", "per-domain-pair")
    )
    assert list(shared.state_dict()) == ["affinity_weight", "mask_conv.weight", "mask_conv.bias"]
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in shared.state_dict().items())
    assert all(shared.weight_of(*kind) is shared.affinity_weight for kind in KINDS)
    ones = torch.ones(2, dtype=torch.bool)
    assert shared.weights_of(ones, ones) is shared.affinity_weight
