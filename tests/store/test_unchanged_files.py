"""Which files the stat cache takes for unchanged: never one that changed, and thousands that did not, unread."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import encode, write
from sizes import size

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.store import StatCache, stat_cache

pytestmark = pytest.mark.promise
SECOND = 10**9


@pytest.fixture
def later(monkeypatch, tmp_path):
    """Lets time pass, so that files made by the test are not too young to be remembered."""
    (tmp_path / "tmp").mkdir()
    real = time.time_ns
    later = SimpleNamespace(time_ns=lambda: real() + 10 * SECOND)
    monkeypatch.setattr(stat_cache, "time", later)


@dataclass
class Inode:
    number: int
    content: int
    mtime: int
    ctime: int


@dataclass
class World:
    """A file system whose clock has ticks, and can be set. All files are of one size.

    Times are read by a program with the full precision of the clock, and are kept by the file system in ticks. Renaming
    changes no time (POSIX allows both), and the number of a file that is gone is given to the next new one.
    """

    tick: int
    now: int = 10**18
    files: dict[str, Inode] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    made: int = 0
    ticks: set[int] = field(default_factory=set)

    def stamp(self) -> int:
        """The time of a change.

        A clock that was set back reaches the same tick again, and a change in it cannot be distinguished from one in
        the first. That is the limit of the promise, so time passes until a new tick.
        """
        while self.now // self.tick * self.tick in self.ticks_before_set_back:
            self.now += self.tick
        self.ticks.add(self.now // self.tick * self.tick)
        return self.now // self.tick * self.tick

    ticks_before_set_back: set[int] = field(default_factory=set)

    def set_clock(self, by: int) -> None:
        self.ticks_before_set_back |= self.ticks
        self.now += by

    def stat(self, name: str) -> SimpleNamespace:
        inode = self.files[name]
        times = {"st_mtime_ns": inode.mtime, "st_ctime_ns": inode.ctime}
        return SimpleNamespace(st_dev=1, st_ino=inode.number, st_size=5, **times)

    def edit(self, name: str, content: int) -> None:
        stamp = self.stamp()
        inode = self.files[name]
        inode.content, inode.mtime, inode.ctime = content, stamp, stamp

    def create(self, name: str, content: int) -> None:
        """A new file; one of that name is removed first."""
        if name in self.files and [inode.number for inode in self.files.values()].count(self.files[name].number) == 1:
            self.free.append(self.files[name].number)
        self.made += not self.free
        stamp = self.stamp()
        self.files[name] = Inode(self.free.pop() if self.free else self.made, content, stamp, stamp)

    def copy(self, name: str, target: str) -> None:
        """As `cp -a` does: with the time of the last change of the content."""
        source = self.files[name]
        self.create(target, source.content)
        self.files[target].mtime = source.mtime

    def set_time(self, name: str, seconds: int) -> None:
        self.files[name].mtime = self.now // self.tick * self.tick + seconds * SECOND
        self.files[name].ctime = self.stamp()

    def swap(self, one: str, other: str) -> None:
        self.files[one], self.files[other] = self.files[other], self.files[one]

    def link(self, name: str, target: str) -> None:
        if name != target:
            self.create(target, 0)
            self.free.append(self.files[target].number)
            self.files[target] = self.files[name]


NAMES = st.sampled_from("ab")
CONTENTS = st.integers(0, 3)
WAITS = st.sampled_from([0, 1, 10**6, SECOND // 2, SECOND, 2 * SECOND, 3 * SECOND, 60 * SECOND])
ACTS = st.one_of(
    st.tuples(st.just("edit"), NAMES, CONTENTS),
    st.tuples(st.just("create"), NAMES, CONTENTS),
    st.tuples(st.just("copy"), NAMES, NAMES),
    st.tuples(st.just("swap"), NAMES, NAMES),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("set_time"), NAMES, st.sampled_from([-3600, -1, 0, 1, 3600])),
    st.tuples(st.just("set_clock"), st.sampled_from([-3600 * SECOND, -SECOND, -1, SECOND, 3600 * SECOND])),
)
STEPS = st.lists(st.tuples(WAITS, st.one_of(ACTS, st.none()), NAMES, st.none() | ACTS), min_size=1, max_size=12)


@settings(max_examples=size(200, 20_000))
@given(tick=st.sampled_from([1, 10**7, SECOND, 2 * SECOND]), steps=STEPS)
def test_a_file_that_changed_is_never_taken_for_unchanged(tick, steps):
    """Whatever happens to two files, between two looks and while one of them is read."""
    world = World(tick)
    for name in "ab":
        world.create(name, 0)
    assert_never_stale(world, steps)


def assert_never_stale(world, steps):
    with pytest.MonkeyPatch.context() as patch, StatCache(None) as cache:
        patch.setattr(stat_cache, "os", SimpleNamespace(stat=world.stat))
        patch.setattr(stat_cache, "time", SimpleNamespace(time_ns=lambda: world.now))
        for wait, act, looked_at, meanwhile in steps:
            world.now += wait
            if act is not None:
                getattr(world, act[0])(*act[1:])
            seen = []

            def read(name, meanwhile=meanwhile, seen=seen):
                seen.append(world.files[name].content)
                if meanwhile is not None:
                    getattr(world, meanwhile[0])(*meanwhile[1:])
                return {"digest": seen[0]}

            expected = world.files[looked_at].content
            assert (cache.get(looked_at, "") or cache.look(looked_at, "", read)) == {"digest": expected}


def test_without_the_rule_for_young_files_that_would_not_hold(monkeypatch):
    monkeypatch.setattr(stat_cache, "RACY_NS", 0)
    steps = [(0, ("edit", "a", 1), "a", None), (1, ("edit", "a", 2), "a", None)]
    world = World(SECOND)
    world.create("a", 0)
    with pytest.raises(AssertionError):
        assert_never_stale(world, steps)


class Opened:
    """Names of the files under a folder that this process opened."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] | None = None
        sys.addaudithook(lambda event, arguments: self._note(event, arguments, str(folder)))  # stays, and is deaf

    def _note(self, event, arguments, folder):
        if self.names is not None and event == "open" and str(arguments[0]).startswith(folder):
            self.names.append(str(arguments[0]))

    def __enter__(self) -> list[str]:
        self.names = []
        return self.names

    def __exit__(self, *_: object) -> None:
        self.names = None


@pytest.mark.usefixtures("later")
def test_thousands_of_unchanged_images_are_not_opened(tmp_path):
    root, image = tmp_path / "set", encode(np.zeros((1, 2, 3), np.uint8))
    files = [
        write(root / ("cat" if number % 2 else "dog") / f"{number:05d}.png", image)
        for number in range(size(1_000, 10_000))
    ]
    config, opened = DataConfig(root=str(root)), Opened(root)
    with StatCache(tmp_path / "facts") as cache, opened as names:
        first = read_catalogue(config, cache)
    assert set(map(str, files)) <= set(names)
    with StatCache(tmp_path / "facts") as cache, opened as names:
        second = read_catalogue(config, cache)
    assert [name for name in names if Path(name).is_file()] == []
    assert second.id == first.id
    files[123].write_bytes(encode(np.ones((1, 2, 3), np.uint8)))
    with StatCache(tmp_path / "facts") as cache, opened as names:
        third = read_catalogue(config, cache)
    assert [name for name in names if Path(name).is_file()] == [str(files[123])]
    assert third.id != first.id


# On a real file system.


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "photo.jpg").write_bytes(b"photo")
    return tmp_path / "set" / "photo.jpg"


def look(index, file):
    """What is read of a file, and whether it had to be read."""
    read = []
    with StatCache(index) as cache:
        known = cache.get(file, "")
        facts = known or cache.look(file, "", lambda path: read.append(path) or {"text": path.read_text()})
    return facts["text"], bool(read)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("other"),
        lambda file: os.utime(file),
        lambda file: os.utime(file, ns=(0, 0)),
        lambda file: os.utime(file, ns=(2**60, 2**60)),
        lambda file: (file.with_name("new").write_text("other"), os.replace(file.with_name("new"), file)),
        lambda file: (os.link(file, file.with_name("twin")), file.with_name("twin").write_text("other")),
        lambda file: (file.unlink(), file.write_text("other")),
        lambda file: (file.rename(file.with_name("real")), file.symlink_to("real"), file.write_text("other")),
    ],
    ids=["edit", "touch", "old", "future", "replace", "hard link", "anew", "symlink"],
)
def test_what_happened_to_a_file_is_noticed(tmp_path, photo, change):
    index = tmp_path / "facts"
    assert look(index, photo) == ("photo", True)
    assert look(index, photo) == ("photo", False)
    change(photo)
    assert look(index, photo) == (photo.read_text(), True)


@pytest.mark.usefixtures("later")
def test_an_edit_that_restores_size_and_time_is_noticed(tmp_path, photo):
    index, before = tmp_path / "facts", photo.stat()
    look(index, photo)
    photo.write_text("other")
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(index, photo) == ("other", True)


@pytest.mark.usefixtures("later")
def test_a_tree_that_was_copied_with_its_times_is_read_again(tmp_path, photo):
    index = tmp_path / "facts"
    look(index, photo)
    subprocess.run(["cp", "-a", photo.parent, tmp_path / "copy"], check=True)
    copy = tmp_path / "copy" / "photo.jpg"
    assert copy.stat().st_mtime_ns == photo.stat().st_mtime_ns
    assert look(index, copy) == ("photo", True)
    assert look(index, photo) == ("photo", False)


@pytest.mark.usefixtures("later")
def test_a_second_name_of_the_same_file_needs_no_reading(tmp_path, photo):
    look(tmp_path / "facts", photo)
    os.link(photo, photo.with_name("twin"))  # changes ctime, so the file is read once more
    look(tmp_path / "facts", photo)
    assert look(tmp_path / "facts", photo.with_name("twin")) == ("photo", False)


@pytest.mark.usefixtures("later")
def test_a_file_that_is_replaced_while_it_is_read_is_not_remembered(tmp_path, photo):
    def read(path):
        photo.with_name("new").write_text("other")
        os.replace(photo.with_name("new"), photo)
        return {"text": "photo"}

    with StatCache(tmp_path / "facts") as cache:
        assert (cache.get(photo, "") or cache.look(photo, "", read)) == {"text": "photo"}
    assert look(tmp_path / "facts", photo) == ("other", True)
