"""A file without a name for features that memory has no room for: it is gone when the process is.

Reading a megabyte back takes a hundredth of the time of computing it again, and gives the same bits.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from mcis_cli.stages.cams.exchange import Exchange, Place

_Layouts = tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], ...]  # shape, stride and type of each tensor


class Scratch:
    """Tensors by key, in the order in which they came. Never more than `limit` bytes, nor more than it leaves free.

    So one file takes half of what is free at most, and n of them beside each other leave an (n + 1)-th of it. A context
    manager: the file is made when it is first needed, and closed at the end of the block. Once it is full, it takes no
    more; what is in it stays readable. Where the disk refuses (a quota, of which the space that is free says nothing),
    it gives back all that it has: results need the room more.

    Attributes:
        num_bytes: how long the file is.
        is_shared: whether others read it, and this one reads theirs.
    """

    def __init__(self, folder: Path, limit: int, exchange: Exchange | None = None) -> None:
        """Make nothing yet.

        Args:
            folder: where the file goes; on the disk whose space counts.
            limit: bytes; 0 for no file.
            exchange: with the processes that share their files; closed with this one.
        """
        self._folder, self._limit, self._exchange = folder, limit, exchange
        self.is_shared = exchange is not None
        self._descriptor: int | None = None
        self.num_bytes = 0
        # Of each key where its first tensor begins, and how its tensors lie: few ways, each kept once. There may be
        # hundreds of thousands of keys.
        self._written: dict[object, tuple[int, _Layouts]] = {}
        self._layouts: dict[_Layouts, _Layouts] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back the room that the file takes, and what is in it."""
        self._written.clear()
        if self._exchange is not None:
            self._exchange.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor, self.num_bytes = None, 0

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def put(self, key: object, tensors: Sequence[Tensor]) -> None:
        """Keep tensors whose elements fill their memory without gaps, in any order of dimensions."""
        more = sum(tensor.nbytes for tensor in tensors)
        if self.num_bytes + more > self._limit or key in self:
            return
        try:
            if self.num_bytes + 2 * more > shutil.disk_usage(self._folder).free:
                return
            self._write(key, [tensor.cpu() for tensor in tensors])
        except OSError:  # no space, or no such right: then it is computed again
            self._limit = 0
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, 0)  # others may have it open
            self.close()
            return
        if self._exchange is not None and self._descriptor is not None:
            self._exchange.tell(key, self._places(key), self._descriptor)

    def get(self, key: object) -> list[Tensor]:
        """The tensors of a key that is in it, on the CPU, as they were in memory.

        Raises:
            OSError: the disk does not give back what it took.
        """
        found = self._find(key)
        if found is None:
            raise OSError("it is there no more")
        descriptor, places = found
        return [_read(descriptor, place) for place in places]

    def _find(self, key: object) -> tuple[int, list[Place]] | None:
        """The descriptor of the file that has a key, and where in it."""
        if key in self._written and self._descriptor is not None:
            return self._descriptor, self._places(key)
        return None if self._exchange is None else self._exchange.find(key)

    def _places(self, key: object) -> list[Place]:
        """Where the tensors of a key lie: one after the other."""
        start, layouts = self._written[key]
        places = []
        for shape, stride, dtype in layouts:
            places.append(Place(start, shape, stride, dtype))
            start += places[-1].num_bytes
        return places

    def _write(self, key: object, tensors: Sequence[Tensor]) -> None:
        if self._descriptor is None:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                self._descriptor = os.dup(file.fileno())
        start = self.num_bytes
        for tensor in tensors:
            left = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data
            while left:
                written = os.pwrite(self._descriptor, left, self.num_bytes)
                self.num_bytes += written
                left = left[written:]
        layouts = tuple((tuple(tensor.shape), tensor.stride(), tensor.dtype) for tensor in tensors)
        self._written[key] = start, self._layouts.setdefault(layouts, layouts)


def _read(descriptor: int, place: Place) -> Tensor:
    buffer = bytearray(place.num_bytes)
    if os.preadv(descriptor, [buffer], place.offset) != place.num_bytes:
        raise OSError(f"the scratch file ends before byte {place.offset + place.num_bytes}")
    return torch.frombuffer(buffer, dtype=place.dtype).as_strided(place.shape, place.stride)
