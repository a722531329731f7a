"""Each call of the file layer fails: in CI in one of two ways, in turns, in a long run in each of nine."""

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import failing_disk
import pytest
from crashes import Recording, checked, start_of
from failing_disk import KINDS, calls_to_fail, run_on
from recorded_disk import Disk, Fault, write_state
from sizes import size

from mcis_cli.errors import StorageError
from mcis_cli.store import files

pytestmark = [pytest.mark.promise, pytest.mark.heavy]

IN_CI = ("no space", "I/O error")
TURNS = size(len(IN_CI), 1)
EVERY_KIND = [pytest.param(KINDS[name], id=name, marks=[] if name in IN_CI else pytest.mark.long) for name in KINDS]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Nothing waits for the disk."""
    monkeypatch.setattr(files, "os", Disk(tmp_path).namespace)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    return start_of(tmp_path_factory.mktemp("half") / "done")


@pytest.mark.slow
@pytest.mark.parametrize("fault", EVERY_KIND)
@pytest.mark.parametrize("fresh", [True, pytest.param(False, marks=pytest.mark.long)], ids=["fresh", "mended"])
def test_whichever_call_fails_is_one_line_and_the_next_run_ends_with_the_same_ids(fault, fresh, half_done, tmp_path):
    start = {} if fresh else half_done
    tried, ids = calls_to_fail(tmp_path / "count", start, fault, TURNS)
    messages = []
    for number in tried:
        root = tmp_path / "root"
        write_state(root, start)
        try:
            assert run_on(Disk(root, replace(fault, at=number)), root) == ids
        except StorageError as error:
            messages.append(str(error))
        checked(root, frozenset(), Recording([], ids, start))
        shutil.rmtree(root)
    assert TURNS * len(tried) > 10
    said = os.strerror(fault.error or errno.ENOSPC)
    assert [message for message in messages if not re.fullmatch(rf"cannot .*: {said}; .*", message)] == []
    if not fault.short:  # after a short write the rest is written
        assert len(messages) > len(tried) / 2


def test_a_file_that_could_not_be_synced_is_never_given_a_name(tmp_path):
    """The kernel forgets what it could not write, and a second fsync says that all is well: `Disk` knows better."""
    disk = Disk(tmp_path, Fault(0, errno.EIO, of=("fsync",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", disk.namespace)
        with files.temporary(tmp_path / "new") as descriptor:
            with pytest.raises(StorageError, match="cannot sync"):
                files.sync(descriptor, tmp_path / "new")
            files.sync(descriptor, tmp_path / "new")
            with pytest.raises(AssertionError, match="could not be synced"):
                files.link(tmp_path / "new", tmp_path / "final")


@pytest.mark.slow
@pytest.mark.parametrize("kind", size(IN_CI, tuple(KINDS)))
def test_no_failure_crashes_the_interpreter_then_or_at_its_exit(tmp_path, kind):
    done = subprocess.run(
        [sys.executable, failing_disk.__file__, tmp_path, kind, str(TURNS)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("False\n" if kind == "short write" else "True\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", size(IN_CI, tuple(KINDS)))
def test_the_command_says_so_in_one_line_exits_with_6_and_is_run_again(chain, call, tmp_path, monkeypatch, kind):
    command = [
        "pseudo",
        chain.made["cams"].id[:12],
        "--background",
        "constant",
        "--set",
        "pseudo.background_score=0.31",
    ]

    def run(name, fault):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            shutil.copytree(
                chain.folder / ".mcis",
                folder / ".mcis",
                copy_function=os.link,
                ignore=shutil.ignore_patterns("facts"),
            )
        disk = Disk(folder, fault)
        monkeypatch.setattr(files, "os", disk.namespace)
        return disk, call(*command, "-q", cwd=folder)

    disk, whole = run("whole", replace(KINDS[kind], at=-1, lasting=False))
    assert whole.code == 0
    codes = []
    for number in range(0, len(disk.called), size(5, 1)):
        _, answer = run("failed", replace(KINDS[kind], at=number))
        codes.append(answer.code)
        if answer.code:
            assert (answer.code, answer.out) == (6, "")
            assert re.fullmatch(r"mcis: error: cannot .*; .*\n", answer.err)
        assert run("failed", None)[1].out == whole.out
        shutil.rmtree(tmp_path / "failed")
    assert codes.count(6) > 5 or kind == "short write"
