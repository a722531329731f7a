"""Overlapping windows over an image that is too large for one forward pass: scores are averaged, never overwritten."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Shaped


def window_starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """Where windows start along one side, so that every position is covered and the last window ends flush.

    Args:
        length: pixels of the side.
        window: pixels of a window; a side no longer than this has the one window that starts at 0.
        stride: pixels from one start to the next, 1 … window.

    Returns:
        Increasing starts; each window lies within the side where the side is at least as long as the window.
    """
    assert length >= 1, length
    assert 1 <= stride <= window, f"stride {stride} leaves gaps between windows of {window}"
    if length <= window:
        return (0,)
    last = length - window
    return (*range(0, last, stride), last)


def average_windows(
    predict: Callable[[Shaped[np.ndarray, "tile_height tile_width channel"]], Float[np.ndarray, "label _ _"]],
    image: Shaped[np.ndarray, "height width channel"],
    *,
    window: int,
    stride: int,
) -> Float32[np.ndarray, "label height width"]:
    """Scores of a whole image as the mean over all windows that see a pixel.

    Args:
        predict: scores of a tile, at the tile's own height and width. A tile is a view: do not write in it.
        image: the image; a side shorter than the window is not padded, its tiles are as short.
        window: side of a tile in pixels.
        stride: pixels from one tile to the next, 1 … window.

    Returns:
        Scores of each label and pixel.
    """
    height, width = image.shape[:2]
    total: Float32[np.ndarray, "label height width"] | None = None
    times_seen = np.zeros((height, width), dtype=np.float32)
    for top in window_starts(height, window, stride):
        for left in window_starts(width, window, stride):
            place = (slice(top, top + window), slice(left, left + window))
            tile = image[place]
            scores = predict(tile)
            assert scores.shape[1:] == tile.shape[:2], f"scores {scores.shape} for a tile {tile.shape}"
            if total is None:
                total = np.zeros((scores.shape[0], height, width), dtype=np.float32)
            total[(slice(None), *place)] += scores
            times_seen[place] += 1
    assert total is not None
    total /= times_seen
    return total
