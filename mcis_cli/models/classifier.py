"""The co-attention classifier: image-level scores of a pair from basic, co-attentive and contrastive features (§3.1).

Scores are logits; the losses on them are in `losses`. The class head φ is a 1×1 convolution, so it is applied to each
image's features once and its few activation maps are mixed, masked and averaged: equal to Eq. 4-9, at a fraction.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from mcis_cli.models.accumulation import KeptEpochs
from mcis_cli.models.backbones import Backbone
from mcis_cli.models.co_attention import (
    AffinityInit,
    AffinityWeights,
    CoAttention,
    common_mask,
    contrastive_attention,
    mix,
    weigh_activations,
)
from mcis_cli.models.equivariance import PixelCorrelation, ViewMaps, cues_of, refine
from mcis_cli.models.layers import at_least_float32, average, new_conv, num_features_of

NewLayerInit = Literal["gaussian", "released"]
Term = Literal["basic", "co_attention", "contrastive"]
ALL_TERMS: frozenset[Term] = frozenset({"basic", "co_attention", "contrastive"})


class PairScores(NamedTuple):
    """Logits of a pair over the foreground classes; None for terms that were not requested.

    Attributes:
        scores_m, scores_n: From the image's own features (Eq. 1).
        common_scores_m, common_scores_n: From its co-attentive features (Eq. 5): classes the two images share.
        unshared_scores_m, unshared_scores_n: From its contrastive features (Eq. 9): classes only it has.
    """

    scores_m: Float[Tensor, "batch class"]
    scores_n: Float[Tensor, "batch class"]
    common_scores_m: Float[Tensor, "batch class"] | None = None
    common_scores_n: Float[Tensor, "batch class"] | None = None
    unshared_scores_m: Float[Tensor, "batch class"] | None = None
    unshared_scores_n: Float[Tensor, "batch class"] | None = None


class CoAttentionClassifier(nn.Module):
    """A backbone, the class head φ, and the two co-attentions between the images of a pair.

    Attributes:
        class_head: φ, with bias.
        co_class_head: The released code's second head, for co-attentive and contrastive features, without bias; None
            where φ is shared, as in the paper.
        co_attention: W_P and W_B.
        pixel_correlation: What refines maps, in an equivariant classifier; None in others.
        kept_epochs: The weights behind single-round maps after each epoch but the last; None where they are not kept.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_foreground: int,
        *,
        num_features: int | None = None,
        heads: Literal["shared", "separate"] = "shared",
        affinity_init: AffinityInit = "uniform",
        affinity_weights: AffinityWeights = "shared",
        affinity_scale: float | None = None,
        equivariant: bool = False,
        new_layer_init: NewLayerInit = "gaussian",
        mask_bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        """Put the new layers on a backbone.

        Args:
            backbone: From images (B, 3, H, W) to features (B, C, H', W'), non-negative.
            num_foreground: K, the number of classes without background.
            num_features: C; asked of the backbone where None.
            heads: One φ for all features (paper), or a second one (released code).
            affinity_init: How W_P starts, see `CoAttention`.
            affinity_weights: One W_P, or three, see `CoAttention`.
            affinity_scale: Where affinities are of features of unit length, the factor on them, see `CoAttention`.
            equivariant: With a pixel correlation module, on a `Backbone`.
            new_layer_init: How heads and W_B start: Gaussian of deviation 0.01; or as in the released code, the class
                head from a Gaussian of deviation √(2 / K), the second head and W_B from U(−1/√C, 1/√C).
            mask_bias: Whether W_B has a bias; it has none in the released code.
            generator: Source of the new layers' weights; torch's own where None.
        """
        super().__init__()
        channels = num_features_of(backbone) if num_features is None else num_features
        self.backbone = backbone
        std, bound = ((2 / num_foreground) ** 0.5, channels**-0.5) if new_layer_init == "released" else (0.01, None)
        new_head = partial(new_conv, channels, num_foreground, generator=generator)
        self.class_head = new_head(std=std)
        self.co_class_head = new_head(bias=False, std=0.01, bound=bound) if heads == "separate" else None
        self.co_attention = CoAttention(
            channels,
            affinity_init=affinity_init,
            affinity_weights=affinity_weights,
            affinity_scale=affinity_scale,
            mask_bias=mask_bias,
            mask_bound=bound,
            generator=generator,
        )
        self.pixel_correlation = _pixel_correlation_of(backbone, generator) if equivariant else None
        self.kept_epochs: KeptEpochs | None = None

    def keep_epochs(self, count: int) -> None:
        """Allocate the learned weights behind single-round maps for a number of epochs."""
        self.kept_epochs = KeptEpochs(self._learning_for_maps(), count)

    def keep_epoch(self, epoch: int) -> None:
        """Store those weights after an epoch, counted from 0."""
        assert self.kept_epochs is not None
        self.kept_epochs.record(epoch, dict(self.named_parameters()))

    def _learning_for_maps(self) -> dict[str, Tensor]:
        makes_maps = ("backbone.", "class_head.")
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and name.startswith(makes_maps)
        }

    def features(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch channel h_out w_out"]:
        """Features F of normalised images."""
        return self.backbone(images)  # type: ignore[no-any-return]

    def features_and_embedding(
        self, images: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Float[Tensor, "batch channel h_out w_out"], Float[Tensor, "batch channel_embedded h_out w_out"]]:
        """Features F of normalised images, and the appearance of their positions to an equivariant classifier."""
        assert isinstance(self.backbone, Backbone)
        assert self.pixel_correlation is not None, "not equivariant"
        lower, middle, features = self.backbone.taps(images)
        return features, self.pixel_correlation(images, lower, middle, tuple(features.shape[2:]))

    def view_maps(
        self,
        features: Float[Tensor, "batch channel h w"],
        embedding: Float[Tensor, "batch channel_embedded h w"],
    ) -> ViewMaps:
        """Class activation maps of one view, unrefined and refined (SEAM; paper §4.4)."""
        maps = self.activation_maps(features)
        return ViewMaps(maps, refine(cues_of(maps), embedding))

    def activation_maps(
        self, features: Float[Tensor, "batch channel h w"], co: bool = False
    ) -> Float[Tensor, "batch class h w"]:
        """Class-aware activation maps S = φ(F), bias included.

        Args:
            features: F.
            co: Use the head for co-attentive and contrastive features, where it is another one.

        Returns:
            Logits of each class at each position.
        """
        return self._head(co)(features)  # type: ignore[no-any-return]

    def maps_after_epochs(
        self, images: Float[Tensor, "batch 3 h w"]
    ) -> Iterator[Float[Tensor, "batch class h_out w_out"]]:
        """Class activation maps by the weights after each kept epoch, and after the last; φ in float32."""
        assert isinstance(self.backbone, Backbone)
        weights = [*(self.kept_epochs or ()), dict(self.named_parameters())]
        is_frozen = not any(name.startswith("backbone.trunk.") for name in weights[0]) or len(weights) == 1
        inner, prefix = (
            (self.backbone.new_layers, "backbone.new_layers.") if is_frozen else (self.backbone, "backbone.")
        )
        shown = self.backbone.trunk(images) if is_frozen else images
        for after in weights:
            features = functional_call(inner, _under(prefix, after), (shown,))
            with torch.autocast(images.device.type, enabled=False):
                yield functional_call(self.class_head, _under("class_head.", after), (at_least_float32(features),))

    def forward_pair(
        self,
        image_m: Float[Tensor, "batch 3 h_m w_m"],
        image_n: Float[Tensor, "batch 3 h_n w_n"],
        *,
        terms: Set[Term] = ALL_TERMS,
        single_m: Bool[Tensor, " batch"] | None = None,
        single_n: Bool[Tensor, " batch"] | None = None,
    ) -> PairScores:
        """Scores of a pair of normalised images, whose sizes may differ (Eq. 1-9).

        Args:
            image_m: First images of the pairs.
            image_n: Second images.
            terms: Losses to compute scores for; "basic" is always there.
            single_m: Which first images are of a single-label source, where that has a W_P of its own (§3.2).
            single_n: Which second images are.

        Returns:
            Logits in float32 at least.
        """
        if image_m.shape == image_n.shape:
            features_m, features_n = self.features(torch.cat([image_m, image_n])).chunk(2)
        else:
            features_m, features_n = self.features(image_m), self.features(image_n)
        return self.pair_from_features(features_m, features_n, terms=terms, single_m=single_m, single_n=single_n)

    forward = forward_pair

    def pair_from_features(
        self,
        features_m: Float[Tensor, "batch channel h_m w_m"],
        features_n: Float[Tensor, "batch channel h_n w_n"],
        *,
        terms: Set[Term] = ALL_TERMS,
        single_m: Bool[Tensor, " batch"] | None = None,
        single_n: Bool[Tensor, " batch"] | None = None,
    ) -> PairScores:
        """Scores of a pair from its features (Eq. 1-9), so that one image's features can serve several pairs.

        Args:
            features_m: F_m.
            features_n: F_n.
            terms: Losses to compute scores for; "basic" is always there.
            single_m: As for `forward_pair`.
            single_n: As for `forward_pair`.

        Returns:
            Logits in float32 at least.
        """
        scores_m = average(self.activation_maps(features_m))
        scores_n = average(self.activation_maps(features_n))
        if not terms & {"co_attention", "contrastive"}:
            return PairScores(scores_m, scores_n)
        attention_over_m, attention_over_n = self.co_attention.attentions(features_m, features_n, single_m, single_n)
        common_m, unshared_m = self._cross_scores(features_m, features_n, attention_over_n, terms)
        common_n, unshared_n = self._cross_scores(features_n, features_m, attention_over_m, terms)
        return PairScores(scores_m, scores_n, common_m, common_n, unshared_m, unshared_n)

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters without published weights: those of the backbone's new layers, heads and co-attention."""
        own = [parameter for name, parameter in self.named_parameters() if not name.startswith("backbone.")]
        of_backbone: Callable[[], list[nn.Parameter]] = getattr(self.backbone, "new_parameters", list)
        return of_backbone() + own

    def _head(self, co: bool) -> nn.Conv2d:
        return self.co_class_head if co and self.co_class_head is not None else self.class_head

    def _cross_scores(
        self,
        features_m: Float[Tensor, "batch channel h_m w_m"],
        features_n: Float[Tensor, "batch channel h_n w_n"],
        attention_over_n: Float[Tensor, "batch hw_n hw_m"],
        terms: Set[Term],
    ) -> tuple[Float[Tensor, "batch class"] | None, Float[Tensor, "batch class"] | None]:
        """Scores of m's co-attentive and of its contrastive features, from n (Eq. 4-9)."""
        common_scores_m = unshared_scores_m = None
        if "co_attention" in terms:
            activation_maps_n = self.activation_maps(features_n, co=True)
            common_scores_m = average(mix(activation_maps_n, attention_over_n, features_m.shape[2:]))
        if "contrastive" in terms:
            mask_logit_n = self.co_attention.mask_conv(features_n)
            common_mask_m = common_mask(mask_logit_n, attention_over_n, features_m.shape[2:])
            activation_maps_m = self.activation_maps(features_m, co=True)
            unshared = contrastive_attention(common_mask_m)
            unshared_scores_m = average(weigh_activations(activation_maps_m, unshared, self._head(co=True).bias))
        return common_scores_m, unshared_scores_m


def _pixel_correlation_of(backbone: nn.Module, generator: torch.Generator | None) -> PixelCorrelation:
    assert isinstance(backbone, Backbone), "its lower taps are needed"
    return PixelCorrelation(backbone.tap_channels, generator=generator)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
