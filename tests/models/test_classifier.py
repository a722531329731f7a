"""The co-attention classifier against the equations written out on features, and what its parts promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier, PairScores
from mcis_cli.models.co_attention import (
    attended_activations,
    co_attend,
    contrastive_attention,
    query,
    weigh_activations,
)
from mcis_cli.models.reference import contrastive

NUM_FOREGROUND, CHANNEL = 4, 6


class TinyBackbone(nn.Module):
    """A strided convolution with ReLU, which counts its calls."""

    num_features = CHANNEL

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNEL, 3, stride=2, padding=1)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(images).relu()


def make_classifier(seed: int = 0, **options: str) -> CoAttentionClassifier:
    """A classifier in float64 whose new layers are far from their small initial values."""
    torch.manual_seed(seed)
    classifier = CoAttentionClassifier(TinyBackbone(), NUM_FOREGROUND, **options).double()
    with torch.no_grad():
        for parameter in classifier.new_parameters():
            parameter.normal_()
    return classifier


def make_images(seed: int = 0, size_n: tuple[int, int] = (9, 7)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image_m = torch.rand(2, 3, 6, 10, generator=generator, dtype=torch.float64)
    return image_m, torch.rand(2, 3, *size_n, generator=generator, dtype=torch.float64)


def plain_scores(classifier: CoAttentionClassifier, image_m: Tensor, image_n: Tensor) -> PairScores:
    """Eq. 1-9 as the paper writes them: features first, then the head, then the mean over positions."""
    features_m, features_n = classifier.features(image_m), classifier.features(image_n)
    coattentive_m, coattentive_n = co_attend(features_m, features_n, classifier.co_attention.affinity_weight)
    co_head = classifier.co_class_head or classifier.class_head
    contrastive_m = features_m * (1 - classifier.co_attention.mask_conv(coattentive_m).sigmoid())
    contrastive_n = features_n * (1 - classifier.co_attention.mask_conv(coattentive_n).sigmoid())
    return PairScores(
        classifier.class_head(features_m).mean((2, 3)),
        classifier.class_head(features_n).mean((2, 3)),
        co_head(coattentive_m).mean((2, 3)),
        co_head(coattentive_n).mean((2, 3)),
        co_head(contrastive_m).mean((2, 3)),
        co_head(contrastive_n).mean((2, 3)),
    )


@pytest.mark.parametrize("heads", ["shared", "separate"])
@pytest.mark.parametrize("size_n", [(6, 10), (9, 7)])
def test_forward_pair_equals_the_equations_on_features(heads: str, size_n: tuple[int, int]) -> None:
    classifier = make_classifier(heads=heads)
    image_m, image_n = make_images(size_n=size_n)
    result = classifier.forward_pair(image_m, image_n)
    for got, expected in zip(result, plain_scores(classifier, image_m, image_n), strict=True):
        assert got.shape == (2, NUM_FOREGROUND)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("heads", ["shared", "separate"])
def test_gradients_equal_those_of_the_equations_on_features(heads: str) -> None:
    classifier = make_classifier(heads=heads)
    image_m, image_n = make_images()
    parameters = list(classifier.parameters())
    weights = torch.randn(6, 2, NUM_FOREGROUND, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    fast = torch.autograd.grad((torch.stack(list(classifier(image_m, image_n))) * weights).sum(), parameters)
    plain = torch.autograd.grad(
        (torch.stack(list(plain_scores(classifier, image_m, image_n))) * weights).sum(), parameters
    )
    for got, expected in zip(fast, plain, strict=True):
        assert got.abs().sum() > 0
        torch.testing.assert_close(got, expected)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_swapping_the_pair_swaps_the_scores_under_the_transposed_weight(seed: int) -> None:
    classifier = make_classifier(seed)
    image_m, image_n = make_images(seed)
    scores = classifier.forward_pair(image_m, image_n)
    with torch.no_grad():
        classifier.co_attention.affinity_weight.copy_(classifier.co_attention.affinity_weight.T.clone())
    swapped = classifier.forward_pair(image_n, image_m)
    for index in range(0, 6, 2):
        torch.testing.assert_close(swapped[index], scores[index + 1])
        torch.testing.assert_close(swapped[index + 1], scores[index])


def test_multi_round_maps_as_the_explanation_page_makes_them() -> None:
    """`docs/explanation/co-attention.md`: two classes over three references, beside the equations on features."""
    classifier = make_classifier(heads="separate")
    classes = [1, 3]
    image_m = make_images()[0][:1]
    references = torch.rand(3, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    features_m, features_r = classifier.features(image_m), classifier.features(references)
    activation_maps_m = classifier.activation_maps(features_m, co=True)[:, classes]

    query_m = query(features_m[0], classifier.co_attention.affinity_weight)
    mask_logits_r = classifier.co_attention.mask_conv(features_r)
    activations_r = torch.cat([classifier.activation_maps(features_r, co=True)[:, classes], mask_logits_r], dim=1)
    attended = attended_activations(query_m, features_r, activations_r)
    unshared = contrastive_attention(attended[:, -1:].sigmoid())
    contrastive_maps = weigh_activations(activation_maps_m.expand(3, -1, -1, -1), unshared, None)

    for index in range(3):
        weight, mask_conv = classifier.co_attention.affinity_weight, classifier.co_attention.mask_conv
        coattentive_m, _ = co_attend(features_m, features_r[index : index + 1], weight)
        plain = classifier.co_class_head(coattentive_m)[0, classes]
        plain_contrastive = classifier.co_class_head(contrastive(features_m, coattentive_m, mask_conv))
        torch.testing.assert_close(attended[index, :-1], plain)
        torch.testing.assert_close(contrastive_maps[index], plain_contrastive[0, classes])


def test_images_of_one_size_share_one_backbone_call() -> None:
    classifier = make_classifier()
    classifier.forward_pair(*make_images(size_n=(6, 10)))
    assert classifier.backbone.calls == 1
    classifier.forward_pair(*make_images(size_n=(9, 7)))
    assert classifier.backbone.calls == 3


def test_only_the_terms_asked_for_are_scored() -> None:
    classifier = make_classifier()
    images = make_images()
    full = classifier.forward_pair(*images)
    basic = classifier.forward_pair(*images, terms={"basic"})
    co_attention = classifier.forward_pair(*images, terms={"basic", "co_attention"})
    contrastive = classifier.forward_pair(*images, terms={"contrastive"})
    assert basic[2:] == (None, None, None, None)
    assert co_attention[4:] == (None, None)
    assert contrastive[2:4] == (None, None)
    torch.testing.assert_close(basic.scores_n, full.scores_n)
    torch.testing.assert_close(co_attention.common_scores_m, full.common_scores_m)
    torch.testing.assert_close(contrastive.unshared_scores_n, full.unshared_scores_n)


def test_activation_maps_average_to_the_scores() -> None:
    classifier = make_classifier()
    image_m, image_n = make_images()
    activation_maps_m = classifier.activation_maps(classifier.features(image_m))
    assert activation_maps_m.shape == (2, NUM_FOREGROUND, 3, 5)
    torch.testing.assert_close(activation_maps_m.mean((2, 3)), classifier.forward_pair(image_m, image_n).scores_m)


def test_shared_head_has_a_bias_and_the_second_head_has_none() -> None:
    assert make_classifier().co_class_head is None
    separate = make_classifier(heads="separate")
    assert separate.class_head.bias is not None
    assert separate.co_class_head.bias is None
    features = separate.features(make_images()[0])
    torch.testing.assert_close(separate.activation_maps(features, co=True), separate.co_class_head(features))


def test_scores_are_float32_inside_autocast() -> None:
    classifier = make_classifier().float()
    image_m, image_n = (image.float() for image in make_images())
    exact = classifier.forward_pair(image_m, image_n)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = classifier.forward_pair(image_m, image_n)
    for got, expected in zip(result, exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=0.05, atol=0.1)


@pytest.mark.slow
def test_new_parameters_are_all_but_the_published_ones() -> None:
    backbone = build_backbone("vgg16")
    classifier = CoAttentionClassifier(backbone, NUM_FOREGROUND, heads="separate")
    new = {id(parameter) for parameter in classifier.new_parameters()}
    published = {id(parameter) for parameter in backbone.trunk.parameters()}
    assert new | published == {id(parameter) for parameter in classifier.parameters()}
    assert not new & published
    assert len(new) == 6 + 3 + 3


def test_a_backbone_that_does_not_state_its_channels_is_asked_with_a_blank_image() -> None:
    classifier = CoAttentionClassifier(nn.Sequential(nn.Conv2d(3, 7, 5), nn.ReLU()), NUM_FOREGROUND)
    assert classifier.co_attention.affinity_weight.shape == (7, 7)


def test_new_layers_follow_the_generator() -> None:
    first, again = (
        CoAttentionClassifier(TinyBackbone(), 3, heads="separate", generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    for parameter, copy in zip(first.new_parameters(), again.new_parameters(), strict=True):
        assert torch.equal(parameter, copy)


def test_new_layers_start_as_in_the_released_code_where_that_is_asked():
    num_foreground, channels = 20, 512
    torch.manual_seed(0)
    classifier = CoAttentionClassifier(
        nn.Conv2d(3, channels, 1),
        num_foreground,
        num_features=channels,
        heads="separate",
        new_layer_init="released",
        mask_bias=False,
    )
    assert classifier.class_head.weight.std().item() == pytest.approx((2 / num_foreground) ** 0.5, rel=0.05)
    assert not classifier.class_head.bias.any()
    bound = channels**-0.5
    for weight in (classifier.co_class_head.weight, classifier.co_attention.mask_conv.weight):
        assert 0.9 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert classifier.co_class_head.bias is None
    assert classifier.co_attention.mask_conv.bias is None
    assert 0.99 * bound < classifier.co_attention.affinity_weight.abs().max() <= bound
