"""Signals that come while HDF5 writes: none gets into it, and none is lost."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcis_cli.store.format.undisturbed import undisturbed


def test_what_a_signal_raises_waits_for_the_end_of_the_block():
    done = []

    def work():
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_and_a_deadly_one_stay_so():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_other_threads_are_left_alone():
    seen = []

    def look():
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_signal_at_every_write_of_hdf5_crashes_nothing_and_leaves_nothing(tmp_path):
    """The n-th call back from HDF5 sends a signal; without `undisturbed` the interpreter dies of it, or hides it."""
    code = """
import os, signal, sys
import numpy as np
from pathlib import Path
from mcis_cli.store import Recipe, open_store
from mcis_cli.store.format import container
store = open_store(Path(sys.argv[1]) / ".mcis")
calls = {name: getattr(container._Sink, name) for name in ("write", "readinto", "seek", "truncate")}
left = 0
def counting(call):
    def counted(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return call(*arguments)
    return counted
for name, call in calls.items():
    setattr(container._Sink, name, counting(call))
records = [(name, {"x": np.arange(9, dtype=np.uint8)}) for name in "abc"]
def segment(partial): partial.write_segment(0, {"x": ("uint8", 1)}, records)
def tensors(partial): partial.seal_tensors({"w": np.arange(99), "v": np.arange(9)}, {}, {})
for stage, write in (("cams", segment), ("train-cls", tensors)):
    number, stopped = 0, True
    while stopped:
        number, stopped = number + 1, False
        with store.begin(Recipe(stage, 1, {"number": number}, {}), lock="none") as partial:
            left = number
            try:
                write(partial)
            except KeyboardInterrupt:
                stopped = True
        assert not list((store.root / "tmp").iterdir())
    assert number > 20, number
print("whole")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
