"""The maps of the authors' released code, in plain NumPy and loops: what ours are compared with.

Written from the description in docs/explanation/differences-from-the-paper.md, and from nothing of the package.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def softmax(values: Array) -> Array:
    """Of one vector."""
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def co_maps(features_1: Array, features_2: Array, weight: Array, head: Array) -> tuple[Array, Array]:
    """Co-map 1 (classes, h1, w1) and co-map 2 (classes, h2, w2) of a pair, position by position.

    Co-map 1 lies on the grid of image 1 and is made of the features of image 2; co-map 2 the other way round. Their
    affinities are A2[p, q] = (W f1_p) · f2_q.

    Args:
        features_1: (channels, h1, w1).
        features_2: (channels, h2, w2).
        weight: W (channels, channels), which is applied to the features of image 1.
        head: φ of co-attentive features (classes, channels), without bias.
    """
    height_1, width_1 = features_1.shape[1:]
    height_2, width_2 = features_2.shape[1:]
    at_1 = [(y, x) for y in range(height_1) for x in range(width_1)]
    at_2 = [(y, x) for y in range(height_2) for x in range(width_2)]
    affinities = np.zeros((len(at_1), len(at_2)))
    for row, (y1, x1) in enumerate(at_1):
        asked = weight @ features_1[:, y1, x1]
        for column, (y2, x2) in enumerate(at_2):
            affinities[row, column] = asked @ features_2[:, y2, x2]
    map_1 = np.zeros((len(head), height_1, width_1))
    for row, (y1, x1) in enumerate(at_1):
        shares = softmax(affinities[row])  # over the positions of image 2
        mixed = sum(shares[column] * features_2[:, y2, x2] for column, (y2, x2) in enumerate(at_2))
        map_1[:, y1, x1] = head @ mixed
    map_2 = np.zeros((len(head), height_2, width_2))
    for column, (y2, x2) in enumerate(at_2):
        shares = softmax(affinities[:, column])  # over the positions of image 1
        mixed = sum(shares[row] * features_1[:, y1, x1] for row, (y1, x1) in enumerate(at_1))
        map_2[:, y2, x2] = head @ mixed
    return map_1, map_2


def cubic(distance: float) -> float:
    """Weight of a sample at a distance: Keys' kernel with a = −0.75."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return 0.0


def resized(values: Array, size: tuple[int, int]) -> Array:
    """One map (h, w) brought to a size by bicubic interpolation of four samples an axis; samples outside repeat the
    border, and corners are not aligned."""
    for axis, length in enumerate(size):
        before = values.shape[axis]
        rows = []
        for place in range(length):
            source = (place + 0.5) * before / length - 0.5
            first = int(np.floor(source))
            row = 0
            for sample in range(first - 1, first + 3):
                row = row + cubic(source - sample) * values.take(min(max(sample, 0), before - 1), axis=axis)
            rows.append(row)
        values = np.stack(rows, axis=axis)
    return values


def counts(values: Array) -> bool:
    """Whether a map counts: the sigmoid of its spatial mean, before clipping, is over 0.1."""
    return bool(1 / (1 + np.exp(-values.mean())) > 0.1)


def total(five: Sequence[Array]) -> Array:
    """Five maps (h, w) as one, bytes 0…255."""
    summed = np.zeros_like(five[0])
    for number, one in enumerate(five):
        if number and not counts(one):
            continue
        clipped = np.maximum(one, 0)
        summed += clipped / (clipped.max() + 1e-8) * 255
    return np.floor(summed / 5)


def released_maps(
    features: Mapping[str, Array],
    references: Mapping[int, Sequence[Array]],
    weight: Array,
    head: Array,
) -> dict[int, Array]:
    """The map of every class of an image, bytes 0…255 (h, w).

    Args:
        features: of the image ("plain") and of its views ("mirror", "smaller", "larger"), each (channels, h, w).
        references: for each class, the features of its references.
        weight: W (channels, channels).
        head: φ of co-attentive features (classes, channels).
    """
    plain = features["plain"]
    size = plain.shape[1:]
    mirror_1, mirror_2 = co_maps(plain, features["mirror"], weight, head)
    _, smaller_2 = co_maps(plain, features["smaller"], weight, head)
    _, larger_2 = co_maps(plain, features["larger"], weight, head)
    made = {}
    for label, chosen in references.items():
        of_references = [co_maps(plain, one, weight, head)[0][label] for one in chosen]
        made[label] = total(
            [
                mirror_1[label],
                mirror_2[label][:, ::-1],
                resized(smaller_2[label], size),
                resized(larger_2[label], size),
                sum(of_references) / len(of_references),
            ]
        )
    return made
