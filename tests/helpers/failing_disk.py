"""Work on a store while a call of the file layer fails, in one of nine ways.

Run as a script with a folder and a kind of failure, it lets each call in turn fail, and prints whether more than ten
of them stopped the work.
"""

import errno
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import work
from recorded_disk import Disk, Fault, State, write_state

from mcis_cli.errors import StorageError
from mcis_cli.store import files

KINDS = {
    "no space": Fault(0, errno.ENOSPC),
    "I/O error": Fault(0, errno.EIO),
    "quota": Fault(0, errno.EDQUOT, lasting=True),
    "read-only": Fault(0, errno.EROFS, lasting=True),
    "permission": Fault(0, errno.EACCES),
    "interrupted": Fault(0, errno.EINTR),
    "short write": Fault(0, of=("pwrite", "write"), short=True),
    "failed fsync": Fault(0, errno.EIO, of=("fsync",)),
    "failed rename": Fault(0, errno.EACCES, of=("link", "replace")),
}


def run_on(disk: Disk, root: Path) -> tuple[str, str]:
    """Work on a disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", disk.namespace)
        return work(root)


def count_calls(folder: Path, start: State, fault: Fault) -> tuple[int, tuple[str, str]]:
    """How many calls can fail, and the ids that come out where none does."""
    write_state(folder, start)
    disk = Disk(folder, replace(fault, at=-1, lasting=False))
    ids = run_on(disk, folder)
    return disk.calls, ids


def main(folder: Path, kind: Fault, first: int, step: int) -> None:
    """Let each `step`-th call fail, one run after the other."""
    num_calls, _ = count_calls(folder / "count", {}, kind)
    stopped = 0
    for number in range(first, num_calls, step):
        write_state(folder / str(number), {})
        try:
            run_on(Disk(folder / str(number), replace(kind, at=number)), folder / str(number))
        except StorageError:
            stopped += 1
    sys.stdout.write(f"{stopped > 10}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), KINDS[sys.argv[2]], *map(int, sys.argv[3:]))
