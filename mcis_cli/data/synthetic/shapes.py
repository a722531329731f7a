"""Shapes, textures and badges of the synthetic image set, as functions of position.

A kind of object is a shape with a faint texture of its own and a small badge in colours of its own. Colours of the
body, missing badges, and grounds say nothing about the kind. `image_set` draws the scenes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]  # (height, width): one number for each pixel
Color = tuple[float, float, float]  # red, green, blue in 0..1


class Kind(NamedTuple):
    """A class: its name, its outline, its texture and its badge."""

    name: str
    distance: Callable[[Field, Field], Field]
    texture: Callable[[Field, Field], Field]
    badge: tuple[Color, Color]  # rim and middle


def kinds(count: int) -> tuple[Kind, ...]:
    """Return the first `count` kinds of object, 1 to 64.

    Eight shapes come first, each with its texture; further kinds are shapes with the texture and the badge of others.
    """
    assert 1 <= count <= len(SHAPES) ** 2, f"1 to {len(SHAPES) ** 2} kinds, not {count}"
    chosen = []
    for k in range(count):
        round_, shape = divmod(k, len(SHAPES))
        name, distance = SHAPES[shape]
        other = (shape + round_) % len(SHAPES)
        chosen.append(
            Kind(
                name if round_ == 0 else f"{name}-{round_ + 1}", distance, TEXTURES[other], BADGES[(other + round_) % 8]
            )
        )
    return tuple(chosen)


# Outlines: distance to the edge of a shape of radius about 1 around the origin, negative inside. Within the shape and
# near its edge the distance is exact; farther out it may be too small, which affects only soft shadows.


def disc(x: Field, y: Field) -> Field:
    """Distance to a disc."""
    return np.hypot(x, y) - 0.9


def ring(x: Field, y: Field) -> Field:
    """Distance to a ring with a hole of a third of its width."""
    return np.abs(np.hypot(x, y) - 0.66) - 0.3


def square(x: Field, y: Field) -> Field:
    """Distance to a square with rounded corners."""
    return box(x, y, 0.68, 0.68) - 0.1


def cross(x: Field, y: Field) -> Field:
    """Distance to a cross of two equal bars."""
    return np.minimum(box(x, y, 0.9, 0.27), box(x, y, 0.27, 0.9)) - 0.08


def triangle(x: Field, y: Field) -> Field:
    """Distance to a triangle with a rounded top."""
    return np.asarray(np.maximum.reduce([y - 0.5, 0.866 * np.abs(x) - 0.5 * y - 0.42]) - 0.08)


def hexagon(x: Field, y: Field) -> Field:
    """Distance to a regular hexagon."""
    return np.maximum(np.abs(x), 0.5 * np.abs(x) + 0.866 * np.abs(y)) - 0.82


def star(x: Field, y: Field) -> Field:
    """Distance to a star with five points."""
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    # One half of a point: the line from its tip at radius 1.05 to the notch at radius 0.52.
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    notch_along, notch_across = 0.52 * np.cos(sector / 2), 0.52 * np.sin(sector / 2)
    slope = np.hypot(1.05 - notch_along, notch_across)
    return np.asarray(((along - 1.05) * notch_across + across * (1.05 - notch_along)) / slope - 0.05)


def heart(x: Field, y: Field) -> Field:
    """Distance to a heart, point down."""
    across, up = np.abs(x) / 1.7, 0.55 - y / 1.7
    lobe = np.hypot(across - 0.25, up - 0.75) - 0.25 * np.sqrt(2)
    foot = 0.5 * np.maximum(across + up, 0)  # of the plumb line to the straight edge, in both coordinates
    edge = np.minimum(np.hypot(across, up - 1), np.hypot(across - foot, up - foot)) * np.sign(across - up)
    return np.asarray(1.7 * np.where(across + up > 1, lobe, edge) - 0.04)


def box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    """Distance to a rectangle around the origin."""
    right, below = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(right, 0), np.maximum(below, 0))
    return np.asarray(outside + np.minimum(np.maximum(right, below), 0))


# Textures: a pattern in -1..1; lengths in units of 8 pixels or so, whatever the size of the object.


def stripes(x: Field, y: Field) -> Field:
    """Straight stripes."""
    return np.asarray(np.sin(5.5 * x))


def dots(x: Field, y: Field) -> Field:
    """Dots on a square lattice."""
    return np.asarray(np.tanh(4 * (np.cos(4.5 * x) * np.cos(4.5 * y) - 0.28)))


def waves(x: Field, y: Field) -> Field:
    """Wavy stripes."""
    return np.sin(6 * y + 1.6 * np.sin(3 * x))


def checks(x: Field, y: Field) -> Field:
    """A chequerboard."""
    return np.asarray(np.tanh(5 * np.sin(3.6 * x) * np.sin(3.6 * y)))


def circles(x: Field, y: Field) -> Field:
    """Circles around the middle."""
    return np.sin(6.5 * np.hypot(x, y))


def weave(x: Field, y: Field) -> Field:
    """Crossing threads."""
    return np.maximum(np.sin(6 * (x + y)), np.sin(6 * (x - y))) * 1.4 - 0.5


def rays(x: Field, y: Field) -> Field:
    """Rays from the middle."""
    return np.asarray(np.sin(11 * np.arctan2(y, x)))


def scales(x: Field, y: Field) -> Field:
    """Overlapping scales, as on a fish."""
    row = np.floor(2 * y)
    return 2 * np.abs(((1.2 * x + 0.5 * row) % 1) - 0.5) ** 0.7 + 1.4 * (2 * y - row) - 1.5


SHAPES: tuple[tuple[str, Callable[[Field, Field], Field]], ...] = (
    ("disc", disc),
    ("star", star),
    ("square", square),
    ("ring", ring),
    ("triangle", triangle),
    ("cross", cross),
    ("heart", heart),
    ("hexagon", hexagon),
)
TEXTURES: tuple[Callable[[Field, Field], Field], ...] = (stripes, dots, weave, waves, scales, checks, circles, rays)
BADGES: tuple[tuple[Color, Color], ...] = (
    ((0.97, 0.97, 0.95), (0.86, 0.13, 0.12)),
    ((0.08, 0.12, 0.32), (0.99, 0.80, 0.10)),
    ((0.99, 0.86, 0.20), (0.10, 0.10, 0.10)),
    ((0.95, 0.97, 1.00), (0.10, 0.30, 0.80)),
    ((0.10, 0.35, 0.14), (0.97, 0.97, 0.92)),
    ((0.85, 0.10, 0.42), (0.99, 0.93, 0.97)),
    ((0.10, 0.10, 0.10), (0.12, 0.75, 0.70)),
    ((0.98, 0.55, 0.12), (0.30, 0.10, 0.45)),
)
