"""What the stat cache may and may not believe."""

import os
import shutil
import time

import pytest
from store_makers import rewrite

from mcis_cli.store import StatCache, stat_cache

KIND = "bytes-1"
OLD = time.time_ns() - 3_600 * 10**9


@pytest.fixture
def later(monkeypatch):
    """Lets time pass, so that files made by the test are not too young to be remembered."""
    real = time.time_ns
    monkeypatch.setattr("mcis_cli.store.stat_cache.time.time_ns", lambda: real() + 10 * 10**9)


@pytest.fixture
def index(tmp_path):
    (tmp_path / "tmp").mkdir()
    return tmp_path / "facts"


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    return tmp_path / "photo.jpg"


def remember(index, *files):
    with StatCache(index) as cache:
        for file in files:
            cache.put(file, KIND, os.stat(file), {"digest": file.read_bytes().decode()})


def recall(index, file):
    with StatCache(index) as cache:
        return cache.get(file, KIND)


@pytest.mark.usefixtures("later")
def test_what_is_put_is_got_at_once_and_by_the_next_process(index, photo):
    with StatCache(index) as cache:
        assert cache.get(photo, KIND) is None
        cache.put(photo, KIND, os.stat(photo), {"digest": "ab"})
        assert cache.get(photo, KIND) == {"digest": "ab"}
    assert recall(index, photo) == {"digest": "ab"}


@pytest.mark.usefixtures("later")
def test_facts_of_two_kinds_do_not_displace_each_other(index, photo):
    with StatCache(index) as cache:
        cache.put(photo, "tags-1", os.stat(photo), {"tags": ["cat"]})
        cache.put(photo, "size-1", os.stat(photo), {"size": [3, 4]})
    with StatCache(index) as cache:
        assert cache.get_all([(photo, "tags-1"), (index, "tags-1")]) == [{"tags": ["cat"]}, None]
        assert cache.get(photo, "size-1") == {"size": [3, 4]}


def test_a_file_as_young_as_the_clocks_tick_is_not_remembered(index, photo):
    remember(index, photo)
    assert recall(index, photo) is None


def test_age_is_counted_from_when_the_file_was_looked_at(index, photo):
    status = os.stat(photo)
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    with StatCache(index) as cache:
        cache.put(photo, KIND, status, {"digest": "ab"}, looked_ns=newest + 10**9)
        assert cache.get(photo, KIND) is None
        cache.put(photo, KIND, status, {"digest": "ab"}, looked_ns=newest + 3 * 10**9)
        assert cache.get(photo, KIND) == {"digest": "ab"}


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
        assert (cache.get(photo, KIND) or cache.look(photo, KIND, read)) == {"digest": "of neither"}
        assert cache.get(photo, KIND) is None


@pytest.mark.usefixtures("later")
def test_a_changed_bit_anywhere_throws_the_cache_away(index, photo):
    """A bit of a digest said that the file had changed, for ever; one of an annotation gave it another tag."""
    remember(index, photo)
    data = index.read_bytes()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        rewrite(index, bytes(flipped))
        with StatCache(index, read_only=True) as cache:
            assert cache.get(photo, KIND) is None
    remember(index, photo)
    assert recall(index, photo) == {"digest": "photo"}


@pytest.mark.parametrize("data", [b"", b"no cache at all", b"mcis facts 1\n" + b"0" * 64 + b"\n", b"\xff" * 5000])
@pytest.mark.usefixtures("later")
def test_a_file_that_is_no_cache_is_made_anew(index, photo, data):
    index.write_bytes(data)
    remember(index, photo)
    assert recall(index, photo) == {"digest": "photo"}


@pytest.mark.parametrize("facts", [b"{", b"[1]", b"9" * 5000, b"[" * 100_000, b"\xff"])
@pytest.mark.usefixtures("later")
def test_forged_facts_with_a_right_digest_are_none(index, photo, facts):
    key, state = stat_cache._key(os.stat(photo), KIND.encode()), stat_cache._state(os.stat(photo))
    index.write_bytes(stat_cache._render({key: b"\t".join((key, state, facts))}))
    assert recall(index, photo) is None


@pytest.mark.usefixtures("later")
def test_nothing_of_sqlite_is_read_or_removed(index, photo, tmp_path):
    """A journal beside a database may name any file, which SQLite then deletes."""
    precious = tmp_path / "precious.txt"
    precious.write_bytes(b"mine")
    magic = bytes.fromhex("d9d505f920a163d7")
    name = str(precious).encode()
    for old in ("index.sqlite-journal", "facts-journal"):
        trailer = name + len(name).to_bytes(4) + sum(name).to_bytes(4) + magic
        (tmp_path / old).write_bytes(magic + bytes(504) + bytes(4) + trailer)
    (tmp_path / "index.sqlite").write_bytes(b"SQLite format 3\0" + bytes(4080))
    remember(index, photo)
    assert precious.read_bytes() == b"mine"
    assert (tmp_path / "index.sqlite-journal").exists()


@pytest.mark.usefixtures("later")
def test_what_another_process_wrote_meanwhile_is_kept(index, photo, tmp_path):
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other")
    with StatCache(index) as cache:
        remember(index, other)
        cache.put(photo, KIND, os.stat(photo), {"digest": "photo"})
    assert (recall(index, photo), recall(index, other)) == ({"digest": "photo"}, {"digest": "other"})


@pytest.mark.usefixtures("later")
def test_a_cache_that_grows_beyond_its_bound_keeps_what_is_new(index, photo, tmp_path, monkeypatch):
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other")
    remember(index, other)
    monkeypatch.setattr(stat_cache, "MAX_BYTES", index.stat().st_size + 10)
    remember(index, photo)
    assert (recall(index, photo), recall(index, other)) == ({"digest": "photo"}, None)


@pytest.mark.usefixtures("later")
def test_without_a_place_to_write_facts_are_remembered_for_the_time_being(tmp_path, photo):
    for path in (None, tmp_path / "absent" / "facts"):
        with StatCache(path) as cache:
            cache.put(photo, KIND, os.stat(photo), {"digest": "ab"})
            cache.flush()
            assert cache.get(photo, KIND) == {"digest": "ab"}


def test_a_file_that_is_not_there_is_an_error_of_the_caller(index, tmp_path):
    with StatCache(index) as cache, pytest.raises(FileNotFoundError, match="absent"):
        cache.get(tmp_path / "absent", KIND)


@pytest.mark.parametrize("content", [None, b"no cache", b""])
def test_a_cache_that_is_only_read_is_left_as_it_is(tmp_path, content):
    path, file = tmp_path / "facts", tmp_path / "image"
    file.write_bytes(b"pixels")
    os.utime(file, ns=(1, 1))
    if content is not None:
        path.write_bytes(content)
    with StatCache(path, read_only=True) as cache:
        assert cache.get(file, KIND) is None
        cache.put(file, KIND, os.stat(file), {"sha256": "x"})
        cache.flush()
    assert (path.read_bytes() if content is not None else None) == content
    assert path.exists() == (content is not None)


def test_a_cache_that_is_only_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    path, file = tmp_path / "fa?cts %41#", tmp_path / "image"
    (tmp_path / "tmp").mkdir()
    file.write_bytes(b"pixels")
    with StatCache(path) as cache:
        cache.put(file, KIND, os.stat(file), {"sha256": "x"})
    with StatCache(path, read_only=True) as cache:
        assert cache.get(file, KIND) == {"sha256": "x"}
