"""Regions of an image vote: a score becomes its mean over each region.

Regions are of no class, such as superpixels or proposals. They may overlap, and need not cover the image.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int


class Regions(NamedTuple):
    """Each pixel of each region.

    Attributes:
        pixels: its position in the image, row by row.
        region: the number of its region, from 0; every number up to the highest one occurs.
    """

    pixels: Int[np.ndarray, " members"]
    region: Int[np.ndarray, " members"]


def of_labels(*images: Int[np.ndarray, "height width"]) -> Regions:
    """The regions of label images: in each, the pixels of the same label, 0 for no region."""
    pixels, region, num_regions = [], [], 0
    for labels in images:
        pixels.append(np.flatnonzero(labels))
        found, numbers = np.unique(labels.ravel()[pixels[-1]], return_inverse=True)
        region.append(num_regions + numbers)
        num_regions += len(found)
    return Regions(np.concatenate(pixels), np.concatenate(region))


def of_masks(masks: Iterable[Bool[np.ndarray, "height width"]]) -> Regions:
    """The regions of masks, which may overlap; empty ones are left out."""
    found = [pixels for mask in masks if (pixels := np.flatnonzero(mask)).size]
    return Regions(
        np.concatenate([np.zeros(0, dtype=np.int64), *found]),
        np.repeat(np.arange(len(found)), [len(pixels) for pixels in found]),
    )


def vote(
    scores: Float32[np.ndarray, "plane height width"], regions: Regions
) -> Float32[np.ndarray, "plane height width"]:
    """Scores averaged in each region, and at each pixel over the regions that contain it.

    Args:
        scores: one plane for each label; probabilities that sum to one at each pixel still do.
        regions: of the same image.

    Returns:
        The scores; a pixel in no region keeps its own.
    """
    sizes = np.bincount(regions.region)
    num_pixels = scores.shape[1] * scores.shape[2]
    num_regions = np.bincount(regions.pixels, minlength=num_pixels)
    inside = num_regions > 0
    voted = scores.reshape(len(scores), num_pixels).copy()
    for plane in voted:
        means = np.bincount(regions.region, weights=plane[regions.pixels]) / sizes
        total = np.bincount(regions.pixels, weights=means[regions.region], minlength=num_pixels)
        plane[inside] = total[inside] / num_regions[inside]
    return voted.reshape(scores.shape)
