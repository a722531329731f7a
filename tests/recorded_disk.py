"""A disk that the tests of the store's file layer watch, fail, and pull the plug of.

`Disk` stands in for `os` in `mcis_cli.store.files`: it passes calls on (but for `fsync`, which costs most), notes them,
and fails the k-th. `Replay` rebuilds, from the notes, what a crash would leave of them.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

CALLS = ("mkdir", "open", "pwrite", "write", "ftruncate", "fsync", "link", "replace", "unlink", "rmdir")


class Disk:
    """`os`, with a note of each call that changes something, as (name, arguments); paths are relative to `root`."""

    def __init__(self, root: Path, fail_at: int | None = None, error: int = 0) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.calls = 0
        self._root, self._fail_at, self._error = root, fail_at, error
        self._open: dict[int, str] = {}
        self.namespace = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in CALLS:
            setattr(self.namespace, name, getattr(self, name))
        self.namespace.close = self.close

    def note(self, *call: Any) -> None:
        self.notes.append(call)

    def _count(self) -> None:
        self.calls += 1
        if self.calls - 1 == self._fail_at:
            raise OSError(self._error, os.strerror(self._error))

    def _name(self, path: Any) -> str:
        return os.path.relpath(path, self._root)

    def mkdir(self, path: Any) -> None:
        self._count()
        os.mkdir(path)
        self.note("mkdir", self._name(path))

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self._count()
        fresh = flags & os.O_CREAT and not os.path.exists(path)
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = self._name(path)
        if fresh:
            self.note("create", self._name(path))
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        self._count()
        count = os.pwrite(descriptor, data, offset)
        self.note("write", self._open[descriptor], offset, bytes(data[:count]))
        return count

    def write(self, descriptor: int, data: Any) -> int:
        self._count()
        offset = os.fstat(descriptor).st_size
        count = os.write(descriptor, data)
        self.note("write", self._open[descriptor], offset, bytes(data[:count]))
        return count

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._count()
        os.ftruncate(descriptor, length)
        self.note("truncate", self._open[descriptor], length)

    def fsync(self, descriptor: int) -> None:
        self._count()
        self.note("sync", self._open[descriptor])

    def link(self, source: Any, target: Any) -> None:
        self._count()
        os.link(source, target)
        self.note("link", self._name(source), self._name(target))

    def replace(self, source: Any, target: Any) -> None:
        self._count()
        os.replace(source, target)
        self.note("replace", self._name(source), self._name(target))

    def unlink(self, path: Any) -> None:
        self._count()
        os.unlink(path)
        self.note("unlink", self._name(path))

    def rmdir(self, path: Any) -> None:
        self._count()
        os.rmdir(path)
        self.note("rmdir", self._name(path))


@dataclass
class _File:
    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class Replay:
    """The folder after the first `length` notes, as the disk has it after a crash."""

    def __init__(self, notes: list[tuple[Any, ...]], length: int) -> None:
        self._names: dict[str, _File | None] = {".": None}  # None is a folder
        self._synced: dict[str, dict[str, _File | None]] = {".": {}}  # entries of each folder that survive anything
        for call in notes[:length]:
            if call[0] != "mark":
                getattr(self, f"_{call[0]}")(*call[1:])

    def _mkdir(self, name: str) -> None:
        self._names[name] = None
        self._synced[name] = {}

    def _create(self, name: str) -> None:
        self._names[name] = _File()

    def _file(self, name: str) -> _File:
        file = self._names[name]
        assert file is not None
        return file

    def _write(self, name: str, offset: int, data: bytes) -> None:
        file = self._file(name)
        file.now.extend(bytes(max(0, offset + len(data) - len(file.now))))
        file.now[offset : offset + len(data)] = data

    def _truncate(self, name: str, length: int) -> None:
        file = self._file(name)
        file.now[length:] = bytes(max(0, length - len(file.now)))

    def _sync(self, name: str) -> None:
        if name in self._synced:
            self._synced[name] = {
                path: file
                for path, file in self._names.items()
                if os.path.dirname(path) == ("" if name == "." else name)
            }
        else:
            file = self._file(name)
            file.synced = bytes(file.now)

    def _link(self, source: str, target: str) -> None:
        self._names[target] = self._names[source]

    def _replace(self, source: str, target: str) -> None:
        self._names[target] = self._names.pop(source)

    def _unlink(self, name: str) -> None:
        del self._names[name]

    def _rmdir(self, name: str) -> None:
        del self._names[name]

    def kill(self, root: Path) -> None:
        """Write what is there after a process was killed: everything it did."""
        for name, file in sorted(self._names.items()):
            _put(root / name, file, None)

    def power_loss(self, root: Path, draw: Random) -> None:
        """Write what may be there after the power went: names and bytes that were not synced may be gone or torn."""
        self._survivors(root, ".", draw)

    def _survivors(self, root: Path, folder: str, draw: Random) -> None:
        (root / folder).mkdir(parents=True, exist_ok=True)
        now = {
            name: file
            for name, file in self._names.items()
            if os.path.dirname(name) == ("" if folder == "." else folder)
        }
        now.pop(".", None)
        synced = self._synced.get(folder, {})
        for name in sorted({*now, *synced} - {"."}):
            before, after = name in synced, name in now
            if before and after and synced[name] is not now[name]:  # replaced
                file = draw.choice([synced[name], now[name]])
            elif before and after:
                file = now[name]
            elif draw.random() < 0.5:  # made, or removed, and not synced
                file = now[name] if after else synced[name]
            else:
                continue
            if file is None:
                self._survivors(root, name, draw)
            else:
                _put(root / name, file, draw)


def _put(path: Path, file: _File | None, draw: Random | None) -> None:
    if file is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    data = bytes(file.now)
    if draw is not None and data != file.synced:
        data = draw.choice([file.synced, data[: draw.randrange(len(data) + 1)], _torn(data, file.synced, draw)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _torn(data: bytes, synced: bytes, draw: Random) -> bytes:
    """Some blocks of 512 bytes are new, some are old or zeros."""
    old = synced.ljust(len(data), b"\0")
    blocks = [draw.choice([data, old])[start : start + 512] for start in range(0, len(data), 512)]
    return b"".join(blocks)
