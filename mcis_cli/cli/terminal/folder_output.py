"""Write results into a folder that the user names, and nowhere else, whatever links it contains."""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from mcis_cli.errors import StorageError, UsageError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class OutputFolder:
    """A folder to write into.

    It may be a link itself; folders below it may not, and files that are links are replaced.

    Attributes:
        root: as it was named.
        flag: the flag that names another folder, for messages.
    """

    def __init__(self, root: Path, flag: str) -> None:
        self.root = root
        self.flag = flag

    def require(self, *, empty: bool = False) -> None:
        """Make the folder and check that it can be written, before any work is done.

        Args:
            empty: refuse a folder that is not empty.

        Raises:
            UsageError: it is not empty.
            StorageError: it cannot be made, or not be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            trial = f".{secrets.token_hex(8)}"
            descriptor = os.open(self.root, _FOLDER)
            try:
                os.close(os.open(trial, _NEW, 0o600, dir_fd=descriptor))
                os.unlink(trial, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            found = min(os.listdir(self.root), default=None) if empty else None
        except OSError as error:
            raise self._refused(self.root, error) from error
        if found is not None:
            raise UsageError(
                f"{self.root} is not empty, it contains {found!r:.80}: choose another folder with {self.flag}, or give "
                "--force to write into it"
            )

    def write(self, inside: Path, content: bytes) -> Path:
        """Write one file, whole or not at all. Returns its path.

        Args:
            inside: its path below the folder, without `..`.
            content: its bytes.

        Raises:
            StorageError: it cannot be written, or a link below the folder leads elsewhere.
        """
        assert not inside.is_absolute(), f"{inside} is below no folder"
        assert ".." not in inside.parts, f"{inside} leads upwards"
        target = self.root / inside
        try:
            descriptor = self._folder(inside.parent)
            try:
                _replace(descriptor, inside.name, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._refused(target, error) from error
        return target

    def _folder(self, inside: Path) -> int:
        """A folder below, opened step by step, so that no link on the way is followed."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root, _FOLDER)
        for part in inside.parts:
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _refused(self, path: Path, error: OSError) -> StorageError:
        reason = error.strerror
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            reason = "a folder on its way is a file, or a link that may lead elsewhere"
        return StorageError(f"{path} cannot be written: {reason}; choose another folder with {self.flag}")


def _replace(folder: int, name: str, content: bytes) -> None:
    temporary = f".{secrets.token_hex(8)}"
    descriptor = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
