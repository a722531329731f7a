"""Where the shards of one machine find what others of them have written to their scratch files.

A scratch file has no name, and is gone when its process is. So each process tells the number of its own, by which the
system lets others of the same user open it, in the name of a small file in the store's folder of temporary files; its
lines say what lies where. Where the system has no such way, or the process is gone, nothing is found.
"""

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mcis_cli.errors import StorageError
from mcis_cli.store import Recipe, files
from mcis_cli.store.segments import KEY_DIGITS

_DTYPES = {str(dtype): dtype for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)}
_NAME = re.compile(r"features-([0-9a-f]+)\.([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)")
_READ_BYTES = 2**20


def topic_of(views: Mapping[str, Any], inputs: Mapping[str, str], machine: Mapping[str, str | int]) -> str:
    """What features are a function of beside their keys, to the bit: shards that agree in it share.

    Which of a machine's cards computes does not count, but its kind, its name, and whatever else the machine says.

    Args:
        views: settings of what the network sees, and of what is kept of it.
        inputs: ids or digests of the classifier and of the images.
        machine: as `training.precision.describe_machine` tells it.
    """
    kind = str(machine["device"]).partition(":")[0]
    settings = {**views, "machine": {**machine, "device": kind, "node": platform.node()}}
    return Recipe("features", 1, settings, inputs).key[:KEY_DIGITS]


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a scratch file, and how it lies in memory."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """How much of the file it takes."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass
class _Fellow:
    """The scratch file of another process, and what it has told of it."""

    descriptor: int
    lines: int
    unread: bytes = b""
    places: dict[str, list[Place]] = field(default_factory=dict)


class Exchange:
    """Tells fellows of one's own scratch file, and finds what is in theirs.

    Keys are told apart by their `repr`.
    """

    def __init__(self, folder: Path, topic: str) -> None:
        """Tell nothing yet.

        Args:
            folder: the store's folder of temporary files.
            topic: of what the tensors are a function, beside their keys, in hexadecimal digits; only who has the same
                topic shares.
        """
        self._folder, self._topic = folder, topic
        self._fellows: dict[str, _Fellow] = {}
        self._open = ExitStack()
        self._own: tuple[int, str] | None = None
        self._length, self._is_silent = 0, False

    def close(self) -> None:
        """Part from the others. Those that have met this process keep what it has told."""
        self._open.close()
        self._fellows, self._own, self._length = {}, None, 0

    def tell(self, key: object, places: list[Place], descriptor: int) -> None:
        """Tell where the tensors of a key lie in one's own scratch file; nobody needs to know."""
        listed = [[place.offset, place.shape, place.stride, str(place.dtype)] for place in places]
        line = json.dumps([repr(key), listed]).encode() + b"\n"
        if self._is_silent:
            return
        try:
            if self._own is None:
                status = os.fstat(descriptor)
                numbers = f"{os.getpid()}-{descriptor}-{status.st_dev}-{status.st_ino}"
                name = f"features-{self._topic}.{numbers}"
                self._own = self._open.enter_context(files.temporary(self._folder / name)), name
            files.write(self._own[0], line, self._length)
            self._length += len(line)
        except (OSError, StorageError):  # half a line may be there, and nothing must come behind it
            self._is_silent = True

    def find(self, key: object) -> tuple[int, list[Place]] | None:
        """The descriptor of a fellow's scratch file, and where in it the tensors of a key lie."""
        name = repr(key)
        self._listen()
        return next(((one.descriptor, one.places[name]) for one in self._fellows.values() if name in one.places), None)

    def _listen(self) -> None:
        """Take in what fellows have told since the last time."""
        with suppress(OSError):
            for name in os.listdir(self._folder):
                match = _NAME.fullmatch(name)
                is_own = self._own is not None and name == self._own[1]
                if match and match[1] == self._topic and not is_own and name not in self._fellows:
                    self._meet(name, *map(int, match.groups()[1:]))
        for fellow in self._fellows.values():
            while more := os.read(fellow.lines, _READ_BYTES):
                *whole, fellow.unread = (fellow.unread + more).split(b"\n")
                fellow.places |= dict(map(_parsed, whole))

    def _meet(self, name: str, process: int, number: int, device: int, inode: int) -> None:
        with suppress(OSError), ExitStack() as opened:
            lines = _opened(self._folder / name, opened)
            descriptor = _opened(Path(f"/proc/{process}/fd/{number}"), opened)
            status = os.fstat(descriptor)
            is_his = (status.st_dev, status.st_ino) == (device, inode)  # and not that of a later process
            if is_his and os.fstat(lines).st_uid == os.geteuid():
                self._fellows[name] = _Fellow(descriptor, lines)
                self._open.push(opened.pop_all())


def _opened(path: Path, until: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    until.callback(os.close, descriptor)
    return descriptor


def _parsed(line: bytes) -> tuple[str, list[Place]]:
    name, listed = json.loads(line)
    places = [Place(offset, tuple(shape), tuple(stride), _DTYPES[dtype]) for offset, shape, stride, dtype in listed]
    return name, places
