"""What is in use is held: artifacts that are read, temporary files, folders of work in progress."""

import errno
import fcntl
import gc
import json
import subprocess
import sys

import pytest
from store_makers import IDS, SCHEMA, make_store, recipe, records, seal_records, seal_tensors

from mcis_cli.errors import MissingError, StorageError
from mcis_cli.store import Artifact, files, segments_of
from mcis_cli.store import store as store_module


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def is_held(path):
    with files.claimed(path) as mine:
        return not mine


def write_all(partial):
    for index, segment in enumerate(segments_of(IDS)):
        partial.write_segment(index, SCHEMA, records(segment))


@pytest.mark.parametrize("way", ["sealed", "found", "got", "got by path"])
def test_an_artifact_is_held_until_it_is_closed_or_forgotten(store, way):
    sealed = seal_records(store)
    path = sealed.path
    if way != "sealed":
        sealed.close()
        assert not is_held(path)

    def artifact():
        ways = {
            "sealed": lambda: sealed,
            "found": lambda: store.find(recipe()),
            "got": lambda: store.get(path.stem),
            "got by path": lambda: store.get(path),
        }
        return ways[way]()

    with artifact():
        assert is_held(path)
    assert not is_held(path)
    held = artifact() if way != "sealed" else store.find(recipe())
    assert is_held(path)
    del held
    gc.collect()
    assert not is_held(path)


def test_two_hold_an_artifact_until_both_let_go(store):
    path = seal_records(store).path
    one, other = store.get(path), store.get(path)
    one.close()
    assert is_held(path)
    other.close()
    assert not is_held(path)


def test_listing_holds_nothing(store):
    path = seal_records(store).path
    listed = store.artifacts()
    assert not is_held(path)
    assert len(listed) == 1


def test_what_is_held_is_let_go_of_by_a_child_process(store):
    artifact = seal_records(store)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        child.stdout.readline()  # by then it has begun
        artifact.close()
        assert not is_held(artifact.path)
        child.communicate(b"\n")


def test_an_artifact_removed_before_it_was_held_is_missing(store, monkeypatch):
    path = seal_records(store).path
    monkeypatch.setattr(files, "hold", lambda descriptor: path.unlink())
    with pytest.raises(MissingError, match="was removed just now"):
        Artifact(path, held=True)


def test_an_artifact_removed_while_the_same_is_sealed_is_linked_again(store, monkeypatch):
    """Another process sealed it, and it was removed as nobody needed it, just before this one looked at it."""
    first = seal_tensors(store)
    first.close()
    link = files.link

    def removed_after(source, target):
        done = link(source, target)
        if not done and target == first.path:
            target.unlink()
        return done

    monkeypatch.setattr(store_module.Store, "find", lambda *_: None)
    monkeypatch.setattr(files, "link", removed_after)
    again = seal_tensors(store)
    assert again.id == first.id
    assert again.is_intact()
    assert is_held(again.path)


def test_a_temporary_file_is_held_and_made_again_where_it_was_removed_before_that(store, monkeypatch):
    path, hold, removed = store.temporary("x"), files.hold, []

    def slow(descriptor):
        if not removed:
            removed.append(path.unlink())
        hold(descriptor)

    monkeypatch.setattr(files, "hold", slow)
    with files.temporary(path) as descriptor:
        assert removed
        assert files.is_named(descriptor, path)
        assert is_held(path)
    assert not path.exists()


def test_what_a_process_writes_is_not_swept_away_by_another_at_the_same(store):
    with (
        store.begin(recipe(), lock="none") as one,
        one._temporary() as (path, _),
        store.begin(recipe(), lock="none"),
    ):
        assert path.exists()


def test_a_folder_of_work_says_what_is_made_in_it(store):
    with store.begin(recipe()) as partial:
        assert store.unfinished() == {partial.folder: recipe()}
        assert json.loads((partial.folder / "recipe.json").read_bytes())["inputs"] == {"classifier": "ab" * 32}
        partial.write_segment(0, SCHEMA, records(IDS[:64]))
    (partial.folder / "recipe.json").unlink()
    assert store.unfinished() == {partial.folder: None}
    with store.begin(recipe()):
        assert store.unfinished() == {partial.folder: recipe()}
    path = partial.folder / "recipe.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with store.begin(recipe()):
        assert store.unfinished() == {partial.folder: recipe()}


def test_a_folder_in_which_another_works_stays_although_nothing_was_begun(store):
    with store.begin(recipe(), lock="none") as one:
        with store.begin(recipe(), lock="none") as other:
            assert one.folder == other.folder
        assert is_held(one.folder)
        assert (one.folder / "recipe.json").exists()
    assert not one.folder.exists()


def test_work_goes_on_where_its_folder_was_removed(store):
    with store.begin(recipe()) as partial:
        for path in partial.folder.iterdir():
            path.unlink()
        partial.folder.rmdir()
        partial.log({"step": 1})
        partial.discard()
        partial.write_segment(0, SCHEMA, records(IDS[:64]))
        assert store.unfinished() == {partial.folder: recipe()}
        assert is_held(partial.folder)
        assert partial.segment(0)


def test_a_folder_that_cannot_be_made_is_told_and_not_tried_for_ever(store):
    (store.root / "partial").rmdir()
    with pytest.raises(StorageError, match="cannot make the folder"), store.begin(recipe()):
        pytest.fail("began")


def test_one_whose_segments_were_sealed_by_another_meanwhile_finds_the_artifact(store, monkeypatch):
    with store.begin(recipe(), lock="none") as one, store.begin(recipe(), lock="none") as other:
        write_all(one)
        records_of, sealed = one.records, []

        def quicker(*arguments, **named):
            sealed.append(other.seal(SCHEMA, 3, {}, {}))
            return records_of(*arguments, **named)

        monkeypatch.setattr(one, "records", quicker)
        assert one.seal(SCHEMA, 3, {}, {}).path == sealed[0].path


def test_a_file_system_without_such_locks_is_worked_on_and_asked_in_vain(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with store.begin(recipe(), lock="none") as partial:
        write_all(partial)
        artifact = partial.seal(SCHEMA, 3, {}, {})
    assert artifact.is_intact()
    with pytest.raises(StorageError, match=r"cannot determine whether .* is in use: No locks available"):
        is_held(artifact.path)


def test_nothing_is_not_held_and_cannot_be_claimed(tmp_path):
    with files.claimed(tmp_path / "nothing") as mine:
        assert not mine


def test_a_link_is_not_followed_to_what_it_names(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with open(tmp_path / "file") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with files.claimed(tmp_path / "link") as mine:
            assert mine  # it is the name that is claimed, and that may be removed
