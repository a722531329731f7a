"""The pixels of a polygon by the even-odd rule, computed apart from the package, to compare with."""

import numpy as np
from jaxtyping import Bool
from numpy import ndarray


def fill(polygon: list[tuple[float, float]], height: int, width: int) -> Bool[ndarray, "height width"]:
    """The pixels whose centres a polygon holds, by the even-odd rule.

    Args:
        polygon: corners (x, y) in pixels; they may lie outside.
        height: of the image.
        width: of the image.
    """
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    crossings = np.zeros((height, width + 1), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        # Rows whose centres the edge passes; a corner at a centre belongs to the edge below it.
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in (low, high))
        if first >= last:
            continue
        rows = np.arange(first, last)
        at = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        crossings[rows, np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]
