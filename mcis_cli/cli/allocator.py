"""Memory that is freed stays with the process: the next batch takes it again, instead of asking the system for it."""

import ctypes
import os
import sys

# Numbers of mallopt in glibc, and what sets the same from outside.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_OWN_WISH = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> None:
    """Let glibc keep what it has: as published it returns each large tensor's pages, and has them zeroed for the next.

    Where there is another allocator, or the environment sets glibc's own variables, nothing is changed.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or tuned or any(name in os.environ for name in _OWN_WISH):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_MAX, 0)
