"""A folder of `partial/`: it records its recipe, and processes that work in it hold it.

Only a process that has sealed the artifact removes a held folder. If locks are off, or shards end together, another
process may still be about to write: then it makes the folder again, and finds the artifact sealed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mcis_cli.errors import StorageError
from mcis_cli.store import files

RECIPE, CLAIMS = "recipe.json", "claims"
_TRIES = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Begun:
    """Progress of unfinished work, by the names of its files: number of segments, step of the newest checkpoint."""

    num_segments: int
    step: int | None


def begun_in(folder: Path) -> Begun | None:
    """The progress of the work in a folder of `partial/`; None if nothing is kept yet."""
    num_segments = sum(1 for _ in folder.glob("segment-*.h5"))
    steps = [int(path.stem[11:]) for path in folder.glob("checkpoint-*.ckpt") if path.stem[11:].isdecimal()]
    return Begun(num_segments, max(steps, default=None)) if num_segments or steps else None


class Workplace:
    """The folder, entered for the block of a `with`, and removed at its end if it is still empty.

    Attributes:
        folder: `partial/<stage>-<key>/`.
    """

    def __init__(self, folder: Path, describe: Callable[[Path], None]) -> None:
        """`describe` writes the recipe to the path that it gets."""
        self.folder = folder
        self._describe = describe
        self._descriptor: int | None = None

    def __enter__(self) -> "Workplace":
        self.do(lambda: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def do(self, act: Callable[[], T]) -> T:
        """Do something in the folder, or in a new one if another process removed it meanwhile.

        Raises:
            StorageError: the folder cannot be made, or `act` failed for another reason.
        """
        tries = 0
        while True:
            tries += 1
            try:
                self._occupy()
                return act()
            except StorageError as error:
                was_removed = isinstance(error.__cause__, FileNotFoundError) and not self._is_there()
                if tries == _TRIES or not was_removed:
                    raise

    @contextmanager
    def claim(self, number: int, *, wait: bool) -> Iterator[bool]:
        """Claim a part for the block: whether no other process has claimed it; if one has, `wait` waits for its end."""
        descriptor = files.open_regular(self.folder / CLAIMS, os.O_RDWR | os.O_CREAT)
        try:
            yield files.lock_byte(descriptor, number, wait=wait)
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove the folder with everything in it; its work is sealed or not needed."""
        clear(self.folder)

    def _occupy(self) -> None:
        entered = not self._is_there()
        while not self._is_there():
            self._let_go()
            # Held before its name is synced, because a `gc` may run during the sync.
            files.new_folder(self.folder)
            with files.reported("open the folder", self.folder):
                self._descriptor = files.open_folder(self.folder)
            files.hold(self._descriptor)
            files.sync_folder(self.folder.parent)
        if entered or not (self.folder / RECIPE).exists():
            self._describe(self.folder / RECIPE)

    def _is_there(self) -> bool:
        return self._descriptor is not None and files.is_named(self._descriptor, self.folder)

    def _leave(self) -> None:
        try:
            with suppress(OSError, StorageError):  # left-over files are harmless and not worth an error
                if self._is_there() and {*os.listdir(self.folder)} <= {RECIPE, CLAIMS} and self._is_mine():
                    self.clear()
        finally:
            self._let_go()

    def _is_mine(self) -> bool:
        return self._descriptor is not None and files.claim(self._descriptor)

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def clear(folder: Path) -> None:
    """Remove a folder of the store with everything in it, the recipe last; of a link, only the link is removed."""
    if folder.is_symlink():
        files.unlink(folder)
        return
    names: list[str] = []
    with files.reported("list", folder), suppress(FileNotFoundError):
        names = sorted(os.listdir(folder), key=lambda name: (name == RECIPE, name))
    for name in names:
        files.unlink(folder / name)
    files.remove_folder(folder)


def clear_unheld(folder: Path) -> None:
    """As `clear`, unless a process holds the folder, or its file system cannot show whether one does."""
    with suppress(StorageError), files.claimed(folder) as is_unheld:
        if is_unheld:
            clear(folder)
