"""A disk that the tests of the store's file layer watch, fail, and pull the plug of.

`Disk` stands in for `os` in `mcis_cli.store.files`: it passes calls on (but for `fsync`, which costs most), notes them,
and fails the k-th. `Replay` rebuilds, from the notes, what a crash would leave of them. It promises no more than POSIX:

- a killed process has done all that it did;
- power that fails takes names and bytes that were not synced, each on its own: a name has any of the values that it had
  since its folder was synced, whatever became of names in other folders, or in the same one, that changed before or
  after it; what was written since the last sync is there, or not, or in part, torn within a page, in another order, or
  the file is as long as it should be and holds zeros, or what was deleted before;
- syncing a file saves its bytes and not its name, syncing a folder its names and not their bytes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

CALLS = ("mkdir", "open", "pwrite", "write", "ftruncate", "fsync", "link", "replace", "unlink", "rmdir")
PAGE = 4096
State = Mapping[str, bytes | None]  # None is a folder
Names = Literal["kept", "lost", "until", "any"]
Bytes = Literal["kept", "lost", "zeros", "any"]
# What becomes of what was not synced. A disk that keeps all names and no bytes is what XFS and ext4 without ordering
# are known for; one that forgets the last names only, in order, is any with a journal.
POWER_LOSSES: tuple[tuple[Names, Bytes], ...] = (
    ("any", "any"),
    ("kept", "any"),
    ("until", "any"),
    ("kept", "lost"),
    ("kept", "zeros"),
    ("lost", "any"),
)


@dataclass(frozen=True)
class Fault:
    """How the calls numbered `at` and, where they go on failing, after it fail.

    Attributes:
        at: number of the first of the calls named in `of` that fails.
        error: the error's number.
        of: the calls that can fail.
        lasting: whether the ones after it fail as well, as on a disk that is full.
        short: fail a write by writing half of it, without an error.
    """

    at: int
    error: int = 0
    of: tuple[str, ...] = CALLS
    lasting: bool = False
    short: bool = False


class Disk:
    """`os`, with a note of each call that changes something, as (name, arguments); paths are relative to `root`.

    A file whose `fsync` failed is as good as lost, whatever a second `fsync` says: giving it a name is an error here.
    """

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.called: list[str] = []  # the calls that can fail
        self._root, self._fault = root, fault
        self._open: dict[int, str] = {}
        self._lost: set[int] = set()
        self.namespace = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in CALLS:
            setattr(self.namespace, name, getattr(self, name))
        self.namespace.close = self.close

    def note(self, *call: Any) -> None:
        self.notes.append(call)

    def _fails(self, call: str) -> bool:
        """Count a call; whether it is to be cut short. Raises where it is to fail."""
        fault = self._fault
        if fault is None or call in fault.of:
            self.called.append(call)
        if fault is None or call not in fault.of:
            return False
        number = len(self.called) - 1
        if number != fault.at and not (fault.lasting and number > fault.at):
            return False
        if not fault.short:
            raise OSError(fault.error, os.strerror(fault.error))
        return True

    def _name(self, path: Any) -> str:
        return os.path.relpath(path, self._root)

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._fails("mkdir")
        os.mkdir(path, mode)
        self.note("mkdir", self._name(path))

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self._fails("open")
        fresh = flags & os.O_CREAT and not os.path.exists(path)
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = self._name(path)
        if fresh:
            self._lost.discard(os.fstat(descriptor).st_ino)
            self.note("create", self._name(path))
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        if self._fails("pwrite"):
            data = data[: len(data) // 2]
        count = os.pwrite(descriptor, data, offset)
        self.note("write", self._open[descriptor], offset, bytes(data[:count]))
        return count

    def write(self, descriptor: int, data: Any) -> int:
        if self._fails("write"):
            data = data[: len(data) // 2]
        offset = os.fstat(descriptor).st_size
        count = os.write(descriptor, data)
        self.note("write", self._open[descriptor], offset, bytes(data[:count]))
        return count

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._fails("ftruncate")
        os.ftruncate(descriptor, length)
        self.note("truncate", self._open[descriptor], length)

    def fsync(self, descriptor: int) -> None:
        try:
            self._fails("fsync")
        except OSError:
            self._lost.add(os.fstat(descriptor).st_ino)
            raise
        self.note("sync", self._open[descriptor])

    def link(self, source: Any, target: Any) -> None:
        self._fails("link")
        self._believe(source)
        os.link(source, target)
        self.note("link", self._name(source), self._name(target))

    def replace(self, source: Any, target: Any) -> None:
        self._fails("replace")
        self._believe(source)
        os.replace(source, target)
        self.note("replace", self._name(source), self._name(target))

    def unlink(self, path: Any) -> None:
        self._fails("unlink")
        os.unlink(path)
        self.note("unlink", self._name(path))

    def rmdir(self, path: Any) -> None:
        self._fails("rmdir")
        os.rmdir(path)
        self.note("rmdir", self._name(path))

    def _believe(self, source: Any) -> None:
        assert os.stat(source).st_ino not in self._lost, f"{source} gets a name, and could not be synced"


@dataclass(eq=False)
class _File:
    """What is safe of a file, and what was written since: (offset, data), or (length, None) where it was cut."""

    synced: bytes = b""
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)

    def now(self) -> bytes:
        return _applied(self.synced, self.waiting)


@dataclass(eq=False)
class _Folder:
    """All values of each name since the folder was synced, with the numbers of the calls that gave them."""

    names: dict[str, list[tuple[int, "_File | _Folder | None"]]] = field(default_factory=dict)

    def set(self, name: str, call: int, value: "_File | _Folder | None") -> None:
        self.names.setdefault(name, [(-1, None)]).append((call, value))

    def get(self, name: str) -> "_File | _Folder | None":
        return self.names[name][-1][1] if name in self.names else None


def _applied(data: bytes, calls: list[tuple[int, bytes | None]]) -> bytes:
    result = bytearray(data)
    for offset, piece in calls:
        if piece is None:
            result[offset:] = bytes(max(0, offset - len(result)))
        else:
            result.extend(bytes(max(0, offset + len(piece) - len(result))))
            result[offset : offset + len(piece)] = piece
    return bytes(result)


class Replay:
    """A folder after some of the noted calls, as the disk has it after a crash.

    Args:
        start: what was there, safe, before the first call.
    """

    def __init__(self, start: State | None = None) -> None:
        self._root = _Folder()
        self._calls = 0
        for name, data in sorted((start or {}).items()):
            folder, last = self._place(name)
            folder.names[last] = [(-1, _Folder() if data is None else _File(data))]

    def apply(self, call: tuple[Any, ...]) -> None:
        """Take in the next note."""
        self._calls += 1
        if call[0] != "mark":
            getattr(self, f"_{call[0]}")(*call[1:])

    def _place(self, name: str) -> tuple[_Folder, str]:
        *parents, last = name.split("/")
        folder = self._root
        for parent in parents:
            inner = folder.get(parent)
            assert isinstance(inner, _Folder), name
            folder = inner
        return folder, last

    def _get(self, name: str) -> _File | _Folder:
        folder, last = self._place(name)
        found = self._root if name == "." else folder.get(last)
        assert found is not None, name
        return found

    def _file(self, name: str) -> _File:
        file = self._get(name)
        assert isinstance(file, _File), name
        return file

    def _set(self, name: str, value: "_File | _Folder | None") -> None:
        folder, last = self._place(name)
        folder.set(last, self._calls, value)

    def _mkdir(self, name: str) -> None:
        self._set(name, _Folder())

    def _create(self, name: str) -> None:
        self._set(name, _File())

    def _write(self, name: str, offset: int, data: bytes) -> None:
        self._file(name).waiting.append((offset, data))

    def _truncate(self, name: str, length: int) -> None:
        self._file(name).waiting.append((length, None))

    def _sync(self, name: str) -> None:
        found = self._get(name)
        if isinstance(found, _File):
            found.synced, found.waiting = found.now(), []
        else:
            last = {inner: values[-1][1] for inner, values in found.names.items()}
            found.names = {inner: [(-1, value)] for inner, value in last.items() if value is not None}

    def _link(self, source: str, target: str) -> None:
        self._set(target, self._get(source))

    def _replace(self, source: str, target: str) -> None:
        moved = self._get(source)
        self._set(source, None)
        self._set(target, moved)

    def _unlink(self, name: str) -> None:
        self._set(name, None)

    _rmdir = _unlink

    def kill(self) -> State:
        """The folder after a process was killed: everything it did."""
        return self._left("kept", "kept", Random(0))

    def power_loss(self, names: Names, data: Bytes, draw: Random) -> State:
        """What may be there after the power went; see `POWER_LOSSES`."""
        return self._left(names, data, draw)

    def _left(self, names: Names, data: Bytes, draw: Random) -> State:
        state: dict[str, bytes | None] = {}
        known: dict[_File, bytes] = {}  # a file has the same bytes under all of its names
        until = draw.randrange(self._calls + 1)

        def survivor(values: list[tuple[int, _File | _Folder | None]]) -> _File | _Folder | None:
            match names:
                case "kept":
                    return values[-1][1]
                case "lost":
                    return values[0][1]
                case "until":
                    return [value for call, value in values if call <= until][-1]
                case "any":
                    return draw.choice(values)[1]

        def walk(folder: _Folder, prefix: str) -> None:
            for name, values in sorted(folder.names.items()):
                found = survivor(values)
                if isinstance(found, _Folder):
                    state[prefix + name] = None
                    walk(found, f"{prefix}{name}/")
                elif found is not None:
                    if found not in known:
                        known[found] = _bytes_left(found, data, draw)
                    state[prefix + name] = known[found]

        walk(self._root, "")
        return state


def _bytes_left(file: _File, kind: Bytes, draw: Random) -> bytes:
    old, new = file.synced, file.now()
    if kind == "kept" or not file.waiting:
        return new
    if kind == "lost":
        return old
    if kind == "zeros":
        return old[: len(new)].ljust(len(new), b"\0")
    return draw.choice([_reordered, _cut, _torn, _torn, _stale, lambda *_: new, lambda *_: old])(file, new, draw)


def _reordered(file: _File, new: bytes, draw: Random) -> bytes:
    """Some of the calls never arrived, whichever came first."""
    return _applied(file.synced, [call for call in file.waiting if draw.random() < 0.5])


def _cut(file: _File, new: bytes, draw: Random) -> bytes:
    return new[: draw.randrange(len(new) + 1)]


def _torn(file: _File, new: bytes, draw: Random) -> bytes:
    """Each page is new, old, or new up to some byte in it and old from there."""
    old = file.synced[: len(new)].ljust(len(new), b"\0")
    pages = []
    for start in range(0, len(new), PAGE):
        at = start + draw.choice([0, draw.randrange(PAGE), draw.randrange(0, PAGE, 512), PAGE])
        pages.append(new[start:at] + old[at : start + PAGE])
    return b"".join(pages)


def _stale(file: _File, new: bytes, draw: Random) -> bytes:
    """The length is on the disk, the bytes are what was in these blocks before."""
    return file.synced[: len(new)] + draw.randbytes(max(0, len(new) - len(file.synced)))


def read_state(root: Path) -> State:
    """What is in a folder."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def write_state(root: Path, state: State) -> None:
    """Make a folder with that in it."""
    root.mkdir()
    for name, data in state.items():  # folders come before what is in them
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)
