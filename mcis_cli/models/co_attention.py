"""Co-attention between two images (paper §3.1, Eq. 2-4 and 6-8), and the algebra that makes its inference cheap.

Training and inference execute all of it. `reference` has the same in features, as the paper writes it.
Positions of an image are its feature map's cells in row-major order. A name ends in `_m` or `_n` by the grid on which
the values lie, not by the image that they were made of. The heads and the losses are in `classifier` and `losses`.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.models.layers import at_least_float32, new_conv, product
from mcis_cli.models.reference import co_attend as co_attend  # other modules import this name from here

AffinityInit = Literal["uniform", "identity"]
AffinityWeights = Literal["shared", "per-domain-pair"]


def affinity(
    features_m: Float[Tensor, "batch channel hw_m"],
    features_n: Float[Tensor, "batch channel hw_n"],
    affinity_weight: Float[Tensor, "channel channel"] | Float[Tensor, "batch channel channel"],
) -> Float[Tensor, "batch hw_m hw_n"]:
    """Affinity of every position of m with every position of n (Eq. 2): P = F_mᵀ W_P F_n.

    Not scaled by √C, as in the paper. These are sums over hundreds of non-negative features, so bfloat16 would round
    them by whole units: they are computed in float32 at least, also inside autocast, which holds for W_P F_n alone.

    Args:
        features_m: Features of image m, flattened over its positions.
        features_n: Features of image n, likewise; the number of positions may differ.
        affinity_weight: W_P, learned; one for all pairs, or that of each.

    Returns:
        The affinity, unbounded; it is the logit of both attentions.
    """
    weight = affinity_weight.to(features_n.dtype)
    if weight.ndim == 3:
        return product(features_m.mT, weight @ features_n)
    # As a linear layer over all positions of the batch: one product, forward and backward, instead of one an image.
    return product(features_m.mT, functional.linear(features_n.mT, weight).mT)


def attention(
    affinity: Float[Tensor, "batch hw_m hw_n"],
) -> tuple[Float[Tensor, "batch hw_m hw_n"], Float[Tensor, "batch hw_n hw_m"]]:
    """Attention over the positions of each image (Eq. 3): A_m = softmax(P), A_n = softmax(Pᵀ), by columns.

    Args:
        affinity: P of Eq. 2.

    Returns:
        `attention_over_m`, whose columns (one for each position of n) sum to one over the positions of m, and
        `attention_over_n`, the other way round. Both in [0, 1].
    """
    return affinity.softmax(dim=1), affinity.mT.softmax(dim=1)


def mix(
    maps_r: Float[Tensor, "*batch channel h_r w_r"],
    attention_over_r: Float[Tensor, "*batch hw_r hw_q"],
    size: torch.Size | tuple[int, int],
) -> Float[Tensor, "*batch channel h_q w_q"]:
    """Map image r's maps to the grid of image q by attention over r (Eq. 4): X_r A_r.

    The columns of A_r sum to one, so this commutes with every 1×1 convolution φ, its bias included:
    φ(X_r A_r) = φ(X_r) A_r. Mixing the few activation maps therefore equals mixing all features first.

    Args:
        maps_r: Features of r, or any maps that a 1×1 convolution made of them.
        attention_over_r: Weights over the positions of r, one column for each position of q.
        size: Height and width of q's grid.

    Returns:
        The mixed maps.
    """
    mixed = maps_r.flatten(-2).to(attention_over_r.dtype) @ attention_over_r
    return mixed.reshape(*mixed.shape[:-1], *size)


def common_mask(
    mask_logits_r: Float[Tensor, "*batch 1 h_r w_r"],
    attention_over_r: Float[Tensor, "*batch hw_r hw_q"],
    size: torch.Size | tuple[int, int],
) -> Float[Tensor, "*batch 1 h_q w_q"]:
    """Class-agnostic mask of what a pair has in common (Eq. 6): B = σ(W_B F^{q∩r}), from W_B F_r as `mix` allows.

    Args:
        mask_logits_r: W_B F_r, by `CoAttention.mask_conv`.
        attention_over_r: See `mix`.
        size: Height and width of q's grid.

    Returns:
        The mask on q's grid, in [0, 1].
    """
    return mix(mask_logits_r, attention_over_r, size).sigmoid()


def contrastive_attention(
    common_mask: Float[Tensor, "*batch 1 h w"],
) -> Float[Tensor, "*batch 1 h w"]:
    """Attention to what the other image does not share (Eq. 7): 1 − B, in [0, 1]."""
    return 1 - common_mask


def weigh_activations(
    activations: Float[Tensor, "*batch class h w"],
    weight: Float[Tensor, "*batch 1 h w"],
    bias: Float[Tensor, " class"] | None,
) -> Float[Tensor, "*batch class h w"]:
    """Activations of weighted features, from those of the features: φ(F ⊗ w) = w ⊗ (φ(F) − b) + b (Eq. 8-9).

    Each position has one factor for all channels, so the factor can be applied after the linear part of φ.

    Args:
        activations: φ(F), bias included.
        weight: One factor for each position; 1 − B for the contrastive features.
        bias: b, the bias of φ, or None where φ has none.

    Returns:
        φ(F ⊗ w).
    """
    if bias is None:
        return weight * activations
    offset = bias[:, None, None]
    return weight * (activations - offset) + offset


def query(
    features_m: Float[Tensor, "*batch channel h_m w_m"],
    affinity_weight: Float[Tensor, "channel channel"],
) -> Float[Tensor, "*batch channel h_m w_m"]:
    """The only part of the affinity that needs W_P: G = W_Pᵀ F_m, once for an image and all its references.

    Then Pᵀ = F_rᵀ G for every reference r, since P = F_mᵀ W_P F_r with the queried image first.

    Args:
        features_m: Features of the image whose maps are wanted, as they are compared.
        affinity_weight: W_P.

    Returns:
        G, laid out and as precise as the features are.
    """
    with torch.autocast(features_m.device.type, enabled=False):
        transformed = features_m.flatten(-2).mT @ affinity_weight.to(features_m.dtype)
        return transformed.mT.reshape(features_m.shape)


def attended_activations(
    query_m: Float[Tensor, "*query channel h_m w_m"],
    features_r: Float[Tensor, "*reference channel h_r w_r"],
    activations_r: Float[Tensor, "*reference class h_r w_r"],
) -> Float[Tensor, "*reference class h_m w_m"]:
    """Activations of co-attentive features, without forming these: φ(F_r A_r) = φ(F_r) A_r (Eq. 4, §3.2).

    Any maps that a 1×1 convolution made of the reference's features can be given: some classes of φ(F_r), or the
    mask's logit W_B F_r; concatenated, they share one softmax. The affinity and its softmax are float32 also where the
    features are bfloat16.

    Args:
        query_m: G of `query`, of the image whose maps are wanted; or of an image for each reference.
        features_r: Features of one reference, or of several of one size, as they are compared.
        activations_r: 1×1 convolutions of the reference's features, bias included.

    Returns:
        For each reference, the activations on m's grid, in float32 at least.
    """
    affinity = product(query_m.flatten(-2).mT, features_r.flatten(-2))
    return mix(activations_r, affinity.softmax(dim=-1).mT, query_m.shape[-2:])


class CoAttention(nn.Module):
    """The learned parts of co-attention: W_P of Eq. 2 and W_B of Eq. 6.

    Attributes:
        affinity_weight: W_P; with three of them, that of two images neither of which is of a single-label source.
        affinity_weight_single: W_P of two images of single-label sources; None if one serves all pairs (§3.2).
        affinity_weight_mixed: W_P of one of each, the one that is not single-label on its left; None likewise.
        affinity_scale: s of `compared`; None where features are compared as they are.
    """

    def __init__(
        self,
        num_features: int,
        *,
        affinity_init: AffinityInit = "uniform",
        affinity_weights: AffinityWeights = "shared",
        affinity_scale: float | None = None,
        mask_bias: bool = True,
        mask_bound: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the initial weights.

        The paper does not say how W_P starts. "uniform" is as in a linear layer, U(−1/√C, 1/√C). "identity" is
        I/√C: affinity starts as similarity, scaled as in dot-product attention so that the softmax is not saturated;
        with `affinity_scale`, which also prevents that, it is I.

        Args:
            num_features: C, channels of the features.
            affinity_init: How W_P starts.
            affinity_weights: One W_P for all pairs, or three by the domains of the pair.
            affinity_scale: s of `compared`: affinities are of features of unit length, and s times that; as in Eq. 2
                where None.
            mask_bias: Whether W_B has a bias.
            mask_bound: Where given, W_B starts uniform between its negative and it; else Gaussian, deviation 0.01.
            generator: Source of the random numbers; torch's own where None.
        """
        super().__init__()
        self.affinity_scale = affinity_scale
        self.affinity_weight = nn.Parameter(torch.empty(num_features, num_features))
        self.affinity_weight_single: nn.Parameter | None = None
        self.affinity_weight_mixed: nn.Parameter | None = None
        if affinity_weights == "per-domain-pair":
            self.affinity_weight_single = nn.Parameter(torch.empty(num_features, num_features))
            self.affinity_weight_mixed = nn.Parameter(torch.empty(num_features, num_features))
        self.mask_conv = new_conv(num_features, 1, bias=mask_bias, std=0.01, bound=mask_bound, generator=generator)
        bound = num_features**-0.5
        similarity = (bound if affinity_scale is None else 1) * torch.eye(num_features)
        with torch.no_grad():
            for weight in self.affinity_parameters():
                if affinity_init == "uniform":
                    weight.uniform_(-bound, bound, generator=generator)
                else:
                    weight.copy_(similarity)

    def compared(self, features: Float[Tensor, "*batch channel h w"]) -> Float[Tensor, "*batch channel h w"]:
        """Features for affinities: F, or at each position √s F / ‖F‖.

        Eq. 2 of the latter is s times a similarity that does not depend on the length of the features: s times their
        cosine if W_P is the identity. Attention still mixes F. Not in the paper.

        Returns:
            The features, as precise and laid out as they were; zero where F is.
        """
        if self.affinity_scale is None:
            return features
        unit = functional.normalize(at_least_float32(features), dim=-3)
        scaled: Tensor = self.affinity_scale**0.5 * unit
        return scaled.to(features.dtype)

    def affinity_parameters(self) -> list[nn.Parameter]:
        """The one W_P, or all three."""
        weights = (self.affinity_weight, self.affinity_weight_single, self.affinity_weight_mixed)
        return [weight for weight in weights if weight is not None]

    def weight_of(self, is_single_m: bool, is_single_n: bool) -> Float[Tensor, "channel channel"]:
        """W_P of one pair, for P = F_mᵀ W_P F_n with the images in this order.

        Args:
            is_single_m: Whether m is of a single-label source.
            is_single_n: Whether n is.
        """
        if self.affinity_weight_single is None or self.affinity_weight_mixed is None:
            return self.affinity_weight
        if is_single_m == is_single_n:
            return self.affinity_weight_single if is_single_m else self.affinity_weight
        return self.affinity_weight_mixed.T if is_single_m else self.affinity_weight_mixed

    def weights_of(
        self, single_m: Bool[Tensor, " batch"] | None, single_n: Bool[Tensor, " batch"] | None
    ) -> Float[Tensor, "channel channel"] | Float[Tensor, "batch channel channel"]:
        """W_P of each pair of a batch, as `weight_of`, or the shared one.

        Args:
            single_m: Which first images are of a single-label source; none where None.
            single_n: Which second images are.
        """
        if self.affinity_weight_mixed is None or single_m is None or single_n is None:
            return self.affinity_weight
        by_kind = torch.stack([self.weight_of(m, n) for m in (False, True) for n in (False, True)])
        return by_kind[2 * single_m.long() + single_n.long()]

    def attentions(
        self,
        features_m: Float[Tensor, "batch channel h_m w_m"],
        features_n: Float[Tensor, "batch channel h_n w_n"],
        single_m: Bool[Tensor, " batch"] | None = None,
        single_n: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch hw_m hw_n"], Float[Tensor, "batch hw_n hw_m"]]:
        """Attention over m and over n of a pair (Eq. 2-3), with the W_P of its domains, see `weights_of`."""
        weight = self.weights_of(single_m, single_n)
        compared_m, compared_n = self.compared(features_m), self.compared(features_n)
        return attention(affinity(compared_m.flatten(2), compared_n.flatten(2), weight))
