"""Work on a store while a call of the file layer fails, in one of nine ways.

Run as a script with a folder and a kind of failure, it lets each call in turn fail, and prints whether more than ten
of them stopped the work.
"""

import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import work
from recorded_disk import CALLS, Disk, Fault, State, write_state

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


def calls_to_fail(folder: Path, start: State, fault: Fault, step: int = 1) -> tuple[Sequence[int], tuple[str, str]]:
    """The numbers of the calls to fail, each `step`-th, and the ids that come out where none does.

    With steps, and where any call can fail, those amid others of their name are left out: dozens of writes to one file.
    """
    write_state(folder, start)
    disk = Disk(folder, replace(fault, at=-1, lasting=False))
    ids = run_on(disk, folder)
    numbers: Sequence[int] = range(len(disk.called))
    if step > 1 and fault.of == CALLS:
        called = [None, *disk.called, None]
        numbers = [number for number in numbers if len({*called[number : number + 3]}) > 1]
    return numbers[list(KINDS.values()).index(fault) % step :: step], ids


def main(folder: Path, kind: Fault, step: int) -> None:
    """Let each `step`-th call fail, one run after the other."""
    stopped = 0
    for number in calls_to_fail(folder / "count", {}, kind, step)[0]:
        write_state(folder / str(number), {})
        try:
            run_on(Disk(folder / str(number), replace(kind, at=number)), folder / str(number))
        except StorageError:
            stopped += 1
    sys.stdout.write(f"{stopped > 10}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), KINDS[sys.argv[2]], int(sys.argv[3]))
