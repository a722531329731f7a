"""What of published weights does not fit a network, by the names of its tensors."""

from collections.abc import Mapping, Sequence

from torch import Tensor

NUM_LISTED = 12  # a network of another kind differs in hundreds


def misfits(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps a state from being taken, a phrase for each tensor; empty where it fits.

    Args:
        own: the network's state.
        found: the state of a file, under the network's names.
    """
    missing = [f"{name} is missing" for name in own if name not in found]
    unknown = [f"{name} is unknown" for name in found if name not in own]
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    return missing + unknown + shapes


def listed(wrong: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f"; and {len(wrong) - NUM_LISTED} more" if len(wrong) > NUM_LISTED else ""
    return "; ".join(wrong[:NUM_LISTED]) + more
