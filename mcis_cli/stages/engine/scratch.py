"""Features that do not fit into memory, in files of the store's scratch folder.

One folder serves all processes with the same features, on any machine that shares it: reading a megabyte takes a
hundredth of the time of computing it, and gives the same bits. Files are read, not mapped, because a mapped file that
another machine removes would kill the process.
"""

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from mcis_cli.errors import StorageError
from mcis_cli.stages.engine.kept import Kept
from mcis_cli.store import Recipe, files
from mcis_cli.store.segments import KEY_DIGITS
from mcis_cli.store.workplace import clear_unheld

_DTYPES = {str(dtype): dtype for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)}


def folder_name(views: Mapping[str, Any], inputs: Mapping[str, str], machine: Mapping[str, str | int]) -> str:
    """The folder of features that are the same function of their keys, bit for bit.

    Args:
        views: settings of the views and of the features that are kept.
        inputs: ids or digests of the classifier and of the images.
        machine: see `training.precision.describe_machine`; the number of an equal card is not part of it.
    """
    kind, instructions = str(machine["device"]).partition(":")[0], torch.backends.cpu.get_cpu_capability()
    settings = {**views, "machine": {**machine, "device": kind, "instructions": instructions}}
    return f"features-{Recipe('features', 1, settings, inputs).key[:KEY_DIGITS]}"


class Scratch:
    """Tensors by key.

    It writes at most `limit` bytes, and never more than it leaves free: one process takes at most half of the free
    space, and n of them together leave 1 / (n + 1) of it free. The folder is made at first use, and the last of its
    processes removes it; if that one was killed, the next one to use it does, or `mcis gc`. If the disk refuses
    (because of a quota, which the free space does not show), a process removes everything that it has written, because
    results need the space more.

    Attributes:
        is_shared: whether others need the features of this process, so that it writes them at once.
        num_bytes: bytes written.
    """

    def __init__(self, folder: Path, limit: int, *, is_shared: bool = False) -> None:
        """Prepare, without making the folder; with a `limit` of 0 nothing is ever written."""
        self._folder, self._limit, self.is_shared = folder, limit, is_shared
        self._written: list[str] = []
        self._held: int | None = None
        self._open = ExitStack()
        self.num_bytes = 0

    def __enter__(self) -> Self:
        if self.is_shared and self._limit:
            with suppress(OSError, StorageError):
                self._hold()  # so that the files of others stay until the end of this process
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        clear_unheld(self._folder)

    def __contains__(self, key: object) -> bool:
        return (self._folder / _name(key)).exists()

    def get(self, key: object) -> Kept | None:
        """The tensors of a key, as they were in memory; None if they are missing or damaged."""
        with suppress(OSError, ValueError), open(self._folder / _name(key), "rb") as file:
            checksum, *forms = json.loads(file.readline())
            kept = Kept(tuple((tuple(shape), tuple(stride), _DTYPES[dtype]) for shape, stride, dtype in forms))
            file.readinto(kept.memory)
            if checksum == zlib.crc32(kept.memory) and os.fstat(file.fileno()).st_uid == os.geteuid():
                return kept
        return None

    def put(self, key: object, held: Kept | Sequence[Tensor]) -> None:
        """Write tensors (kept ones, or such as `Kept.of` takes), if there is room and no process has written them."""
        more = held.num_bytes() if isinstance(held, Kept) else sum(tensor.nbytes for tensor in held)
        if self.num_bytes + more > self._limit or key in self:
            return
        try:
            if self.num_bytes + 2 * more <= shutil.disk_usage(self._folder.parent).free:
                self._write(_name(key), held if isinstance(held, Kept) else Kept.of(held))
                self.num_bytes += more
        except (OSError, StorageError):  # no space or no permission: the features are computed again
            self._limit = self.num_bytes = 0
            for name in self._written:
                with suppress(StorageError):
                    files.unlink(self._folder / name)

    def _hold(self) -> None:
        while self._held is None or not files.is_named(self._held, self._folder):  # removed before it was held
            files.new_folder(self._folder)
            self._held = files.open_folder(self._folder)
            self._open.callback(os.close, self._held)
            files.hold(self._held)

    def _write(self, name: str, kept: Kept) -> None:
        self._hold()
        forms = [[[*shape], [*stride], str(dtype)] for shape, stride, dtype in kept.forms]
        head = json.dumps([zlib.crc32(kept.memory), *forms]).encode() + b"\n"
        path = self._folder / f"{name}.{secrets.token_hex(4)}"
        with files.temporary(path) as descriptor:
            files.write(descriptor, head, 0)
            files.write(descriptor, memoryview(kept.memory), len(head))
            if files.link(path, self._folder / name):
                self._written.append(name)


def _name(key: object) -> str:
    return blake2b(repr(key).encode(), digest_size=16).hexdigest()
