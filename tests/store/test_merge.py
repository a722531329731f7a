"""Merging: what another store has comes, once and checked; what is here stays as it is."""

import shutil

import numpy as np
import pytest
from store_makers import IDS, SCHEMA, make_store, recipe, records, rewrite, seal_records, seal_tensors

from mcis_cli.errors import UsageError
from mcis_cli.store import files, open_store, segments_of
from mcis_cli.store.upkeep.merging import merge

OTHER = recipe("train-seg")


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "here")


@pytest.fixture
def other(tmp_path):
    """A store with two artifacts, a name, a log, segments, and a training that was stopped."""
    other = make_store(tmp_path / "there")
    with other.begin(recipe("train-cls")) as partial:
        partial.log({"step": 1})
    classifier = seal_tensors(other)
    maps = seal_records(other)
    other.name("best", maps)
    with other.begin(recipe(refs=1)) as partial:
        for index in (0, 2):
            partial.write_segment(index, SCHEMA, records(segments_of(IDS)[index]))
    with other.begin(OTHER) as partial:
        for step in (1, 2):
            partial.log({"step": step})
            partial.save_checkpoint(step, b"%d" % step)
        partial.log({"step": 3})
    for artifact in (classifier, maps):
        artifact.close()
    return other


def brought(store, other):
    """The copied files, as paths, and the messages."""
    told = []
    paths = [path.relative_to(store.root).as_posix() for path in merge(store, other, told.append)]
    return set(paths), [str(error) for error in told]


def contents(store):
    folders = ("artifacts", "keys", "refs", "partial")
    found = [path for folder in folders for path in (store.root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in found}


def test_everything_comes_and_is_the_same(store, other):
    paths, told = brought(store, other)
    assert told == []
    ours, theirs = contents(store), contents(other)
    assert {name for name in theirs if name not in ours} == {
        name
        for name in theirs
        if name.endswith("000000000001.ckpt")  # the newest is enough to resume
    }
    assert {name for name in ours if "keys" not in name and "metrics" not in name and "recipe" not in name} <= paths
    assert store.find(recipe()).id == other.find(recipe()).id
    assert store.names() == other.names()
    assert len(store.unfinished()) == 2
    for name in ours:
        assert name.endswith("metrics.jsonl") or ours[name] == theirs[name]


def test_what_came_is_gone_on_with(store, other):
    brought(store, other)
    with store.begin(recipe(refs=1)) as partial:
        assert [partial.segment(index) for index in range(3)] == [True, False, True]
    with store.begin(OTHER) as partial:
        assert partial.load_checkpoint() == (2, b"2")
        assert partial.log_path.read_text().splitlines() == ['{"step":1}', '{"step":2}']


def test_the_second_time_nothing_comes(store, other):
    brought(store, other)
    before = contents(store)
    assert brought(store, other) == (set(), [])
    assert contents(store) == before
    assert brought(other, store) == (set(), [])


def test_two_shards_copied_together_are_complete(store, tmp_path):
    segments = segments_of(IDS)
    whole = seal_records(make_store(tmp_path / "whole"))
    for number in (1, 2):
        shard = make_store(tmp_path / f"shard{number}")
        with shard.begin(recipe()) as partial:
            for index in range(number - 1, len(segments), 2):
                partial.write_segment(index, SCHEMA, records(segments[index]))
        brought(store, shard)
    with store.begin(recipe()) as partial:
        assert all(partial.segment(index) for index in range(3))
        assert partial.seal(SCHEMA, 3, {"class_names": ["cat", "dog"]}, {}).id == whole.id


def test_nothing_that_is_damaged_gets_a_name_here(store, other):
    for path in (*other.root.glob("artifacts/cams-*.h5"), *other.root.glob("partial/*/segment-000002.h5")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        rewrite(path, data)
    paths, told = brought(store, other)
    assert len(told) == 2
    assert all(str(other.root) in line and "damaged" in line for line in told)
    assert {path for path in paths if path.startswith("artifacts/cams")} == set()
    assert {path for path in paths if path.endswith("segment-000002.h5")} == set()
    assert store.names() == {}
    assert store.find(recipe()) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_a_segment_under_the_name_of_another_is_left_there(store, other):
    (folder,) = other.root.glob("partial/cams-*")
    (folder / "segment-000000.h5").rename(folder / "segment-000001.h5")
    paths, told = brought(store, other)
    assert "it is index 0" in told[0]
    assert {path[-9:-3] for path in paths if "segment" in path} == {"000002"}


def test_work_that_does_not_say_what_it_is_does_not_come(store, other):
    for path in other.root.glob("partial/*/recipe.json"):
        path.unlink()
    paths, _ = brought(store, other)
    assert not any(path.startswith("partial") for path in paths)


def test_unfinished_work_that_is_done_here_does_not_come(store, other):
    seal_records(store, recipe(refs=1), IDS[:5])
    paths, _ = brought(store, other)
    assert not any(path.startswith("partial/cams") for path in paths)


def test_older_checkpoints_do_not_replace_newer_ones(store, other):
    with store.begin(OTHER) as partial:
        partial.log({"step": 7})
        partial.save_checkpoint(7, b"7")
    brought(store, other)
    with store.begin(OTHER) as partial:
        assert partial.load_checkpoint() == (7, b"7")
        assert partial.log_path.read_text() == '{"step":7}\n'


def test_work_that_somebody_is_at_here_is_left_alone(store, other):
    with store.begin(OTHER):
        paths, told = brought(store, other)
    assert not any(path.startswith("partial/train-seg") for path in paths)
    assert "works on train-seg-" in told[0]


def test_names_and_results_that_differ_stay_as_they_are_here(store, other):
    ours = seal_records(store, recipe(), IDS[:5])
    store.name("best", ours)
    paths, told = brought(store, other)
    assert store.names() == {"best": ours.id}
    assert store.find(recipe()).id == ours.id
    assert any("the name best names" in line for line in told)
    assert any("the one here stays. Their machines" in line for line in told)
    assert "refs/best" not in paths
    assert len(list(store.root.glob("artifacts/cams-*.h5"))) == 2


def test_a_note_alone_comes_where_the_artifact_is_here(store, other):
    brought(store, other)
    note = store.note_path("cams", recipe().key)
    note.unlink()
    assert brought(store, other)[0] == {note.relative_to(store.root).as_posix()}


def test_an_artifact_damaged_here_is_replaced(store, other):
    brought(store, other)
    path = next(store.root.glob("artifacts/cams-*.h5"))
    rewrite(path, b"")
    assert brought(store, other)[0] == {f"artifacts/{path.name}"}
    assert store.get(path.name).is_intact()


def test_a_merge_that_is_stopped_is_gone_on_with(store, other, monkeypatch):
    link, count = files.link, []

    def stop(source, target):
        count.append(target)
        if len(count) == 3:
            raise KeyboardInterrupt
        return link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files, "link", stop)
        with pytest.raises(KeyboardInterrupt):
            brought(store, other)
    brought(store, other)
    assert brought(store, other) == (set(), [])
    assert store.find(recipe()).id == other.find(recipe()).id


def test_a_store_is_not_merged_into_itself(store, tmp_path):
    (tmp_path / "link").symlink_to(store.root)
    with pytest.raises(UsageError, match="is the store itself"):
        brought(store, open_store(tmp_path / "link"))


# The command


def test_the_command_says_what_came_and_makes_a_store_where_there_is_none(call, other, tmp_path):
    here = tmp_path / "new"
    here.mkdir()
    answer = call("merge", other.root.parent, cwd=here)
    assert answer.code == 0, answer.err
    assert {line.split("/")[0] for line in answer.lines} == {"artifacts", "refs", "partial"}
    assert str(other.root) in answer.err
    answer = call("merge", other.root, cwd=here)
    assert (answer.code, answer.out) == (0, "")
    assert "nothing new" in answer.err


def test_the_command_brings_what_is_sound_and_tells_of_the_damage(call, other, store, tmp_path):
    path = next(other.root.glob("artifacts/cams-*.h5"))
    rewrite(path, path.read_bytes()[:-1])
    answer = call("merge", other.root, cwd=store.root.parent)
    assert answer.code == 4
    assert len([line for line in answer.lines if line.startswith("artifacts/train-cls")]) == 2
    assert path.name in answer.err


def test_what_is_no_store_is_told(call, store, tmp_path):
    answer = call("merge", tmp_path / "nothing", cwd=store.root.parent)
    assert (answer.code, answer.out) == (3, "")
    shutil.rmtree(store.root)
    assert call("merge", tmp_path / "nothing", cwd=store.root.parent).code == 3


# A recipe that came to something else here


def seal_other(store, value):
    """What `recipe` came to on another machine."""
    with store.begin(recipe("eval")) as partial:
        return partial.seal_tensors({"x": np.array([value])}, {}, {})


def test_a_recipe_that_came_to_something_else_here_never_leads_to_the_foreign_artifact(store, other, monkeypatch):
    ours = seal_other(store, 1)
    theirs = seal_other(other, 2)
    path = store.note_path("eval", ours.key)
    note, seen = path.read_bytes(), []
    for name in ("link", "replace", "unlink", "write"):
        call = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *a, call=call: (seen.append(path.read_bytes()), call(*a))[1])
    _, told = brought(store, other)
    assert set(seen) == {note}
    assert store.find(recipe("eval")).id == ours.id
    assert store.get(theirs.id).id == theirs.id
    assert any("two artifacts of the same recipe" in one for one in told)


@pytest.mark.parametrize("name", ["refs/best", "keys"])
def test_what_is_damaged_here_is_not_overwritten(store, other, name):
    theirs = other.get("best")
    path = store.root / name if name != "keys" else store.note_path("cams", theirs.key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{damaged")
    paths, told = brought(store, other)
    assert path.read_bytes() == b"{damaged"
    assert path.relative_to(store.root).as_posix() not in paths
    assert any("damaged" in one for one in told)
