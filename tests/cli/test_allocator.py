"""Freed memory is kept by the process, unless whoever runs it wishes otherwise."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource, threading
from mcis_cli.allocator import keep_freed_memory
def take():
    faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**26)
    before = faults()
    for _ in range(8):
        bytes(bytearray(2**26))
    print(faults() - before)
"""
MAIN = "keep_freed_memory(); take()"
THREAD = "keep_freed_memory(in_threads={}); thread = threading.Thread(target=take); thread.start(); thread.join()"
PAGES = 2**26 // 4096


def faults(run=MAIN, **variables):
    """Pages that the system gave while two blocks of 64 MiB were taken and freed, eight times."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + run], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="the allocator of glibc")
def test_blocks_are_taken_again_without_asking_the_system():
    assert faults() <= 3 * PAGES


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="the allocator of glibc")
def test_threads_keep_memory_where_this_is_requested():
    assert faults(THREAD.format(True)) <= 3 * PAGES


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="the allocator of glibc")
@pytest.mark.parametrize("wish", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=9"}])
def test_who_tunes_the_allocator_is_obeyed(wish):
    assert faults(**wish) > 6 * PAGES
