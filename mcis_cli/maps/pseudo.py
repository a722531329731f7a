"""Pseudo masks: an index image out of localization maps and a score of background.

With saliency as in the authors' released code (the paper says only that background cues come from saliency); without,
by a background score that is constant or the image's own, or by a power of what the maps leave over. The same scores
can become probabilities, for a CRF to start from, and then a mask. Values: 0 is background, k + 1 is class k, 255 is
to be ignored.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

BACKGROUND = 0
IGNORE_INDEX = 255
LEAST_LED = 0.01  # of an image, for its correlation to say something
PREDICTED_FLOOR = 1e-4
OTSU_BINS = 256


def fuse_saliency(
    maps: Float[np.ndarray, "cls height width"],
    classes: Sequence[int],
    saliency: Float[np.ndarray, "height width"],
    *,
    foreground_threshold: float,
    conflict_threshold: float,
    salient_threshold: float,
    confident_threshold: float,
    min_foreground: float,
) -> UInt8[np.ndarray, "height width"]:
    """Pseudo mask from maps and saliency, by the rules of the authors' released code.

    1. Background scores 1 − saliency, a class what its map says; a score under `foreground_threshold` becomes 0.
    2. The highest score wins; background, then the first class, of equal ones.
    3. Ignored is where two or more scores, background's among them, are over `conflict_threshold`;
    4. and background where the saliency is at least `salient_threshold` or some map is over `confident_threshold`;
    5. and the whole image if under `min_foreground` of its pixels are of a class.

    Args:
        maps: normalised maps in [0, 1], one a class that the image has, at the image's size.
        classes: the foreground class of each map, from 0.
        saliency: in [0, 1], of the same size.
        foreground_threshold: in [0, 1]; released 0.3.
        conflict_threshold: in [0, 1]; released 0.99.
        salient_threshold: in [0, 1]; released 32/255.
        confident_threshold: in [0, 1]; released 0.95.
        min_foreground: share of the pixels, in [0, 1]; released 0.01.

    Returns:
        Index image of the given classes, 0 and 255.
    """
    assert maps.shape[1:] == saliency.shape, f"maps of {maps.shape[1:]} with saliency of {saliency.shape}"
    background = _at_least(1 - saliency, foreground_threshold)
    scores = [_at_least(plane, foreground_threshold) for plane in maps]
    mask = _strongest(background, scores, classes)
    num_high = (background > conflict_threshold).astype(np.uint8)
    doubtful = saliency >= salient_threshold
    for plane, score in zip(maps, scores, strict=True):
        num_high += score > conflict_threshold
        doubtful |= plane > confident_threshold
    is_object = mask != BACKGROUND
    mask[(num_high >= 2) | (doubtful & ~is_object)] = IGNORE_INDEX
    if np.mean(is_object & (num_high < 2)) < min_foreground:
        mask[...] = IGNORE_INDEX
    return mask


def fuse_constant(
    maps: Float[np.ndarray, "cls height width"], classes: Sequence[int], *, background_score: float
) -> UInt8[np.ndarray, "height width"]:
    """Pseudo mask of the strongest class where it is over a constant background score; nothing is ignored.

    Args:
        maps: normalised maps in [0, 1], one a class that the image has.
        classes: the foreground class of each map, from 0.
        background_score: in [0, 1]; a map that equals it is background.

    Returns:
        Index image of the given classes and 0.
    """
    return _strongest(np.full(maps.shape[1:], background_score, dtype=maps.dtype), maps, classes)


def fuse_power(
    maps: Float[np.ndarray, "cls height width"], classes: Sequence[int], *, background_power: float
) -> UInt8[np.ndarray, "height width"]:
    """Pseudo mask of the strongest class against the background score (1 − max over the maps)^power.

    Args:
        maps: normalised maps in [0, 1], one a class that the image has.
        classes: the foreground class of each map, from 0.
        background_power: over 0; a higher power leaves less to background.

    Returns:
        Index image of the given classes and 0; nothing is ignored.
    """
    return _strongest(power_background(maps, background_power), maps, classes)


def power_background(maps: Float[np.ndarray, "cls height width"], power: float) -> Float[np.ndarray, "height width"]:
    """Background score (1 − max over the maps)^power; 1 without maps."""
    return np.asarray((1 - maps.max(axis=0, initial=0)) ** power)


def otsu_threshold(scores: Float[np.ndarray, "height width"]) -> float:
    """Threshold that leaves the smallest variance in the two groups of scores (Otsu 1979, equations 12 to 18).

    Args:
        scores: in [0, 1]; compared in `OTSU_BINS` bins of equal width.

    Returns:
        The centre of the last bin of the lower group; of the lowest such bin, if several are equally good. The scores'
        own bin if all are in one.
    """
    counts, edges = np.histogram(scores, OTSU_BINS, (0, 1))
    share, centres = counts / scores.size, (edges[:-1] + edges[1:]) / 2
    below, moment = share.cumsum(), (share * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):  # where a group has no pixel
        between = (moment[-1] * below - moment) ** 2 / (below * (1 - below))
    groups = (counts.cumsum() > 0) & (counts.cumsum() < scores.size)
    if not groups.any():
        return float(centres[counts.argmax()])
    return float(centres[np.where(groups, between, -1).argmax()])


def salient_background(
    saliency: Float[np.ndarray, "height width"], *, background_score: float, weight: float, middle: float
) -> Float[np.ndarray, "height width"]:
    """Background score that saliency lowers or raises: background_score + weight · (middle − saliency).

    Args:
        saliency: in [0, 1].
        background_score: where saliency is at its middle.
        weight: how much saliency counts, beside maps in [0, 1].
        middle: saliency that says nothing of background.

    Returns:
        The score, which may leave [0, 1].
    """
    return background_score + weight * (middle - saliency)


def agreement(
    maps: Float[np.ndarray, "cls height width"], saliency: Float[np.ndarray, "height width"]
) -> list[float | None]:
    """How far the map of each class agrees with saliency: Pearson's correlation, where no other map is higher.

    There alone, since what other classes light is salient without this one. 0 where map or saliency is the same
    everywhere, as saliency is that sees nothing.

    Args:
        maps: scores of the classes of one image.
        saliency: of the same size.

    Returns:
        Correlations in [-1, 1]; None for a class that leads on less than a hundredth of the image.
    """
    leads = maps >= maps.max(axis=0, keepdims=True, initial=-np.inf)  # of no class, too
    return [
        _correlation(plane[there], saliency[there]) if there.mean() >= LEAST_LED else None
        for plane, there in zip(maps, leads, strict=True)
    ]


def _correlation(one: Float[np.ndarray, " pixels"], other: Float[np.ndarray, " pixels"]) -> float:
    centred = [values - values.mean(dtype=np.float64) for values in (one, other)]
    spread = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float((centred[0] * centred[1]).sum() / spread) if spread > 0 else 0.0


def with_own_background(
    maps: Float[np.ndarray, "cls height width"],
    saliency: Float[np.ndarray, "height width"],
    trust: Sequence[float],
    *,
    weight: float,
    middle: float,
) -> Float[np.ndarray, "cls height width"]:
    """Scores of classes that trust saliency in part, to be compared with a `salient_background`.

    That moves for all by weight · (middle − saliency). A class moves along by the part that it does not trust, so that
    a class of trust t meets a background moved by t times as much, and one of trust 1 keeps its map.

    Args:
        maps: scores of the classes, in [0, 1].
        saliency: in [0, 1], of the same size.
        trust: of each class, in [0, 1].
        weight: as for the background.
        middle: as for the background.

    Returns:
        The scores, which may leave [0, 1].
    """
    distrust = 1 - np.asarray(trust, dtype=np.float32).reshape(-1, 1, 1)
    return np.asarray(maps + distrust * np.float32(weight) * (np.float32(middle) - saliency), dtype=maps.dtype)


def weighted(
    maps: Float[np.ndarray, "cls height width"], names: Sequence[str], weights: Mapping[str, float]
) -> Float[np.ndarray, "cls height width"]:
    """Scores of classes, each times the weight of its class.

    Args:
        maps: scores of the classes, in [0, 1].
        names: of these classes.
        weights: over 0, by name; 1 for a class without one.

    Returns:
        The scores, which may be over 1.
    """
    factors = np.array([weights.get(name, 1.0) for name in names], dtype=maps.dtype)
    return np.asarray(maps * factors[:, None, None])


def soft_scores(
    maps: Float[np.ndarray, "cls height width"],
    background: Float[np.ndarray, "height width"],
    *,
    sharpness: float,
) -> Float[np.ndarray, "kept height width"]:
    """Probabilities of background and of each class: the softmax of their scores times `sharpness`.

    Args:
        maps: scores of the classes, in [0, 1].
        background: its score, on the same scale.
        sharpness: over 0; the odds of two labels grow e-fold when their scores part by its inverse.

    Returns:
        Background first, then the classes; sum to one at each pixel. Without CRF, the most probable one is that with
        the highest score.
    """
    return _softmax(np.float32(sharpness) * np.concatenate([background[None], maps]))


def among_tags(
    probabilities: Float[np.ndarray, "label height width"], classes: Sequence[int]
) -> Float[np.ndarray, "kept height width"]:
    """Probabilities of background and of the classes that an image is tagged with, given that it is one of them.

    Args:
        probabilities: of background, then of each class, in [0, 1].
        classes: foreground classes of the image, from 0.

    Returns:
        Background first, then `classes` in their order; sum to one at each pixel.
    """
    kept = probabilities[[BACKGROUND, *(index + 1 for index in classes)]]
    total = kept.sum(axis=0, keepdims=True)
    return np.asarray(np.divide(kept, total, out=np.full_like(kept, 1 / len(kept)), where=total > 0))


def agreed(
    probabilities: Float[np.ndarray, "kept height width"],
    predicted: Float[np.ndarray, "kept height width"],
    *,
    weight: float,
) -> Float[np.ndarray, "kept height width"]:
    """Probabilities of labels by two witnesses: the product of theirs, those of the second to a power, at sum one.

    Args:
        probabilities: of the first: maps and background cues.
        predicted: of the second: a network. No label is less probable than `PREDICTED_FLOOR` to it.
        weight: the power.

    Returns:
        The probabilities; sum to one at each pixel.
    """
    with np.errstate(divide="ignore"):  # what the first rules out stays so
        scores = np.log(probabilities) + np.float32(weight) * np.log(np.maximum(predicted, np.float32(PREDICTED_FLOOR)))
    return _softmax(scores)


def mask_of_probabilities(
    probabilities: Float[np.ndarray, "kept height width"], classes: Sequence[int], *, min_confidence: float
) -> UInt8[np.ndarray, "height width"]:
    """Pseudo mask of the most probable label, see `among_tags`; ignored where that is not probable enough.

    Args:
        probabilities: of background, then of each of `classes`.
        classes: foreground classes of the image, from 0.
        min_confidence: in [0, 1).

    Returns:
        Index image of the given classes, 0 and 255.
    """
    mask = _strongest(probabilities[0], probabilities[1:], classes)
    mask[probabilities.max(axis=0) < min_confidence] = IGNORE_INDEX
    return mask


def is_ignored(mask: UInt8[np.ndarray, "height width"]) -> bool:
    """Whether nothing of a pseudo mask is left to learn from."""
    return bool((mask == IGNORE_INDEX).all())


def _softmax(scores: Float[np.ndarray, "kept height width"]) -> Float[np.ndarray, "kept height width"]:
    """Over the labels."""
    odds = np.exp(scores - scores.max(axis=0))
    return np.asarray(odds / odds.sum(axis=0))


def _at_least(scores: Float[np.ndarray, "height width"], minimum: float) -> Float[np.ndarray, "height width"]:
    """Scores, with 0 where they are under the minimum."""
    return scores * (scores >= minimum)


def _strongest(
    background: Float[np.ndarray, "height width"],
    scores: Sequence[Float[np.ndarray, "height width"]] | Float[np.ndarray, "cls height width"],
    classes: Sequence[int],
) -> UInt8[np.ndarray, "height width"]:
    """Mask value of the highest score; background, then the first class, of equal ones."""
    assert len(scores) == len(classes), f"{len(scores)} maps for the classes {classes}"
    assert all(0 <= index < IGNORE_INDEX - 1 for index in classes), classes
    mask = np.zeros(background.shape, dtype=np.uint8)
    highest = background.copy()
    # Plane by plane: an image has one to three classes, and all but the first axis lie together in memory.
    for plane, index in zip(scores, classes, strict=True):
        np.copyto(mask, np.uint8(index + 1), where=plane > highest)
        np.maximum(highest, plane, out=highest)
    return mask
