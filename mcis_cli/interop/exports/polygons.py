"""Polygons of a mask: outlines along the edges of pixels, so that filling them gives the mask again."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from scipy import ndimage

Point = tuple[float, float]
Polygon = list[Point]

# Clockwise, for y grows downwards: east, south, west, north.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def polygons(mask: Bool[ndarray, "height width"]) -> Iterator[Polygon]:
    """One polygon for each region of a mask whose pixels meet at their sides, from top to bottom.

    A polygon cannot have holes. If a region has one, a cut of no width leads to it through the region and back, as
    formats without holes expect; filled by the even-odd rule, the polygon is the region, to the pixel.

    Args:
        mask: true inside.

    Yields:
        Corners (x, y) in pixels from the upper left corner of the image; the last is joined to the first.
    """
    labelled, _ = ndimage.label(mask)
    for number, place in enumerate(ndimage.find_objects(labelled), start=1):
        rows, columns = place
        outer, *holes = sorted(_loops(labelled[place] == number), key=_left_edge)
        merged = outer
        for hole in holes:
            merged = _joined(merged, hole)
        yield [(x + columns.start, y + rows.start) for x, y in merged]


def _loops(region: Bool[ndarray, "height width"]) -> Iterator[Polygon]:
    """The outline of a region and those of its holes, with the region on the right of each edge."""
    ways = _edges(region)
    for start in list(ways):
        while start in ways:
            loop = _loop(ways, start)
            yield loop[1:] if _is_straight(loop) else loop


def _loop(ways: dict[tuple[int, int], set[int]], start: tuple[int, int]) -> Polygon:
    """The corners of one loop, including its first point; removes the sides that it uses."""
    at, direction, before = start, next(iter(ways[start])), -1
    loop: Polygon = []
    while direction >= 0:
        if direction != before:
            loop.append(at)
        ways[at].remove(direction)
        if not ways[at]:
            del ways[at]
        at, before = (at[0] + _STEPS[direction][0], at[1] + _STEPS[direction][1]), direction
        # Two pixels that meet only at a corner are separate: the path stays with its own.
        turns = ((before + turn) % 4 for turn in (1, 0, 3))
        direction = next((turn for turn in turns if turn in ways.get(at, ())), -1)
    return loop


def _edges(region: Bool[ndarray, "height width"]) -> dict[tuple[int, int], set[int]]:
    """Starts and directions of sides of pixels that have the region on their right and not on their left."""
    wide = np.pad(region, 1)
    inside, ways = wide[1:-1, 1:-1], dict[tuple[int, int], set[int]]()
    sides = (wide[:-2, 1:-1], wide[1:-1, 2:], wide[2:, 1:-1], wide[1:-1, :-2])
    for direction, (side, (dx, dy)) in enumerate(zip(sides, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True)):
        for y, x in np.argwhere(inside & ~side).tolist():
            ways.setdefault((x + dx, y + dy), set()).add(direction)
    return ways


def _is_straight(loop: Polygon) -> bool:
    """Whether a loop was begun in the middle of a side."""
    (x0, y0), (x1, y1), (x2, y2) = loop[-1], loop[0], loop[1]
    return (x0 == x1 == x2) or (y0 == y1 == y2)


def _left_edge(loop: Polygon) -> Point:
    """The leftmost, then topmost, side of a loop: its x, and its upper end."""
    return min(loop)


def _joined(outer: Polygon, hole: Polygon) -> Polygon:
    """A polygon with a cut to a hole: from the hole's leftmost side to the left, through the region, to a side.

    Holes are joined from left to right, so that everything left of a hole has been joined before.
    """
    x, top = _left_edge(hole)
    row = top + 0.5  # the leftmost side is at least one pixel long: the cut runs through centres, and meets no corner
    corners = np.asarray(outer)
    following = np.roll(corners, -1, axis=0)
    is_side = (corners[:, 0] == following[:, 0]) & (corners[:, 0] < x)
    is_side &= (np.minimum(corners[:, 1], following[:, 1]) < row) & (np.maximum(corners[:, 1], following[:, 1]) > row)
    at = int(np.where(is_side, corners[:, 0], -1).argmax())
    cut = [(float(corners[at, 0]), row), (x, row)]
    return [*outer[: at + 1], *cut, *_from_side(hole, x, top), *cut[::-1], *outer[at + 1 :]]


def _from_side(hole: Polygon, x: float, top: float) -> Polygon:
    """The corners of a hole in their order, begun after the side at `x` whose upper end is at `top`."""
    place = hole.index((x, top))
    after = (place + 1) % len(hole)
    begins = after if hole[after][0] == x else place
    return hole[begins:] + hole[:begins]
