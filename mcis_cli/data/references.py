"""The references of multi-round localization maps (paper §3.2): other images that have the class in question.

Which images have a class, and what is computed with them, is left to the stage.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mcis_cli.data.seeds import generator


def draw_references(
    carriers: Iterable[str],
    image_id: str,
    class_name: str,
    num_references: int,
    seed: int,
    *,
    replacement: bool = False,
    allow_self: bool = False,
) -> tuple[str, ...]:
    """Draw the references R of one image and one of its classes.

    The draw depends on the seed, the image, the class and the set of carriers, on nothing else. The first r of R
    references are the references for r: maps of 1, 3 and 5 references can share one draw.

    Args:
        carriers: ids of all images that have the class, in any order; with or without the image itself.
        image_id: the image that gets the map.
        class_name: the class of the map.
        num_references: |R|, 0 or more.
        seed: the user's seed.
        replacement: the same reference may come twice, as in the released code (difference 7).
        allow_self: the image may be its own reference, as in the released code (difference 7).

    Returns:
        `num_references` ids; fewer where the class has too few images (with `replacement`, only where it has none).
    """
    pool = sorted(set(carriers) if allow_self else set(carriers) - {image_id})
    random = generator(seed, "references", image_id, class_name)
    if replacement:
        return tuple(pool[random.integers(len(pool))] for _ in range(num_references if pool else 0))
    return tuple(first_of_shuffled(pool, min(num_references, len(pool)), random))


def first_of_shuffled(pool: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Return the first `count` of a Fisher-Yates shuffle: a longer draw begins with the shorter one."""
    shuffled = list(pool)
    for position in range(count):
        swap = random.integers(position, len(shuffled))
        shuffled[position], shuffled[swap] = shuffled[swap], shuffled[position]
    return shuffled[:count]
