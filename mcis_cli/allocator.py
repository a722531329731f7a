"""The memory that a process frees."""

import ctypes
import os
import sys

# Numbers of mallopt in glibc, and what sets the same from outside.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_OWN_WISH = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory(*, in_threads: bool = False) -> None:
    """Make glibc keep freed memory: by default it returns each large tensor's pages, and the system zeroes them for the
    next.

    With another allocator, or if the environment sets glibc's variables, nothing is changed.

    Args:
        in_threads: also what threads free that start from now on. They then share one heap, and wait for each other, so
            this is for processes in which one thread works.
    """
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or tuned or any(name in os.environ for name in _OWN_WISH):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_MAX, 0)
        if in_threads and "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(_ARENA_MAX, 1)
