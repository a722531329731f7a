"""Dense CRF (Krähenbühl & Koltun 2011): masks that follow the edges of the image, by mean-field steps.

pydensecrf does the inference. This module has the unary terms, and the restriction to present labels, which makes it
affordable. Keyword arguments have the names of the settings in `CrfConfig`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

PROBABILITY_FLOOR = 1e-5  # a label that the network rules out is unlikely, not impossible, so its energy stays finite


class Terms(TypedDict):
    """Number of mean-field steps, and widths and weights of the two pairwise terms.

    Widths are standard deviations: `*_xy` in pixels, `bilateral_rgb` in grey levels of 0 … 255. The authors' released
    code has iterations 1, gaussian_xy 3, gaussian_weight 1, bilateral_xy 80, bilateral_rgb 4, bilateral_weight 3.
    """

    iterations: int
    gaussian_xy: float
    gaussian_weight: float
    bilateral_xy: float
    bilateral_rgb: float
    bilateral_weight: float


def dense_crf(
    image: UInt8[np.ndarray, "height width 3"],
    probabilities: Float[np.ndarray, "label height width"],
    **terms: Unpack[Terms],
) -> Float32[np.ndarray, "label height width"]:
    """Probabilities of the labels after mean-field inference over all labels.

    Args:
        image: RGB photograph.
        probabilities: of each label and pixel, in [0, 1], at the image's size; those under 1e-5 count as 1e-5.
        **terms: see `Terms`.

    Returns:
        Probabilities that sum to one at each pixel.
    """
    assert probabilities.shape[1:] == image.shape[:2], f"{probabilities.shape} for an image of {image.shape}"
    return _mean_field(image, -np.log(np.maximum(probabilities, PROBABILITY_FLOOR)), terms)


def crf_on_present(
    image: UInt8[np.ndarray, "height width 3"],
    probabilities: Float[np.ndarray, "label height width"],
    *,
    present: Sequence[int] | None = None,
    **terms: Unpack[Terms],
) -> Float32[np.ndarray, "label height width"]:
    """`dense_crf` over the labels that are present only; the others get probability 0.

    Time is proportional to the number of labels. With every label present the result is that of `dense_crf`.

    Args:
        image: RGB photograph.
        probabilities: of each label and pixel, in [0, 1], at the image's size.
        present: the labels to keep; by default those that are the most probable one at some pixel.
        **terms: see `Terms`.

    Returns:
        Probabilities that sum to one at each pixel.
    """
    kept = present_labels(probabilities) if present is None else np.unique(np.asarray(present, dtype=int))
    assert kept.size, "no label is present"
    result = np.zeros(probabilities.shape, dtype=np.float32)
    result[kept] = dense_crf(image, probabilities[kept], **terms) if kept.size > 1 else 1
    return result


def present_labels(probabilities: Float[np.ndarray, "label height width"]) -> NDArray[np.intp]:
    """The labels that are the most probable one at some pixel, ascending."""
    return np.unique(probabilities.argmax(axis=0))


class Candidates(NamedTuple):
    """The inputs of a mask, small if few labels are present, since it goes to another process for its CRF.

    Attributes:
        image: RGB photograph.
        labels: the labels that the mask may have, ascending.
        probabilities: of these labels, at the image's size.
    """

    image: UInt8[np.ndarray, "height width 3"]
    labels: NDArray[np.intp]
    probabilities: Float[np.ndarray, "label height width"]


def candidates(
    image: UInt8[np.ndarray, "height width 3"],
    probabilities: Float[np.ndarray, "label height width"],
    *,
    present_only: bool,
) -> Candidates:
    """All labels, or the present ones, for `winners`."""
    if not present_only:
        return Candidates(image, np.arange(len(probabilities)), probabilities)
    labels = present_labels(probabilities)
    return Candidates(image, labels, probabilities[labels])


def winners(given: Candidates, terms: Mapping[str, Any] | None) -> UInt8[np.ndarray, "height width"]:
    """The most probable label of each pixel, after a dense CRF if `Terms` are given.

    The CRF is `dense_crf`, or with only the present labels `crf_on_present`.
    """
    probabilities = given.probabilities
    if terms is not None and len(given.labels) > 1:
        probabilities = dense_crf(given.image, probabilities, **terms)
    return np.asarray(given.labels[probabilities.argmax(axis=0)], dtype=np.uint8)


def refine_mask(
    image: UInt8[np.ndarray, "height width 3"],
    mask: UInt8[np.ndarray, "height width"],
    *,
    confidence: float,
    fill_ignored: bool = False,
    **terms: Unpack[Terms],
) -> UInt8[np.ndarray, "height width"]:
    """Refine a mask to follow the edges of the image, among its own labels.

    Args:
        image: RGB photograph.
        mask: index image at the image's size; 255 may be any of its labels.
        confidence: probability that a pixel's label is right, above 1 / number of labels and below 1; the other labels
            share the rest.
        fill_ignored: whether pixels of 255 get a label too; otherwise they stay 255.
        **terms: see `Terms`.

    Returns:
        Index image with the labels of `mask`; unchanged if there are fewer than two.
    """
    assert mask.shape == image.shape[:2], f"a mask of {mask.shape} for an image of {image.shape}"
    ignored = mask == IGNORE_INDEX
    labels = np.unique(mask[~ignored])
    if labels.size < 2:
        return _fill(mask, labels) if fill_ignored else mask.copy()
    assert 1 / labels.size < confidence < 1, f"confidence {confidence} with {labels.size} labels"
    energy = np.full((labels.size, *mask.shape), -np.log((1 - confidence) / (labels.size - 1)), dtype=np.float32)
    energy[labels[:, None, None] == mask] = -np.log(confidence)
    energy[:, ignored] = np.log(labels.size)
    refined = labels[_mean_field(image, energy, terms).argmax(axis=0)]
    return refined if fill_ignored else np.where(ignored, mask, refined)


def _fill(mask: UInt8[np.ndarray, "height width"], labels: UInt8[np.ndarray, " label"]) -> UInt8[np.ndarray, "..."]:
    """The mask of its only label; one without any stays wholly ignored."""
    return np.full_like(mask, labels[0]) if labels.size else mask.copy()


def _mean_field(
    image: UInt8[np.ndarray, "height width 3"], energy: Float[np.ndarray, "label height width"], terms: Terms
) -> Float32[np.ndarray, "label height width"]:
    height, width = image.shape[:2]
    crf = DenseCRF2D(width, height, len(energy))
    # pydensecrf reads raw memory and refuses, or misreads, strided arrays.
    crf.setUnaryEnergy(np.require(energy, np.float32, ["C", "W"]).reshape(len(energy), -1))
    crf.addPairwiseGaussian(sxy=terms["gaussian_xy"], compat=terms["gaussian_weight"])
    crf.addPairwiseBilateral(
        sxy=terms["bilateral_xy"],
        srgb=terms["bilateral_rgb"],
        rgbim=np.require(image, requirements=["C", "W"]),
        compat=terms["bilateral_weight"],
    )
    return np.array(crf.inference(terms["iterations"]), dtype=np.float32).reshape(energy.shape)


BACKGROUND, IGNORE_INDEX = 0, 255


def confident_regions(
    image: UInt8[np.ndarray, "height width 3"],
    maps: Float[np.ndarray, "cls height width"],
    classes: Sequence[int],
    *,
    object_power: float,
    background_power: float,
    **terms: Unpack[Terms],
) -> UInt8[np.ndarray, "height width"]:
    """Index image of the regions that the maps are sure of: a class, or background; the rest is 255.

    Args:
        image: RGB photograph.
        maps: normalised maps in [0, 1], one a class that the image has.
        classes: the foreground class of each map, from 0.
        object_power: over 0; 4 in AffinityNet.
        background_power: over `object_power`; 24 to 32 there.
        **terms: of the CRF, see `maps.crf.Terms`.
    """
    assert len(maps) == len(classes), f"{len(maps)} maps for the classes {classes}"
    if not len(maps):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    strict, generous = (_strongest(image, maps, power, terms) for power in (object_power, background_power))
    values = np.array([IGNORE_INDEX, *(index + 1 for index in classes)], dtype=np.uint8)
    return np.where(generous == 0, np.uint8(BACKGROUND), values[strict])


def _strongest(
    image: UInt8[np.ndarray, "height width 3"],
    maps: Float[np.ndarray, "cls height width"],
    power: float,
    terms: Terms,
) -> Int64[np.ndarray, "height width"]:
    """0 where background wins, otherwise the number of the strongest map, from 1."""
    background = (1 - maps.max(axis=0, keepdims=True)) ** power
    return np.asarray(dense_crf(image, np.concatenate([background, maps]), **terms).argmax(axis=0))
