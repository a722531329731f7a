"""Co-attention as the paper writes it (§3.1, Eq. 2-4, 6-8): definitions in features, for tests to compare with.

Training and inference do not execute these: they compute the same numbers from activations, see `co_attention` and
`classifier`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def co_attend(
    features_m: Float[Tensor, "batch channel h_m w_m"],
    features_n: Float[Tensor, "batch channel h_n w_n"],
    affinity_weight: Float[Tensor, "channel channel"],
) -> tuple[Float[Tensor, "batch channel h_m w_m"], Float[Tensor, "batch channel h_n w_n"]]:
    """Co-attention of a pair (Eq. 2-4): features of each image from the other.

    P = F_mᵀ W_P F_n, A_m = softmax(P) and A_n = softmax(Pᵀ) by columns, F_m^{m∩n} = F_n A_n, F_n^{m∩n} = F_m A_m.

    Args:
        features_m: F_m.
        features_n: F_n; the two images may differ in size.
        affinity_weight: W_P.

    Returns:
        `coattentive_m` and `coattentive_n`, each on the grid of its image: convex combinations of the other image's
        features, in float32 at least.
    """
    dtype = torch.promote_types(features_m.dtype, torch.float32)
    flat_m, flat_n = features_m.flatten(2).to(dtype), features_n.flatten(2).to(dtype)
    with torch.autocast(features_m.device.type, enabled=False):
        affinity = flat_m.mT @ affinity_weight.to(dtype) @ flat_n
        attention_over_m, attention_over_n = affinity.softmax(dim=1), affinity.mT.softmax(dim=1)
        coattentive_m, coattentive_n = flat_n @ attention_over_n, flat_m @ attention_over_m
    return coattentive_m.reshape(features_m.shape), coattentive_n.reshape(features_n.shape)


def common_mask(coattentive: Float[Tensor, "batch channel h w"], mask_conv: nn.Conv2d) -> Float[Tensor, "batch 1 h w"]:
    """Class-agnostic mask of what the pair has in common (Eq. 6): B = σ(W_B F^{m∩n}), in [0, 1].

    Args:
        coattentive: F^{m∩n} of one image.
        mask_conv: W_B, a 1×1 convolution to one channel.
    """
    return mask_conv(coattentive).sigmoid()  # type: ignore[no-any-return]


def contrastive(
    features: Float[Tensor, "batch channel h w"],
    coattentive: Float[Tensor, "batch channel h w"],
    mask_conv: nn.Conv2d,
) -> Float[Tensor, "batch channel h w"]:
    """Contrastive features (Eq. 7-8): F^{m∖n} = F ⊗ (1 − B), an image's own features, faded where it shares them.

    Args:
        features: F of one image.
        coattentive: F^{m∩n} of the same image.
        mask_conv: W_B.
    """
    return features * (1 - common_mask(coattentive, mask_conv))
