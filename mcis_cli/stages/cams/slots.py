"""Memory for tensors that stay a while, apart from the heap: slots of equal size, cut from large blocks.

Thousands of small things that outlive the work around them leave the heap full of holes, each a little too small for
what comes next, so that it grows several times as large as they are. That goes for the tensors, and for the hundred
bytes that torch and NumPy allocate for each: what is kept is neither, and becomes tensors when it is asked for.
"""

import math
import mmap
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 4 * 2**20
ALIGNMENT = 64  # as torch aligns its own: some products depend on it

_Place = tuple[NDArray[np.uint8], int]  # a block, and the address of a slot in it
_Layouts = tuple[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], ...]  # where in the slot, shape, stride


class Kept:
    """Tensors that lie in a slot.

    Attributes:
        num_bytes: of the tensors.
    """

    __slots__ = ("_layouts", "_slot", "num_bytes")

    def __init__(self, slot: "_Slot", layouts: _Layouts, num_bytes: int) -> None:
        """See `Slots.keep`."""
        self._slot, self._layouts, self.num_bytes = slot, layouts, num_bytes

    def tensors(self) -> list[Tensor]:
        """The tensors: not copies, and to be read alone. They hold their slot, also when this is gone."""
        memory = torch.from_numpy(np.asarray(self._slot))
        return [
            memory[start : start + math.prod(shape) * dtype.itemsize].view(dtype).as_strided(shape, stride)
            for start, shape, stride, dtype in self._layouts
        ]


class Slots:
    """Gives tensors a place; it is free again as soon as none of them, nor a view of one, is left.

    Blocks are never given back: there are as many slots of a size as were in use at once.
    """

    def __init__(self) -> None:
        """Take nothing yet."""
        self._free: defaultdict[int, list[_Place]] = defaultdict(list)
        self._layouts: dict[_Layouts, _Layouts] = {}  # few ways to lie in a slot, each kept once

    def keep(self, tensors: Sequence[Tensor]) -> Kept:
        """Copies that lie in one slot, with the layout of the originals.

        Args:
            tensors: on the CPU; their elements fill their memory without gaps, in any order of dimensions.
        """
        sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
        starts = np.cumsum([0, *sizes]).tolist()
        layouts = tuple(
            (start, tuple(tensor.shape), tensor.stride(), tensor.dtype)
            for start, tensor in zip(starts, tensors, strict=False)
        )
        slot = self._take(starts[-1])
        kept = Kept(slot, self._layouts.setdefault(layouts, layouts), sum(tensor.nbytes for tensor in tensors))
        for copy, tensor in zip(kept.tensors(), tensors, strict=True):
            copy.copy_(tensor)
        return kept

    def _take(self, size: int) -> "_Slot":
        size = max(size, ALIGNMENT)  # tensors without elements have a place too
        free = self._free[size]
        if not free:
            # Memory from the system itself: a block in the midst of the heap would part what is free around it.
            block = np.frombuffer(mmap.mmap(-1, max(1, BLOCK // size) * size), np.uint8)
            first = block.ctypes.data
            free += [(block, address) for address in range(first, first + len(block), size)]
        block, address = free.pop()
        slot = _Slot(block, address, size)
        weakref.finalize(slot, free.append, (block, address)).atexit = False
        return slot


class _Slot:
    """Part of a block, which NumPy makes an array of that holds it."""

    __slots__ = ("__weakref__", "_address", "_block", "_size")

    def __init__(self, block: NDArray[np.uint8], address: int, size: int) -> None:
        self._block, self._address, self._size = block, address, size

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "shape": (self._size,), "typestr": "|u1", "data": (self._address, False)}
