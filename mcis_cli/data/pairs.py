"""The pairs of images that the classifier trains on (paper §3.3): both members share a class.

What is done with a pair (its common and unshared labels, its own views) is left to the training stage.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mcis_cli.data.seeds import generator

Positions = npt.NDArray[np.intp]


def sample_pairs(
    labels: Sequence[tuple[int, ...]], ids: Sequence[str], *, seed: int, epoch: int
) -> list[tuple[int, int]]:
    """Draw the pairs (m, n) of one epoch: every image once as m, its partner n by a class that both have.

    First one of m's classes is drawn, among those that another image has too, then one of that class's other images;
    so a rare class leads to partners as often as a frequent one. An image that shares no class with any other is paired
    with itself: all its labels are then common, which is true, where a stranger as partner would be no pair at all. The
    paper does not say how it draws; see docs/explanation/differences-from-the-paper.md.

    Args:
        labels: the foreground classes of each image.
        ids: the id of each image, all different. The partner depends on seed, epoch and id, not on the order of work.
        seed: the user's seed.
        epoch: which epoch; each has its own order and partners.

    Returns:
        As many pairs of positions in `ids` as there are images, in the order to train in. Memory is O(images).
    """
    assert len(labels) == len(ids), "one tuple of labels for each image"
    carriers = carriers_by_class(labels)
    order = generator(seed, "order", epoch).permutation(len(ids))
    return [
        (int(m), draw_partner(int(m), labels[m], carriers, generator(seed, "partner", epoch, ids[m]))) for m in order
    ]


def carriers_by_class(labels: Sequence[tuple[int, ...]]) -> dict[int, Positions]:
    """Positions of the images that have each class, ascending."""
    carriers: dict[int, list[int]] = {}
    for position, classes in enumerate(labels):
        for k in set(classes):
            carriers.setdefault(k, []).append(position)
    return {k: np.array(positions, dtype=np.intp) for k, positions in carriers.items()}


def draw_partner(
    image_m: int, labels_m: Sequence[int], carriers: Mapping[int, Positions], random: np.random.Generator
) -> int:
    """Draw the partner of one image; the image itself where no other shares a class."""
    shared = [k for k in sorted(set(labels_m)) if len(carriers[k]) > 1]
    if not shared:
        return image_m
    others = carriers[shared[random.integers(len(shared))]]
    choice = random.integers(len(others) - 1)
    # The carriers without image_m, counted rather than copied.
    return int(others[choice + (choice >= np.searchsorted(others, image_m))])
