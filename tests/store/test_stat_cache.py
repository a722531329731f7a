"""What the stat cache may and may not believe."""

import os
import shutil
import sqlite3
import time

import pytest

from mcis_cli.store import StatCache

OLD = time.time_ns() - 3_600 * 10**9


@pytest.fixture
def later(monkeypatch):
    """Lets time pass, so that files made by the test are not too young to be remembered."""
    real = time.time_ns
    monkeypatch.setattr("mcis_cli.store.stat_cache.time.time_ns", lambda: real() + 10 * 10**9)


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.sqlite"


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    return tmp_path / "photo.jpg"


def remember(index, *files):
    with StatCache(index) as cache:
        for file in files:
            cache.put(file, os.stat(file), {"digest": file.read_bytes().decode()})


def recall(index, file):
    with StatCache(index) as cache:
        return cache.get(file)


@pytest.mark.usefixtures("later")
def test_what_is_put_is_got_at_once_and_by_the_next_process(index, photo):
    with StatCache(index) as cache:
        assert cache.get(photo) is None
        cache.put(photo, os.stat(photo), {"digest": "ab"})
        assert cache.get(photo) == {"digest": "ab"}
    assert recall(index, photo) == {"digest": "ab"}


@pytest.mark.usefixtures("later")
def test_ten_thousand_unchanged_files_are_not_read_again(index, tmp_path):
    files = [tmp_path / f"{number}" for number in range(10_000)]
    for file in files:
        file.touch()
    remember(index, *files)
    with StatCache(index) as cache:
        facts = [cache.get(file) or pytest.fail("read again") for file in files]
    assert facts == [{"digest": ""}] * len(files)


def test_what_is_known_is_found_by_its_key_and_not_by_reading_the_whole_table(index, photo):
    with StatCache(index) as cache:
        asked = []
        cache._database.set_trace_callback(asked.append)
        cache.get_all([photo, photo.parent])
        cache._database.set_trace_callback(None)
        (query,) = asked
        plan = cache._database.execute(f"explain query plan {query}").fetchall()
    assert len(plan) == 1
    assert plan[0][-1].startswith("SEARCH facts USING PRIMARY KEY (device=? AND inode=?)")


def test_a_file_as_young_as_the_clocks_tick_is_not_remembered(index, photo):
    remember(index, photo)
    assert recall(index, photo) is None


def test_age_is_counted_from_when_the_file_was_looked_at(index, photo):
    status = os.stat(photo)
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    with StatCache(index) as cache:
        cache.put(photo, status, {"digest": "ab"}, looked_ns=newest + 10**9)
        assert cache.get(photo) is None
        cache.put(photo, status, {"digest": "ab"}, looked_ns=newest + 3 * 10**9)
        assert cache.get(photo) == {"digest": "ab"}


@pytest.mark.usefixtures("later")
def test_a_file_from_the_future_is_not_remembered(index, photo):
    os.utime(photo, ns=(time.time_ns() + 10**12, time.time_ns() + 10**12))
    remember(index, photo)
    assert recall(index, photo) is None


@pytest.mark.usefixtures("later")
def test_an_edit_of_the_same_size_with_the_old_mtime_is_noticed(index, photo):
    os.utime(photo, ns=(OLD, OLD))
    remember(index, photo)
    photo.write_bytes(b"other")
    os.utime(photo, ns=(OLD, OLD))
    assert recall(index, photo) is None


@pytest.mark.usefixtures("later")
def test_two_files_that_swap_names_are_told_apart(index, photo, tmp_path):
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other")
    for file in (photo, other):
        os.utime(file, ns=(OLD, OLD))
    remember(index, photo, other)
    photo.rename(tmp_path / "spare")
    other.rename(photo)
    (tmp_path / "spare").rename(other)
    for file in (photo, other):
        facts = recall(index, file)
        assert facts is None or facts["digest"] == file.read_bytes().decode()


@pytest.mark.usefixtures("later")
def test_a_touched_and_a_copied_file_are_read_again(index, photo, tmp_path):
    remember(index, photo)
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert recall(index, tmp_path / "copy" / "photo.jpg") is None
    os.utime(photo, ns=(OLD, OLD))
    assert recall(index, photo) is None


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(index, photo):
    def read(file):
        file.write_bytes(b"longer than before")
        return {"digest": "of neither"}

    with StatCache(index) as cache:
        assert (cache.get(photo) or cache.look(photo, read)) == {"digest": "of neither"}
        assert cache.get(photo) is None


@pytest.mark.parametrize("data", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
@pytest.mark.usefixtures("later")
def test_a_corrupt_index_is_made_anew(index, photo, data):
    index.write_bytes(data)
    remember(index, photo)
    assert recall(index, photo) == {"digest": "photo"}


@pytest.mark.usefixtures("later")
def test_an_index_that_is_corrupt_in_the_middle_is_made_anew(index, tmp_path):
    files = [tmp_path / f"{number}" for number in range(3000)]
    for file in files:
        file.touch()
    remember(index, *files)
    data = index.read_bytes()
    index.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with StatCache(index) as cache:
        assert [cache.get(file) for file in files].count(None) > 0
        cache.put(files[0], os.stat(files[0]), {"digest": "anew"})
    assert recall(index, files[0]) == {"digest": "anew"}


@pytest.mark.usefixtures("later")
def test_corruption_found_when_writing_makes_the_index_anew(index, photo):
    with StatCache(index) as cache:
        cache.put(photo, os.stat(photo), {"digest": "ab"})
        cache._database.close()
        index.write_bytes(b"no database at all" * 100)
        cache._database = sqlite3.connect(index)
        cache.flush()
    assert recall(index, photo) is None


@pytest.mark.usefixtures("later")
def test_without_a_place_to_write_facts_are_remembered_for_the_time_being(tmp_path, photo):
    for path in (None, tmp_path / "absent" / "index.sqlite"):
        with StatCache(path) as cache:
            cache.put(photo, os.stat(photo), {"digest": "ab"})
            cache.flush()
            assert cache.get(photo) == {"digest": "ab"}


@pytest.mark.usefixtures("later")
def test_an_index_that_is_locked_does_no_harm(index, photo, monkeypatch):
    remember(index, photo)
    monkeypatch.setattr("mcis_cli.store.stat_cache.LOCK_SECONDS", 0.01)
    other = sqlite3.connect(index)
    other.execute("begin exclusive")
    with StatCache(index) as cache:
        cache.put(photo, os.stat(photo), {"digest": "ab"})
    other.close()


@pytest.mark.usefixtures("later")
def test_an_index_that_gets_locked_does_no_harm(index, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("mcis_cli.store.stat_cache.LOCK_SECONDS", 0.01)
    with StatCache(index) as cache:
        other = sqlite3.connect(index)
        other.execute("begin exclusive")
        assert cache.get(photo) is None
        cache.put(photo, os.stat(photo), {"digest": "ab"})
        cache.flush()
        other.close()


def test_large_inodes_fit(monkeypatch):
    from mcis_cli.store import stat_cache

    status = os.stat_result((0, 2**64 - 1, 2**63, *[0] * 7))
    assert stat_cache._key(status) == (-(2**63), -1)


def test_a_file_that_is_not_there_is_an_error_of_the_caller(index, tmp_path):
    with StatCache(index) as cache, pytest.raises(FileNotFoundError, match="absent"):
        cache.get(tmp_path / "absent")


@pytest.mark.parametrize("content", [None, b"no database", b""])
def test_a_cache_that_is_only_read_is_left_as_it_is(tmp_path, content):
    path, file = tmp_path / "index.sqlite", tmp_path / "image"
    file.write_bytes(b"pixels")
    os.utime(file, ns=(1, 1))
    if content is not None:
        path.write_bytes(content)
    with StatCache(path, read_only=True) as cache:
        assert cache.get(file) is None
        cache.put(file, os.stat(file), {"sha256": "x"})
        cache.flush()
    assert (path.read_bytes() if content is not None else None) == content
    assert path.exists() == (content is not None)


def test_a_cache_that_is_only_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    path, file = tmp_path / "in?dex %41#.sqlite", tmp_path / "image"
    file.write_bytes(b"pixels")
    with StatCache(path) as cache:
        cache.put(file, os.stat(file), {"sha256": "x"})
    with StatCache(path, read_only=True) as cache:
        assert cache.get(file) == {"sha256": "x"}
