"""The store: finding, naming, locking, and what it does with a folder that is not what it should be."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from store_makers import IDS, TENSORS, make_store, recipe, record, rewrite, seal_records, seal_tensors

from mcis_cli.errors import BusyError, DamagedError, MissingError, StorageError, UsageError
from mcis_cli.store import Artifact, open_store
from mcis_cli.store import artifact as artifact_module
from mcis_cli.store import store as store_module


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def test_a_store_is_made_with_all_its_folders_and_opened_again(tmp_path):
    root = tmp_path / "deep" / "work" / ".mcis"
    assert open_store(root).root == root
    assert {path.name for path in root.iterdir()} == {*store_module.FOLDERS, "format", ".gitignore"}
    assert open_store(str(root), create=False).root == root


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path):
    with pytest.raises(MissingError, match="no store at"):
        open_store(tmp_path / ".mcis", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UsageError, match=r"is not a store: it contains 'holiday\.jpg'"):
        open_store(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_half_made_is_finished(tmp_path):
    (tmp_path / ".mcis" / "artifacts").mkdir(parents=True)
    assert seal_tensors(open_store(tmp_path / ".mcis")).id


def test_a_store_of_a_newer_format_is_refused(store):
    rewrite(store.root / "format", b"mcis store 2\n")
    with pytest.raises(UsageError, match="pip install --upgrade mcis"):
        open_store(store.root)


def test_a_file_in_the_place_of_the_store_is_a_failure_of_storage(tmp_path):
    (tmp_path / ".mcis").touch()
    with pytest.raises(StorageError, match="cannot make the folder"):
        open_store(tmp_path / ".mcis")


def test_a_recipe_is_found_once_it_is_done(store):
    assert store.find(recipe()) is None
    artifact = seal_records(store)
    assert store.find(recipe()).path == artifact.path
    assert store.find(recipe(refs=1)) is None


def test_a_recipe_is_found_by_its_content_after_the_store_was_moved(store, tmp_path):
    artifact = seal_records(store)
    store.root.rename(tmp_path / "moved")
    assert open_store(tmp_path / "moved").find(recipe()).id == artifact.id


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id": 7}', b'{"id": "../../etc", "key": "x"}'])
def test_a_damaged_key_is_like_none_and_mended_by_doing_it_again(store, data):
    artifact = seal_records(store)
    path = store.root / "keys" / "cams" / f"{recipe().key}.json"
    rewrite(path, data)
    assert store.find(recipe()) is None
    assert seal_records(store).path == artifact.path
    assert store.find(recipe()).path == artifact.path


def test_keys_under_each_others_names_are_not_taken(store):
    seal_records(store)
    seal_records(store, recipe(refs=1), IDS[:5])
    first, second = (store.root / "keys" / "cams" / f"{of.key}.json" for of in (recipe(), recipe(refs=1)))
    rewrite(first, second.read_bytes())
    assert store.find(recipe()) is None


def test_an_artifact_that_was_removed_is_made_again_to_the_same_id(store):
    first = seal_records(store)
    first.path.unlink()
    assert store.find(recipe()) is None
    assert seal_records(store).id == first.id


def test_an_artifact_is_got_by_name_digits_file_and_path(store):
    artifact = seal_records(store)
    seal_tensors(store)
    store.name("best", artifact)
    refs = ["best", artifact.id, artifact.id[:8], artifact.id[:20], artifact.path.name, artifact.path.stem]
    for ref in [*refs, str(artifact.path), artifact.path]:
        assert store.get(ref).path == artifact.path


def test_an_artifact_elsewhere_is_got_by_path_whatever_it_is_called(store, tmp_path):
    copy = tmp_path / "copied.h5"
    copy.write_bytes(seal_records(store).path.read_bytes())
    assert store.get(copy).read(IDS[3])["score"] == record(IDS[3])[1]["score"]


@pytest.mark.parametrize("ref", ["none", "abcdef01", "abc", "", ".", "/", "x" * 300, "a\0b", "cams-0.h5", "../format"])
def test_what_is_not_there_is_missing(store, ref):
    seal_records(store)
    with pytest.raises(MissingError, match="mcis ls lists all"):
        store.get(ref)


def test_digits_that_fit_several_are_refused_with_their_names(store, monkeypatch):
    one, other = seal_records(store), seal_tensors(store)
    twin = store.root / "artifacts" / f"train-cls-{one.id[:12]}.h5"
    other.path.rename(twin)
    manifest = {**other.manifest, "id": one.id}
    monkeypatch.setattr(
        artifact_module,
        "Artifact",
        lambda path, **_: _with_manifest(Artifact(path), manifest if path == twin else None),
    )
    with pytest.raises(
        UsageError,
        match=rf"2 artifacts have an id that starts with .*: cams-{one.id[:12]}, train-cls-.*give more digits",
    ):
        store.get(one.id[:8])


def _with_manifest(artifact, manifest):
    artifact.manifest = manifest or artifact.manifest
    return artifact


def test_artifacts_under_each_others_names_are_noticed(store):
    one, other = seal_records(store), seal_tensors(store)
    spare = store.root / "artifacts" / "spare"
    one.path.rename(spare)
    other.path.rename(one.path)
    spare.rename(other.path)
    for act in (lambda: store.find(recipe()), lambda: store.get(one.id), store.artifacts):
        with pytest.raises(DamagedError, match=r"it is (cams|train-cls)-\w+\.h5, expected the file of its name"):
            act()


def test_artifacts_are_listed_newest_last_and_damaged_ones_told(store):
    first, second = seal_records(store), seal_tensors(store)
    assert [artifact.id for artifact in store.artifacts()] == [first.id, second.id]
    rewrite(first.path, b"")
    told = []
    assert [artifact.id for artifact in store.artifacts(told.append)] == [second.id]
    assert str(first.path) in str(told[0])
    with pytest.raises(DamagedError, match="is no artifact of mcis"):
        store.artifacts()


def test_a_name_moves(store):
    one, other = seal_records(store), seal_tensors(store)
    store.name("best", one)
    store.name("best", other)
    assert store.names() == {"best": other.id}
    assert store.get("best").id == other.id


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "deadbeef", "x.h5", "a b", "x" * 101, "a\n"])
def test_names_that_nothing_can_have_are_refused(store, name):
    artifact = seal_tensors(store)
    with pytest.raises(UsageError, match="cannot be a name"):
        store.name(name, artifact)
    assert store.names() == {}


def test_a_location_is_remembered_and_replaced(store):
    assert store.location("ab" * 32) is None
    store.set_location("ab" * 32, {"root": "/photos"})
    store.set_location("ab" * 32, {"root": "/moved"})
    assert open_store(store.root).location("ab" * 32) == {"root": "/moved"}


def test_a_location_that_is_remembered_already_is_not_written_again(store, monkeypatch):
    """A store that cannot be written is still of use: its artifacts are found."""
    store.set_location("ab" * 32, {"root": "/photos"})
    monkeypatch.setattr(store, "put", lambda *_, **__: pytest.fail("written again"))
    store.set_location("ab" * 32, {"root": "/photos"})


def test_a_location_wants_an_id(store):
    with pytest.raises(AssertionError, match="is no id"):
        store.location("../x")


def test_another_content_of_the_same_name_is_not_overwritten(store, monkeypatch):
    seal_tensors(store)
    monkeypatch.setattr(store_module, "file_name", lambda stage, content_id: "train-cls-000000000000.h5")
    monkeypatch.setattr(store, "find", lambda recipe: None)
    with store.begin(recipe("train-cls", seed=1)) as partial:
        partial.seal_tensors(TENSORS, {"by": "one"}, {})
    with (
        store.begin(recipe("train-cls", seed=2)) as partial,
        pytest.raises(StorageError, match="is of another content"),
    ):
        partial.seal_tensors(TENSORS, {"by": "other"}, {})


def test_one_works_and_the_other_waits_says_for_whom_and_finds_it_done(store):
    told, found = [], []
    begun, waiting = threading.Event(), threading.Event()

    def wait():
        begun.wait(10)
        with store.begin(recipe("train-cls"), on_wait=lambda pid: (told.append(pid), waiting.set())) as partial:
            found.append(partial.sealed())

    other = threading.Thread(target=wait)
    other.start()
    with store.begin(recipe("train-cls")) as partial:
        begun.set()
        assert waiting.wait(10)
        artifact = partial.seal_tensors(TENSORS, {}, {})
    other.join(10)
    assert told == [os.getpid()]
    assert found[0].path == artifact.path


def test_one_that_does_not_wait_is_told_who_is_busy(store):
    with (
        store.begin(recipe()),
        pytest.raises(BusyError, match=rf"process {os.getpid()} works on cams-"),
        store.begin(recipe(), lock="fail"),
    ):
        pytest.fail("got the lock")


def test_recipes_do_not_wait_for_each_other(store):
    with store.begin(recipe(), lock="fail"), store.begin(recipe(refs=1), lock="fail"):
        pass


def test_a_holder_that_cannot_be_named_is_number_zero(store):
    told = []
    with store.begin(recipe()) as partial:
        for path in (store.root / "locks").glob("*.pid"):
            path.unlink()
        waiter = threading.Thread(target=lambda: _begin_and_end(store, told))
        waiter.start()
        while not told:
            waiter.join(0.01)
        assert partial.folder.exists()
    waiter.join(10)
    assert told == [0]


def _begin_and_end(store, told):
    with store.begin(recipe(), on_wait=told.append):
        pass


def test_what_a_killed_process_left_behind_goes_with_the_next_run(store):
    name = store.temporary(f"cams-{recipe().key[:16]}")
    other = store.temporary("pseudo-0000000000000000")
    for path in (name, other):
        path.write_bytes(b"half")
    with store.begin(recipe()):
        assert not name.exists()
        assert other.exists()


def test_beginning_and_ending_leaves_no_folder(store):
    with store.begin(recipe()) as partial:
        assert partial.folder.is_dir()
    assert not partial.folder.exists()


def test_a_record_that_is_not_there_is_missing(store):
    artifact = seal_records(store)
    assert IDS[0] in artifact
    assert "other" not in artifact
    with pytest.raises(MissingError, match="has no record of 'other'"):
        artifact.read("other")


def test_an_artifact_is_read_from_several_threads(store):
    artifact = seal_records(store)
    failures = []

    def read(start):
        for image_id in IDS[start::4]:
            if not np.array_equal(artifact.read(image_id)["maps"], record(image_id)[1]["maps"]):
                failures.append(image_id)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_artifact_opens_again_after_it_was_closed(store):
    with seal_records(store) as artifact:
        artifact.read(IDS[0])
    artifact.close()
    assert artifact.read(IDS[0])["maps"].shape == record(IDS[0])[1]["maps"].shape
    assert repr(artifact) == f"Artifact({str(artifact.path)!r})"
    assert artifact.inputs == {"classifier": "ab" * 32}


def test_listing_a_store_imports_neither_h5py_nor_numpy(store):
    seal_records(store)
    lines = [
        "import sys",
        "from mcis_cli.store import open_store, StatCache",
        f"print(len(open_store({str(store.root)!r}).artifacts()), *{{'h5py', 'numpy', 'torch'}} & set(sys.modules))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_an_empty_name_says_that_the_command_before_printed_none(tmp_path):
    with pytest.raises(MissingError, match=r"^the name of the artifact is empty: the command .* failed; .*mcis ls"):
        make_store(tmp_path).get("")


def test_an_artifact_without_its_first_bytes_leads_to_repair(store):
    """And not to `mcis ls`, which is who stumbles over it."""
    path = seal_tensors(store).path
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match=r"its first bytes are damaged.*; `mcis verify --repair` sets it aside"):
        store.artifacts()
