"""Losses on the image-level scores of a pair (paper Eq. 1, 5, 9 and 10).

Each is a sigmoid cross-entropy, mean over the batch and the foreground classes, for both images of the pair.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from mcis_cli.models.classifier import PairScores

Weighting = Literal["sum", "mean"]
ContrastiveRule = Literal["always", "unshared"]


@dataclass(frozen=True)
class PairLoss:
    """The terms of Eq. 10 as scalars; a term without scores is zero."""

    basic: Tensor
    co_attention: Tensor
    contrastive: Tensor

    @property
    def total(self) -> Tensor:
        """Eq. 10: the sum of the three, all coefficients 1."""
        return self.basic + self.co_attention + self.contrastive


def common_labels(
    labels_m: Shaped[Tensor, "batch class"], labels_n: Shaped[Tensor, "batch class"]
) -> Float[Tensor, "batch class"]:
    """Classes that both images have (Eq. 5): l_m ∧ l_n.

    Args:
        labels_m: Multi-hot labels of the first images, boolean or 0 and 1.
        labels_n: Those of the second images.

    Returns:
        Multi-hot labels in {0, 1}.
    """
    return (labels_m.bool() & labels_n.bool()).float()


def unshared_labels(
    labels_m: Shaped[Tensor, "batch class"], labels_n: Shaped[Tensor, "batch class"]
) -> Float[Tensor, "batch class"]:
    """Classes that only the first image has (Eq. 9): l_m − l_m ∧ l_n.

    Args:
        labels_m: Multi-hot labels of the images asked about, boolean or 0 and 1.
        labels_n: Those of their partners.

    Returns:
        Multi-hot labels in {0, 1}.
    """
    return (labels_m.bool() & ~labels_n.bool()).float()


def basic_loss(
    scores_m: Float[Tensor, "batch class"],
    scores_n: Float[Tensor, "batch class"],
    labels_m: Shaped[Tensor, "batch class"],
    labels_n: Shaped[Tensor, "batch class"],
    *,
    weighting: Weighting = "sum",
) -> Float[Tensor, ""]:
    """Classification of each image by itself (Eq. 1).

    Args:
        scores_m: Logits of the first images.
        scores_n: Logits of the second images.
        labels_m: Multi-hot labels of the first images.
        labels_n: Multi-hot labels of the second images.
        weighting: "sum" over the two images (paper), or their "mean" (released code).

    Returns:
        The loss, not negative.
    """
    both = _cross_entropy(scores_m, labels_m) + _cross_entropy(scores_n, labels_n)
    return both if weighting == "sum" else both / 2


def co_attention_loss(
    common_scores_m: Float[Tensor, "batch class"],
    common_scores_n: Float[Tensor, "batch class"],
    labels_m: Shaped[Tensor, "batch class"],
    labels_n: Shaped[Tensor, "batch class"],
    *,
    weighting: Weighting = "sum",
) -> Float[Tensor, ""]:
    """Classification of the co-attentive features, of both images, by the common labels (Eq. 5).

    Args:
        common_scores_m: Logits of F_m^{m∩n}.
        common_scores_n: Logits of F_n^{m∩n}.
        labels_m: Multi-hot labels of the first images.
        labels_n: Multi-hot labels of the second images.
        weighting: As for `basic_loss`.

    Returns:
        The loss, not negative.
    """
    common = common_labels(labels_m, labels_n)
    return basic_loss(common_scores_m, common_scores_n, common, common, weighting=weighting)


def contrastive_loss(
    unshared_scores_m: Float[Tensor, "batch class"],
    unshared_scores_n: Float[Tensor, "batch class"],
    labels_m: Shaped[Tensor, "batch class"],
    labels_n: Shaped[Tensor, "batch class"],
    *,
    rule: ContrastiveRule = "always",
    labels_of_step: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Classification of the contrastive features by what only their image has (Eq. 9); a sum in every weighting.

    Args:
        unshared_scores_m: Logits of F_m ⊗ (1 − B_m).
        unshared_scores_n: Logits of F_n ⊗ (1 − B_n).
        labels_m: Multi-hot labels of the first images.
        labels_n: Multi-hot labels of the second images.
        rule: "always" (paper), or for a side only where some of its images has an "unshared" label (released code).
        labels_of_step: Multi-hot labels of both sides of a larger batch that these pairs are a part of: the rule is
            about all of it. These pairs alone where None.

    Returns:
        The loss, not negative.
    """
    unshared_m, unshared_n = unshared_labels(labels_m, labels_n), unshared_labels(labels_n, labels_m)
    side_m, side_n = _cross_entropy(unshared_scores_m, unshared_m), _cross_entropy(unshared_scores_n, unshared_n)
    if rule == "always":
        return side_m + side_n
    if labels_of_step is not None:
        all_m, all_n = labels_of_step
        unshared_m, unshared_n = unshared_labels(all_m, all_n), unshared_labels(all_n, all_m)
    return side_m * unshared_m.any() + side_n * unshared_n.any()


def pair_loss(
    result: PairScores,
    labels_m: Shaped[Tensor, "batch class"],
    labels_n: Shaped[Tensor, "batch class"],
    *,
    weighting: Weighting = "sum",
    contrastive_rule: ContrastiveRule = "always",
    contrastive: bool = True,
    labels_of_step: tuple[Tensor, Tensor] | None = None,
) -> PairLoss:
    """Total loss of a pair and its terms (Eq. 10).

    Args:
        result: Scores of the pair; terms whose scores are None are zero.
        labels_m: Multi-hot labels of the first images, boolean or 0 and 1.
        labels_n: Multi-hot labels of the second images.
        weighting: "sum" over the two images (paper), or their "mean" in the first two terms (released code).
        contrastive_rule: See `contrastive_loss`.
        contrastive: Whether the contrastive term counts (the released code waits for the third epoch).
        labels_of_step: See `contrastive_loss`.

    Returns:
        The terms, and their sum as `.total`.
    """
    co_attention_term = contrastive_term = result.scores_m.new_zeros(())
    if result.common_scores_m is not None and result.common_scores_n is not None:
        co_attention_term = co_attention_loss(
            result.common_scores_m, result.common_scores_n, labels_m, labels_n, weighting=weighting
        )
    if contrastive and result.unshared_scores_m is not None and result.unshared_scores_n is not None:
        contrastive_term = contrastive_loss(
            result.unshared_scores_m,
            result.unshared_scores_n,
            labels_m,
            labels_n,
            rule=contrastive_rule,
            labels_of_step=labels_of_step,
        )
    return PairLoss(
        basic=basic_loss(result.scores_m, result.scores_n, labels_m, labels_n, weighting=weighting),
        co_attention=co_attention_term,
        contrastive=contrastive_term,
    )


def _cross_entropy(scores: Float[Tensor, "batch class"], labels: Shaped[Tensor, "batch class"]) -> Float[Tensor, ""]:
    return functional.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
