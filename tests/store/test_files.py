"""The file layer by itself; test_crashes.py and test_faults.py see what the store makes of it."""

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from crashes import work
from recorded_disk import Disk
from store_makers import make_store, recipe, seal_records

from mcis_cli.errors import StorageError
from mcis_cli.store import files


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Nothing waits for the disk: what syncing does is simulated where it matters."""
    monkeypatch.setattr(files, "os", Disk(tmp_path).namespace)


def test_a_disk_that_fills_up_does_not_crash_the_interpreter_at_its_exit(tmp_path):
    code = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from mcis_cli.errors import StorageError
from mcis_cli.store import Recipe, open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(Path(sys.argv[1]) / ".mcis")
data = np.random.default_rng(0).random((100, 100))
for limit in range(1_000, 60_000, 3_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with store.begin(Recipe("cams", 1, {}, {}), lock="none") as partial:
        for write in (lambda: partial.write_segment(0, {"x": ("float64", 2)}, [("a", {"x": data}), ("b", {"x": data})]),
                      lambda: partial.seal_tensors({"w": data, "v": data}, {}, {})):
            try:
                write()
                sys.exit("was not stopped")
            except StorageError as error:
                assert "File too large" in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(store.begin(Recipe("cams", 1, {}, {})).__enter__().seal_tensors({"w": data}, {}, {}).stage)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cams\n", "")
    assert list((tmp_path / ".mcis" / "tmp").iterdir()) == []


def test_a_write_that_writes_nothing_is_a_full_disk(tmp_path, monkeypatch):
    disk = Disk(tmp_path)
    disk.namespace.pwrite = lambda *_: 0
    monkeypatch.setattr(files, "os", disk.namespace)
    with pytest.raises(OSError, match="No space left"):
        files.write(0, b"x", 0)


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    ids = work(tmp_path / "whole")
    disk = Disk(tmp_path)
    disk.namespace.pwrite = lambda descriptor, data, offset: os.pwrite(descriptor, data[:100], offset)
    disk.namespace.write = lambda descriptor, data: os.write(descriptor, data[:3])
    monkeypatch.setattr(files, "os", disk.namespace)
    assert work(tmp_path) == ids


def test_a_link_to_a_name_that_is_taken_changes_nothing(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).write_text(name)
    assert not files.link(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"


def test_removing_what_is_gone_or_filled_is_fine(tmp_path):
    files.unlink(tmp_path / "gone")
    files.remove_folder(tmp_path / "gone")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "file").touch()
    files.remove_folder(tmp_path / "filled")
    assert (tmp_path / "filled" / "file").exists()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some of your quota"),
        (errno.EROFS, "--store FOLDER"),
        (errno.EACCES, "--store FOLDER"),
        (errno.ENOTSUP, "hard links"),
        (errno.EIO, "check the disk"),
        (errno.ENOTEMPTY, "run the same command again"),
    ],
)
def test_each_failure_says_what_helps(tmp_path, number, remedy):
    with pytest.raises(StorageError, match=remedy), files.reported("write", tmp_path):
        raise OSError(number, os.strerror(number))


def no_links(source, target):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_hard_links_a_file_gets_its_name_by_a_rename_that_overwrites_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", no_links)
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    assert files.link(tmp_path / "a", tmp_path / "name")
    assert not files.link(tmp_path / "b", tmp_path / "name")
    assert (tmp_path / "name").read_bytes() == b"first"
    assert not (tmp_path / "a").exists()


def test_a_store_works_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", no_links)
    store = make_store(tmp_path)
    made = seal_records(store)
    assert store.find(recipe()).id == made.id
    assert made.content_id() == made.id
    assert list((store.root / "tmp").iterdir()) == []


def test_where_neither_link_nor_rename_will_do_the_hint_names_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", no_links)
    (tmp_path / "a").touch()
    with pytest.raises(StorageError, match="hard links, which FAT lacks"):
        files.link(tmp_path / "a", tmp_path / "absent" / "name")


def test_reading_takes_memory_for_what_is_there_not_for_what_may_be(tmp_path):
    (tmp_path / "facts").write_bytes(b"few")
    tracemalloc.start()
    try:
        assert files.read_regular(tmp_path / "facts", 2**28) == b"few"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
