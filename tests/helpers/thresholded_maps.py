"""The mask of maps at a threshold, pixel by pixel: what scores at all thresholds at once are compared with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mask_over(maps: NDArray[np.floating], classes: Sequence[int], threshold: float) -> NDArray[np.uint8]:
    """The strongest class where its map (class, height, width) is over the threshold, background (0) elsewhere.

    Class k, from 0, is k + 1 in the mask; of equal maps the first wins.
    """
    mask = np.zeros(maps.shape[1:], dtype=np.uint8)
    for place in np.ndindex(mask.shape):
        scores = maps[:, *place].tolist()
        if scores and max(scores) > threshold:
            mask[place] = classes[scores.index(max(scores))] + 1
    return mask
