"""The random walk over affinities (Ahn & Kwak, CVPR 2018): scores spread to similar positions, and stop at edges.

The transition matrix has as many non-zeros a column as a position has neighbours, 69 at most with radius 5. Its powers
fill in, so it is not squared, as the authors do: the scores take one sparse step after the other, with the same result.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32
from scipy.sparse import coo_array, csr_array

Offset = tuple[int, int]


def transition(
    affinities: Float[np.ndarray, "offset h w"], offsets: Sequence[Offset], *, power: float
) -> "csr_array[np.float64]":
    """Probability to come from position i (row) to position j (column): affinity to a power, columns sum to one.

    Args:
        affinities: in [0, 1]; of each position and the one at an offset, as `models.pairwise_affinity` has them. What
            is outside has 0, and what holds in one direction holds in the other; with itself a position has 1.
        offsets: (down, right) of each plane.
        power: the greater it is, the less counts what is a little different.

    Returns:
        A square matrix over the positions in the order of rows.
    """
    height, width = affinities.shape[1:]
    number = np.arange(height * width).reshape(height, width)
    rows, columns, values = [number.ravel()], [number.ravel()], [np.ones(height * width)]
    for plane, (down, right) in zip(affinities, offsets, strict=True):
        left, first, span = max(0, -right), max(0, right), max(0, width - abs(right))
        kept = max(0, height - down)
        here = number[:kept, left : left + span].ravel()
        there = number[down : down + kept, first : first + span].ravel()
        sharpened = plane[:kept, left : left + span].ravel().astype(np.float64) ** power
        rows += [here, there]
        columns += [there, here]
        values += [sharpened, sharpened]
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    matrix = coo_array(entries, shape=(number.size, number.size)).tocsr()
    matrix.data /= matrix.sum(axis=0)[matrix.indices]
    return matrix


def walk(
    maps: Float[np.ndarray, "cls h w"], matrix: "csr_array[np.float64]", *, num_steps: int
) -> Float32[np.ndarray, "cls h w"]:
    """Scores after a number of steps: scores · matrix ^ num_steps.

    A map that is constant stays as it is, and no map leaves its own range.

    Args:
        maps: scores of each class on the grid of the matrix.
        matrix: from `transition`.
        num_steps: 256 in AffinityNet.
    """
    scores = maps.reshape(len(maps), matrix.shape[0]).astype(np.float64).T
    backwards = matrix.T.tocsr()
    for _ in range(num_steps):
        scores = np.asarray(backwards @ scores)
    return np.ascontiguousarray(scores.T, dtype=np.float32).reshape(maps.shape)
