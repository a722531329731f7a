"""The file layer: every call recorded, every prefix replayed, every k-th call failed."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from recorded_disk import Disk, Replay

from mcis_cli.errors import StorageError
from mcis_cli.store import Recipe, files, open_store

SEGMENTS = (("a", "b"), ("c",))
MAPS = Recipe("cams", 1, {}, {})
WEIGHTS = Recipe("train-cls", 1, {}, {})


def work(root, acknowledge=lambda *_: None):
    """Make a store with both kinds of artifact, going on with what is there. Returns their ids."""
    store = open_store(root / ".mcis")
    with store.begin(MAPS, lock="none") as partial:
        maps = store.find(MAPS)
        if maps is None:
            for index, ids in enumerate(SEGMENTS):
                if not partial.segment(index):
                    items = [(image_id, {"x": np.arange(3, dtype=np.uint8)}) for image_id in ids]
                    partial.write_segment(index, {"x": ("uint8", 1)}, items)
                acknowledge("segment", index)
            maps = partial.seal({"x": ("uint8", 1)}, len(SEGMENTS), {}, {})
        acknowledge("sealed", maps.id)
    with store.begin(WEIGHTS, lock="none") as partial:
        weights = store.find(WEIGHTS)
        if weights is None:
            step, state = partial.load_checkpoint() or (0, b"0")
            partial.truncate_log(step)
            while step < 3:
                step, state = step + 1, state + b"%d" % (step + 1)
                partial.log({"step": step})
                partial.save_checkpoint(step, state)
                acknowledge("checkpoint", step)
            weights = partial.seal_tensors({"w": np.frombuffer(state, np.uint8)}, {}, {})
        acknowledge("sealed", weights.id)
    store.tag("best", weights)
    return maps.id, weights.id


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Nothing waits for the disk: what syncing does is simulated where it matters."""
    monkeypatch.setattr(files, "os", Disk(tmp_path).namespace)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Notes of a whole run, with marks where something was acknowledged, and the ids that came out."""
    root = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(root)
        patch.setattr(files, "os", disk.namespace)
        ids = work(root, lambda *what: disk.note("mark", *what))
    return disk.notes, ids


def check(root, notes, length, ids):
    """What a crash left must be whole under every final name, keep what was acknowledged, and lead to the same ids."""
    promised = {call[1:] for call in notes[:length] if call[0] == "mark"}
    if (root / ".mcis" / "format").exists():
        store = open_store(root / ".mcis")
        assert all(artifact.is_intact() for artifact in store.artifacts())
        for recipe, content_id in zip((MAPS, WEIGHTS), ids, strict=True):
            found = store.find(recipe)
            assert found is not None or ("sealed", content_id) not in promised
            if found is None:
                partial = root / ".mcis" / "partial" / f"{recipe.stage}-{recipe.key[:16]}"
                for kind, number in promised:
                    if (kind == "segment") == (recipe is MAPS) and kind != "sealed":
                        names = {"segment": f"segment-{number:06d}.h5", "checkpoint": f"checkpoint-{number:012d}.ckpt"}
                        newer = [f"checkpoint-{step:012d}.ckpt" for step in range(number + 1, 4)]
                        assert any((partial / name).exists() for name in (names[kind], *newer))
    else:
        assert ("sealed", ids[0]) not in promised
    assert work(root) == ids


def test_the_run_that_is_replayed_makes_every_kind_of_call(recorded):
    notes, _ = recorded
    kinds = {"mkdir", "create", "write", "truncate", "sync", "link", "replace", "unlink", "rmdir", "mark"}
    assert {call[0] for call in notes} == kinds


def test_nothing_is_written_under_a_final_name_but_the_log(recorded):
    notes, _ = recorded
    written = {call[1] for call in notes if call[0] in ("create", "write", "truncate")}
    assert {Path(name).parent.name for name in written} <= {"tmp", f"train-cls-{WEIGHTS.key[:16]}"}
    assert {Path(name).name for name in written if "/tmp/" not in name} == {"metrics.jsonl"}


def test_every_file_is_synced_before_it_gets_its_name(recorded):
    notes, _ = recorded
    unsynced = set()
    for call, *arguments in notes:
        if call in ("write", "truncate", "create"):
            unsynced.add(arguments[0])
        elif call == "sync":
            unsynced.discard(arguments[0])
        elif call in ("link", "replace"):
            assert arguments[0] not in unsynced


def test_replay_of_all_calls_is_what_the_run_left(recorded, tmp_path):
    notes, ids = recorded
    Replay(notes, len(notes)).kill(tmp_path)
    store = open_store(tmp_path / ".mcis")
    assert (store.find(MAPS).id, store.find(WEIGHTS).id) == ids
    assert store.tags() == {"best": ids[1]}


def test_killed_after_any_call_the_next_run_ends_with_the_same_ids(recorded, tmp_path):
    notes, ids = recorded
    for length in range(len(notes) + 1):
        root = tmp_path / str(length)
        root.mkdir()
        Replay(notes, length).kill(root)
        check(root, notes, length, ids)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_power_lost_after_any_call_the_next_run_ends_with_the_same_ids(recorded, tmp_path, seed):
    notes, ids = recorded
    draw = Random(seed)
    for length in range(len(notes) + 1):
        root = tmp_path / str(length)
        root.mkdir()
        Replay(notes, length).power_loss(root, draw)
        check(root, notes, length, ids)


def count_calls(tmp_path):
    folder = tmp_path / "count"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(folder)
        patch.setattr(files, "os", disk.namespace)
        work(folder)
    return disk.calls


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_whichever_call_fails_is_one_line_and_the_next_run_ends_with_the_same_ids(recorded, tmp_path, error):
    _, ids = recorded
    messages = []
    for number in range(count_calls(tmp_path)):
        root = tmp_path / str(number)
        root.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", Disk(root, fail_at=number, error=error).namespace)
            try:
                assert work(root) == ids
            except StorageError as storage_error:
                messages.append(str(storage_error))
        assert work(root) == ids
        assert all(artifact.is_intact() for artifact in open_store(root / ".mcis").artifacts())
    assert len(messages) > 200
    assert [message for message in messages if not re.fullmatch(rf"cannot .*: {os.strerror(error)}; .*", message)] == []


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
for limit in range(100, 60_000, 3_000):
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
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cams\n", "")
    assert list((tmp_path / ".mcis" / "tmp").iterdir()) == []


def test_a_write_that_writes_nothing_is_a_full_disk(tmp_path, monkeypatch):
    disk = Disk(tmp_path)
    disk.namespace.pwrite = lambda *_: 0
    monkeypatch.setattr(files, "os", disk.namespace)
    with pytest.raises(OSError, match="No space left"):
        files.write(0, b"x", 0)


def test_short_writes_are_gone_on_with(recorded, tmp_path, monkeypatch):
    disk = Disk(tmp_path)
    disk.namespace.pwrite = lambda descriptor, data, offset: os.pwrite(descriptor, data[:100], offset)
    disk.namespace.write = lambda descriptor, data: os.write(descriptor, data[:3])
    monkeypatch.setattr(files, "os", disk.namespace)
    assert work(tmp_path) == recorded[1]


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
