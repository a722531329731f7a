import hashlib
import os
from pathlib import Path

import pytest
from image_sets import write

from mcis_cli.data import facts
from mcis_cli.data.facts import file_facts, no_facts
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache


def length(content: bytes, name: str) -> facts.Facts:
    if content == b"bad":
        raise DataError(f"{name}: bad")
    return {"length": len(content)}


def old(file: Path) -> Path:
    """Make a file old enough to be remembered; ctime cannot be set, so tests of the cache patch its limit."""
    os.utime(file, ns=(10**18, 10**18))
    return file


def test_facts_come_in_the_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "BATCH", 3)  # 8 files are two whole batches and a part
    files = [write(tmp_path / str(i), b"x" * i) for i in range(8)]
    found = list(file_facts(files, "length-1", length))
    expected = [{"sha256": hashlib.sha256(b"x" * i).hexdigest(), "length": i} for i in range(8)]
    assert found == expected


def test_a_file_that_cannot_be_read_or_measured_becomes_its_error(tmp_path: Path) -> None:
    files = [write(tmp_path / "a", b"good"), write(tmp_path / "b", b"bad"), tmp_path / "gone"]
    good, bad, gone = file_facts(files, "length-1", length)
    assert isinstance(good, dict)
    assert str(bad) == f"{tmp_path}/b: bad"
    assert str(gone).startswith(f"cannot read {tmp_path}/gone: No such file")


def test_known_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    files = [old(write(tmp_path / name, b"good")) for name in "ab"] + [tmp_path / "gone"]
    with StatCache(None) as cache:
        first = list(file_facts(files, "length-1", length, cache))
        monkeypatch.setattr(facts, "_read", lambda file, *_: DataError(f"read {file.name}"))
        again = list(file_facts(files, "length-1", length, cache))
        assert again[:2] == first[:2]
        assert str(again[2]) == "read gone"
        # facts of another measure are not these
        assert [str(error) for error in file_facts(files[:1], "length-2", length, cache)] == ["read a"]


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    file = old(write(tmp_path / "a", b"good"))
    with StatCache(None) as cache:
        (before,) = file_facts([file], "file-1", no_facts, cache)
        write(file, b"changed")
        (after,) = file_facts([file], "file-1", no_facts, cache)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert after["sha256"] == hashlib.sha256(b"changed").hexdigest() != before["sha256"]
