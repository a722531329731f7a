"""The references of multi-round localization maps (paper §3.2): other images that have the class in question.

The stage decides which images have a class, and computes with the references.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice

import numpy as np
from jaxtyping import Float

from mcis_cli.data.seeds import generator


def draw_references(
    carriers: Sequence[str],
    image_id: str,
    class_name: str,
    num_references: int,
    seed: int,
    *,
    replacement: bool = False,
    allow_self: bool = False,
) -> tuple[str, ...]:
    """Draw the references R of one image and one of its classes.

    The draw depends only on the seed, the image, the class and the set of carriers. The first r of R
    references are the references for r: maps of 1, 3 and 5 references can share one draw. Time does not depend on how
    many images have the class.

    Args:
        carriers: ids of all images that have the class, sorted, each once; with or without the image itself.
        image_id: the image that gets the map.
        class_name: the class of the map.
        num_references: how many, 0 or more.
        seed: the user's seed.
        replacement: the same reference may come twice, as in the released code (difference 7).
        allow_self: the image may be its own reference, as in the released code (difference 7).

    Returns:
        `num_references` ids; fewer where the class has too few images (with `replacement`, only where it has none).
    """
    place = bisect_left(carriers, image_id)
    is_left_out = not allow_self and place < len(carriers) and carriers[place] == image_id
    num_others = len(carriers) - is_left_out
    random = generator(seed, "references", image_id, class_name)
    if replacement:
        drawn = [int(random.integers(num_others)) for _ in range(num_references if num_others else 0)]
    else:
        drawn = first_of_shuffled(num_others, min(num_references, num_others), random)
    return tuple(carriers[index + (is_left_out and index >= place)] for index in drawn)


def nearest_references(
    carriers: Sequence[str], image_id: str, similarity: Float[np.ndarray, " carrier"], num_references: int
) -> tuple[str, ...]:
    """Choose as references R of one image and one of its classes the most similar images (difference 10).

    The first r of R references are the references for r.

    Args:
        carriers: ids of all images that have the class, sorted, each once; with or without the image itself.
        image_id: the image that gets the map; never its own reference.
        similarity: of each carrier to the image. Equal ones are ordered by id.
        num_references: how many, 0 or more.

    Returns:
        `num_references` ids, the most similar first; fewer if the class has too few other images.
    """
    count = min(num_references + 1, len(similarity))  # the image itself may be among them
    minimum = np.partition(similarity, -count)[-count] if count else 0.0
    near = np.flatnonzero(similarity >= minimum)  # with all that equal the last one, so that ids decide among them
    order = near[np.argsort(-similarity[near], kind="stable")]
    others = (carriers[place] for place in order if carriers[place] != image_id)
    return tuple(islice(others, num_references))


def first_of_shuffled(size: int, count: int, random: np.random.Generator) -> list[int]:
    """The first `count` of the shuffled numbers below `size` (Fisher-Yates): a longer draw begins with the shorter."""
    moved: dict[int, int] = {}  # entries that the shuffle has moved
    chosen = []
    for position in range(count):
        swap = int(random.integers(position, size))
        chosen.append(moved.get(swap, swap))
        moved[swap] = moved.get(position, position)
    return chosen
