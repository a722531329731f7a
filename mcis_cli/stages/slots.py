"""Memory for tensors that stay a while, apart from the heap: slots of equal size, cut from large blocks.

Thousands of small tensors that outlive the work around them would leave the heap full of holes, too small for what
comes next, so that it grows several times as large as they are.
"""

import mmap
import weakref
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 4 * 2**20
ALIGNMENT = 64  # as torch aligns its own: some products depend on it

_Slot = tuple[NDArray[np.uint8], int]  # a block, and where in it


class Slots:
    """Gives tensors a place; it is free again as soon as none of them, nor a view of one, is left.

    Blocks are never given back: there are as many slots of a size as were in use at once.
    """

    def __init__(self) -> None:
        """Take nothing yet."""
        self._free: defaultdict[int, list[_Slot]] = defaultdict(list)

    def copies(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copies that lie in one slot, with the layout of the originals.

        Args:
            tensors: on the CPU; their elements fill their memory without gaps, in any order of dimensions.
        """
        sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
        starts = np.cumsum([0, *sizes]).tolist()
        place = torch.from_numpy(self._take(starts[-1]))
        return [_copy(tensor, place[start:]) for tensor, start in zip(tensors, starts, strict=False)]

    def _take(self, size: int) -> NDArray[np.uint8]:
        free = self._free[size]
        if not free:
            block = _own_pages(max(1, BLOCK // size) * size)
            free += [(block, start) for start in range(0, len(block), size)]
        block, start = free.pop()
        slot = block[start : start + size]
        # The tensors hold the slot, and the slot the block.
        weakref.finalize(slot, free.append, (block, start)).atexit = False
        return slot


def _own_pages(num_bytes: int) -> NDArray[np.uint8]:
    """Memory from the system itself: the heap keeps what is freed, and a block in its midst would part that."""
    return np.frombuffer(mmap.mmap(-1, max(1, num_bytes)), np.uint8)[:num_bytes]


def _copy(tensor: Tensor, place: Tensor) -> Tensor:
    copy = place[: tensor.nbytes].view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
    return copy.copy_(tensor)
