"""How far a mask agrees with other evidence of its image, without ground truth: the terms of `mcis review`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8

Mask = UInt8[np.ndarray, "height width"]


def agreement(mask: Mask, other: Mask, values: Sequence[int]) -> Float32[np.ndarray, " value"]:
    """Intersection over union of two masks for some of their values; 0 for a value that neither has.

    Args:
        mask: index image.
        other: index image of the same size.
        values: mask values.
    """
    assert mask.shape == other.shape, f"masks of {mask.shape} and {other.shape}"
    common, each = mask[mask == other], (mask.ravel(), other.ravel())
    inside = np.bincount(common.ravel(), minlength=256)
    union = sum(np.bincount(one, minlength=256) for one in each) - inside
    chosen = list(values)
    return np.asarray(inside[chosen] / np.maximum(union[chosen], 1), dtype=np.float32)


def overlap(mask: Mask, saliency: Float[np.ndarray, "height width"]) -> float:
    """Intersection over union of the foreground of a mask and saliency in [0, 1], whose pixels count by their value."""
    foreground = is_foreground(mask)
    inside = float(saliency[foreground].sum(dtype=np.float64))
    union = float(foreground.sum()) + float(saliency[~foreground].sum(dtype=np.float64))
    return inside / union if union else 0.0


def border_share(mask: Mask) -> float:
    """The share of foreground among the pixels at the border of the image."""
    foreground = is_foreground(mask)
    border = (foreground[0], foreground[-1], foreground[1:-1, 0], foreground[1:-1, -1])
    return float(np.concatenate(border).mean())


def is_foreground(mask: Mask) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Where a mask has a class: neither background (0) nor ignored (255)."""
    return (mask > 0) & (mask < 255)
