"""File systems without hard links or locks, imitated: system calls fail as they do there. None of them is mounted."""

import ctypes
import errno
import fcntl
import os
from types import SimpleNamespace

import pytest
from store_makers import make_store, recipe, seal_records

from mcis_cli.errors import StorageError
from mcis_cli.store import files, open_store

LOCKS = {"flock": "flock", "fcntl": "lockf"}


def without_locks(monkeypatch, *names, number=errno.ENOLCK):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    calls = {name: getattr(fcntl, name) for name in dir(fcntl)}
    monkeypatch.setattr(files, "fcntl", SimpleNamespace(**calls | {LOCKS[name]: refuse for name in names}))


def without_links(monkeypatch, number=errno.EPERM):
    calls = {name: getattr(os, name) for name in dir(os)}

    def link(source, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "os", SimpleNamespace(**calls | {"link": link}))


def without_renames(monkeypatch):
    """As on NFS and many file systems in user space."""

    def renameat2(*_):
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(renameat2=renameat2))


def seal_twice(folder):
    """The warnings of a store that is worked on twice."""
    warnings = []
    store = open_store(folder / ".mcis", warn=warnings.append)
    assert seal_records(store).is_intact()
    assert seal_records(store, recipe(refs=1)).is_intact()
    assert list((store.root / "tmp").iterdir()) == list((store.root / "partial").iterdir()) == []
    return warnings


def test_this_file_system_has_all_and_nothing_is_said(tmp_path):
    assert seal_twice(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.parametrize("names", [("flock",), ("fcntl",), ("flock", "fcntl")])
def test_without_locks_work_goes_well_after_one_warning_that_names_them(tmp_path, monkeypatch, names, number):
    without_locks(monkeypatch, *names, number=number)
    (warning,) = seal_twice(tmp_path)
    assert f"has no locks ({' and '.join(names)}): commands that run at the same time may do the same work" in warning


def test_a_lock_that_another_process_holds_is_not_missing(tmp_path, monkeypatch):
    without_locks(monkeypatch, "fcntl", number=errno.EAGAIN)
    assert seal_twice(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_without_hard_links_files_are_renamed_and_nothing_is_said(tmp_path, monkeypatch, number):
    without_links(monkeypatch, number)
    assert seal_twice(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_without_links_and_renames_work_ends_before_it_begins(tmp_path, monkeypatch, number):
    store = make_store(tmp_path)
    without_links(monkeypatch, number)
    without_renames(monkeypatch)
    with pytest.raises(StorageError, match="hard links"), store.begin(recipe()):
        pytest.fail("work has begun")
    assert list((store.root / "tmp").iterdir()) == list((store.root / "partial").iterdir()) == []


def test_without_links_and_renames_no_store_is_made(tmp_path, monkeypatch):
    without_links(monkeypatch)
    without_renames(monkeypatch)
    with pytest.raises(StorageError, match="hard links, which FAT lacks"):
        make_store(tmp_path)


def test_reading_tests_nothing(tmp_path, monkeypatch):
    made = seal_records(make_store(tmp_path))
    without_links(monkeypatch)
    without_renames(monkeypatch)
    without_locks(monkeypatch, *LOCKS)
    store = open_store(tmp_path / ".mcis", warn=pytest.fail)
    assert [one.id for one in store.artifacts()] == [made.id]
    assert store.find(recipe()).content_id() == made.id


def test_a_command_warns_once(call, chain_copy, monkeypatch):
    without_locks(monkeypatch, *LOCKS)
    answer = call("run", "--set", "pseudo.foreground_threshold=0.37", "--device", "cpu", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert answer.err.count("has no locks (flock and fcntl)") == 1
    listed = call("ls", cwd=chain_copy.folder)
    assert (listed.code, listed.err) == (0, "")
