"""The pairs of images that the classifier trains on (paper §3.3): both members share a class.

The training stage computes common and unshared labels and the views.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mcis_cli.data.seeds import generator

Positions = npt.NDArray[np.intp]
RING = 3  # the fewest images of which each has two partners


def sample_pairs(
    labels: Sequence[tuple[int, ...]], ids: Sequence[str], *, seed: int, epoch: int
) -> list[tuple[int, int]]:
    """Draw the pairs (m, n) of one epoch: every image once as m, its partner n by a class that both have.

    First one of m's classes is drawn, among those that another image has too, then one of that class's other images;
    so a rare class leads to partners as often as a frequent one. An image that shares no class with any other is paired
    with itself: all its labels are then common, which is true; an unrelated partner would share nothing. The paper does
    not say how it draws; see docs/explanation/differences-from-the-paper.md.

    Args:
        labels: the foreground classes of each image.
        ids: the id of each image, all different. The partner depends on seed, epoch and id, not on the order of work.
        seed: the user's seed.
        epoch: which epoch; each has its own order and partners.

    Returns:
        As many pairs of positions in `ids` as images, in training order. Memory is O(images).
    """
    assert len(labels) == len(ids), "one tuple of labels for each image"
    carriers = carriers_by_class(labels)
    order = generator(seed, "order", epoch).permutation(len(ids))
    return [
        (int(m), draw_partner(int(m), labels[m], carriers, generator(seed, "partner", epoch, ids[m]))) for m in order
    ]


def sample_rings(
    labels: Sequence[tuple[int, ...]], ids: Sequence[str], *, seed: int, epoch: int
) -> list[tuple[int, int]]:
    """Draw the pairs of one epoch in rings: as `sample_pairs`, but every image is in two pairs, close together.

    For each image a class is drawn as in `sample_pairs`. Images of one drawn class form rings of 3, at the end of a
    class of up to 5, and each is paired with the next: a, b, c give (a, b), (b, c), (c, a). So a step passes half as
    many images through the network as it would with partners drawn one by one. If only one or two images drew a class,
    a ring would be no pair, or the same pair twice; their partners are drawn as in `sample_pairs`.

    Args, Returns: as `sample_pairs`; the pairs of a ring follow each other.
    """
    carriers = carriers_by_class(labels)
    drawn: dict[int, list[int]] = {}
    runs: list[list[tuple[int, int]]] = []
    for m in generator(seed, "order", epoch).permutation(len(ids)).tolist():
        shared = _shared_classes(labels[m], carriers)
        choice = generator(seed, "ring", epoch, ids[m]).integers(len(shared)) if shared else 0
        drawn.setdefault(shared[choice] if shared else -1, []).append(m)
    for k, members in drawn.items():
        if k < 0 or len(members) < RING:
            partners = (
                draw_partner(m, labels[m], carriers, generator(seed, "partner", epoch, ids[m])) for m in members
            )
            runs += [[pair] for pair in zip(members, partners, strict=True)]
        else:
            runs += [list(zip(ring, [*ring[1:], ring[0]], strict=True)) for ring in _rings(members)]
    mixed = generator(seed, "rings", epoch).permutation(len(runs))
    return [pair for run in mixed for pair in runs[run]]


def _rings(members: Sequence[int]) -> list[Sequence[int]]:
    """Cut a run of at least 3 into rings of 3, the last of 3 to 5."""
    starts = [RING * ring for ring in range(len(members) // RING)]
    return [members[start:end] for start, end in zip(starts, [*starts[1:], len(members)], strict=True)]


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
    """Draw the partner of one image; the image itself if no other shares a class."""
    shared = _shared_classes(labels_m, carriers)
    if not shared:
        return image_m
    others = carriers[shared[random.integers(len(shared))]]
    choice = random.integers(len(others) - 1)
    # The carriers without image_m, counted rather than copied.
    return int(others[choice + (choice >= np.searchsorted(others, image_m))])


def _shared_classes(labels_m: Sequence[int], carriers: Mapping[int, Positions]) -> list[int]:
    """The classes of an image that another image has too, ascending."""
    return [k for k in sorted(set(labels_m)) if len(carriers[k]) > 1]
