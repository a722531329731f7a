"""A store from elsewhere: whatever replaces one of its files or folders, nothing outside is read or written."""

import os
import shutil
import signal
from contextlib import contextmanager, suppress

import pytest
from sizes import size
from store_makers import IDS, SCHEMA, make_store, recipe, records, seal_records, seal_tensors

from mcis_cli.errors import McisError
from mcis_cli.store import StatCache, files, open_store, segments_of
from mcis_cli.store.locks import held
from mcis_cli.store.upkeep.collection import Choice, collect
from mcis_cli.store.upkeep.merging import merge
from mcis_cli.store.upkeep.repair import move_aside, repair
from mcis_cli.store.upkeep.verification import verify

FEW = IDS[:3]
UNFINISHED = recipe(refs=1)
TRAINING = recipe("train-seg")


def work(store):
    """Resume all unfinished work, and compute again what is missing."""
    for each in (lambda: seal_records(store, ids=FEW), lambda: seal_tensors(store)):
        with suppress(McisError):
            each().close()
    with suppress(McisError), store.begin(UNFINISHED, lock="fail") as partial:
        partial.write_segment(1, SCHEMA, records(segments_of(IDS)[1]))
    with suppress(McisError), store.begin(TRAINING, lock="fail") as partial:
        step, _ = partial.load_checkpoint() or (0, b"")
        with suppress(McisError):
            partial.truncate_log(step)
        with suppress(McisError):
            partial.log({"step": step + 1})
        partial.save_checkpoint(step + 1, b"more")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with everything that a store can have in it."""
    folder = tmp_path_factory.mktemp("made")
    store = make_store(folder)
    with store.begin(recipe("train-cls")) as partial:
        partial.log({"step": 1})
    classifier = seal_tensors(store)
    store.name("best", classifier)
    classifier.close()
    with store.begin(UNFINISHED) as partial:
        partial.write_segment(0, SCHEMA, records(segments_of(IDS)[0]))
    work(store)
    store.set_location("ab" * 32, {"root": "shapes"})
    spoiled = seal_records(store, recipe(refs=7), FEW)
    spoiled.close()
    move_aside(store, spoiled.path)
    with StatCache(store.index_path) as cache:
        os.utime(store.root / "format", (0, 0))
        cache.put(store.root / "format", "x", os.stat(store.root / "format"), {}, looked_ns=2**62)
    (store.root / "tmp" / "cams-0123456789abcdef.1-00").write_bytes(b"left")
    with held(store.root / "locks" / "repair", None, "fail"):
        pass
    return store.root


@contextmanager
def bounded(seconds=20):
    def stop(*_):
        raise AssertionError("it waits for something that never comes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


REPLACEMENTS = {
    "link to a file": lambda path, outside: path.symlink_to(outside / "secret"),
    "dangling link": lambda path, outside: path.symlink_to(outside / "absent"),
    "link to a folder": lambda path, outside: path.symlink_to(outside),
    "link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "pipe": lambda path, outside: os.mkfifo(path),
    "folder": lambda path, outside: path.mkdir(),
}


def use(root, other):
    """Everything that a command does with a store; each may refuse, and none may end otherwise."""
    with suppress(McisError):
        store = open_store(root)
        for act in (
            lambda: store.names(),
            lambda: list(store.all_done()),
            lambda: store.location("ab" * 32),
            lambda: store.unfinished(),
            lambda: store.begun(UNFINISHED),
            lambda: store.artifacts(on_damaged=lambda _: None),
            lambda: store.get("best"),
            lambda: list(collect(store, Choice(scopes=frozenset(("artifacts", "partial", "tmp"))), delete=False)),
            lambda: list(merge(open_store(other), store, lambda _: None)),
            lambda: StatCache(store.index_path).close(),
            lambda: work(store),
            lambda: store.set_location("ab" * 32, {"root": "other"}),
            lambda: list(repair(store, verify(store).findings)),
            lambda: list(merge(store, open_store(other), lambda _: None)),
            lambda: list(collect(store, Choice(scopes=frozenset(("artifacts", "partial", "tmp"))), delete=True)),
        ):
            with suppress(McisError):
                act()


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_whatever_is_in_the_place_of_a_path_of_a_store_leads_nowhere(made, tmp_path, kind, monkeypatch):
    """In CI each path is replaced in two of the six ways, in turns, in a long run in each."""
    monkeypatch.setattr(files, "sync", lambda *_: None)
    monkeypatch.setattr(files, "sync_folder", lambda *_: None)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    paths = sorted(path.relative_to(made) for path in made.rglob("*"))
    assert len(paths) > 35
    assert {path.parts[0] for path in paths} >= {"artifacts", "damaged", "facts", "format", "keys", "locks", "refs"}
    step = size(3, 1)
    for path in paths[list(REPLACEMENTS).index(kind) % step :: step]:
        root, other = tmp_path / "store", tmp_path / "other"
        for target in (root, other):
            shutil.copytree(made, target)
        remove(root / path)
        REPLACEMENTS[kind](root / path, outside)
        with bounded():
            use(root, other)
        assert {one.name: one.read_bytes() for one in outside.iterdir()} == {"secret": b"secret"}, path
        for target in (root, other):
            assert b"secret" not in [
                one.read_bytes() for one in target.rglob("*") if one.is_file() and not one.is_symlink()
            ]
            shutil.rmtree(target)


@pytest.mark.parametrize("kind", ["dangling link", "pipe"])
@pytest.mark.parametrize("name", ["format", "metrics.jsonl", "best", "keys"])
def test_a_link_or_a_pipe_at_one_of_these_is_one_error(made, tmp_path, kind, name):
    outside, root = tmp_path / "outside", tmp_path / "store"
    outside.mkdir()
    shutil.copytree(made, root)
    (path,) = [path for path in root.rglob(name) if path.parent.name != "artifacts"]
    remove(path)
    REPLACEMENTS[kind](path, outside)

    def act():
        store = open_store(root)
        store.names()
        with store.begin(TRAINING) as partial:
            partial.log({"step": 2})

    with bounded(), pytest.raises(McisError, match=rf"{name} is |is not a store"):
        act()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["format", "refs/best", "facts"])
def test_a_huge_file_is_not_read_whole(made, tmp_path, name, monkeypatch):
    root = tmp_path / "store"
    shutil.copytree(made, root)
    os.truncate(root / name, 2**41)  # sparse: it has no blocks
    with suppress(McisError):
        open_store(root).names()
        StatCache(root / "facts", read_only=True)
