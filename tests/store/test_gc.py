"""Garbage collection: needed files stay, whatever needs them and however late; others are removed on request."""

import json
import os
import shutil
import time
from gc import collect as gc_of_python
from pathlib import Path

import numpy as np
import pytest
from store_makers import make_store, rewrite

from mcis_cli.config import DataConfig
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.errors import DamagedError, StorageError
from mcis_cli.stages.engine.inputs import list_images
from mcis_cli.store import Recipe, files, open_store
from mcis_cli.store.upkeep.collection import DAY, Choice, collect

SCHEMA = {"x": ("uint8", 1)}


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def seal(store, stage, inputs=None, dataset="none", log=False, seed=0):
    """An artifact of one record that differs with all that it is given; returned, and not held."""
    of = Recipe(stage, 1, {"seed": seed}, inputs or {})
    with store.begin(of) as partial:
        if log:
            partial.log({"step": 1})
        partial.write_segment(0, SCHEMA, [("a", {"x": np.array([seed], np.uint8)})])
        with partial.seal(SCHEMA, 1, {"dataset": dataset, "of": dict(inputs or {})}, {}) as artifact:
            return artifact


def begin(store, stage, inputs, seed=9):
    """Unfinished work; returns its folder."""
    with store.begin(Recipe(stage, 1, {"seed": seed}, inputs)) as partial:
        partial.write_segment(0, SCHEMA, [("a", {"x": np.array([seed], np.uint8)})])
        return partial.folder


@pytest.fixture
def made(store):
    """A list of images, and a chain made of them."""
    made = {"dataset": seal(store, "dataset", {"files": "da" * 32})}
    made["train-cls"] = seal(store, "train-cls", {"images": "11" * 32}, "da" * 32, log=True)
    made["cams"] = seal(store, "cams", {"classifier": made["train-cls"].id}, "da" * 32)
    made["pseudo"] = seal(store, "pseudo", {"maps": made["cams"].id}, "da" * 32)
    return made


def age(path, days):
    then = time.time() - days * DAY
    os.utime(path, (then, then), follow_symlinks=False)


def gone(store, *scopes, delete=True, **choice):
    """What goes, as paths in the store."""
    found = collect(store, Choice(scopes=frozenset(scopes), **choice), delete=delete)
    return {one.path.relative_to(store.root).as_posix() for one in found}


def names(store):
    return {path.stem.rpartition("-")[0] for path in (store.root / "artifacts").glob("*.h5")}


def everything(root):
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("*")}


def test_nothing_goes_unless_told_and_the_same_is_listed(store, made):
    begin(store, "cams", {"classifier": made["train-cls"].id})
    (store.root / "tmp" / "left.1-0").touch()
    before = everything(store.root)
    listed = gone(store, "artifacts", "partial", "tmp", delete=False)
    assert everything(store.root) == before
    assert len(listed) == 6
    assert gone(store, "artifacts", "partial", "tmp") == listed


def test_what_nothing_needs_goes_with_its_log_and_its_note(store, made):
    assert gone(store, "artifacts") == {f"artifacts/{artifact.path.name}" for artifact in made.values()}
    assert list((store.root / "artifacts").iterdir()) == []
    assert list((store.root / "keys").glob("*/*")) == []


def test_an_artifact_comes_before_what_it_was_made_from(store, made):
    order = [one.path.name for one in collect(store, Choice(scopes=frozenset({"artifacts"})), delete=True)]
    assert order == [made[stage].path.name for stage in ("pseudo", "cams", "train-cls", "dataset")]


def test_a_name_keeps_an_artifact_and_all_that_it_was_made_from(store, made):
    other = seal(store, "pseudo", {"maps": made["cams"].id}, "da" * 32, seed=1)
    store.name("best", made["pseudo"])
    assert gone(store, "artifacts") == {f"artifacts/{other.path.name}"}
    assert names(store) == {"dataset", "train-cls", "cams", "pseudo"}
    store.unname("best")
    assert len(gone(store, "artifacts")) == 4


def test_a_name_in_the_middle_keeps_no_more_than_it_needs(store, made):
    store.name("maps", made["cams"])
    assert gone(store, "artifacts") == {f"artifacts/{made['pseudo'].path.name}"}


def test_what_the_caller_names_is_kept(store, made):
    assert gone(store, "artifacts", keep=frozenset({made["cams"].id})) == {f"artifacts/{made['pseudo'].path.name}"}


def test_the_list_of_images_goes_with_the_last_that_was_made_of_them(store, made):
    other = seal(store, "dataset", {"files": "db" * 32}, seed=1)
    store.name("best", made["train-cls"])
    assert f"artifacts/{other.path.name}" in gone(store, "artifacts")
    assert names(store) == {"dataset", "train-cls"}


def test_what_somebody_holds_stays_with_all_that_it_was_made_from(store, made):
    with store.get(made["cams"].id):
        assert gone(store, "artifacts") == {f"artifacts/{made['pseudo'].path.name}"}
    assert len(gone(store, "artifacts")) == 3


def test_what_unfinished_work_is_made_from_stays(store, made):
    begin(store, "train-seg", {"masks": made["pseudo"].id})
    assert gone(store, "artifacts") == set()


def test_unfinished_work_that_goes_keeps_nothing(store, made):
    begin(store, "train-seg", {"masks": made["pseudo"].id})
    assert len(gone(store, "artifacts", "partial", delete=False)) == 5
    assert len(gone(store, "artifacts", "partial")) == 5


def test_a_folder_in_which_somebody_works_stays_with_its_inputs(store, made):
    with store.begin(Recipe("train-seg", 1, {}, {"masks": made["pseudo"].id})) as partial:
        partial.log({"step": 1})
        assert gone(store, "artifacts", "partial", "tmp") == set()
        assert partial.log_path.exists()
    assert len(gone(store, "partial")) == 1


def test_unfinished_work_of_one_stage_goes(store):
    begin(store, "cams", {})
    folder = begin(store, "pseudo", {})
    assert gone(store, "partial", stage="pseudo") == {f"partial/{folder.name}"}
    assert not folder.exists()
    assert len(store.unfinished()) == 1


def test_one_stage_alone_loses_only_what_the_others_do_not_need(store, made):
    assert gone(store, "artifacts", stage="cams") == set()
    other = seal(store, "cams", {"classifier": made["train-cls"].id}, "da" * 32, seed=1)
    assert gone(store, "artifacts", stage="cams") == {f"artifacts/{other.path.name}"}


def test_what_is_young_stays_with_all_that_it_was_made_from(store, made):
    old = seal(store, "pseudo", {"maps": made["cams"].id}, seed=1)
    for artifact in (old, *(made[stage] for stage in ("dataset", "train-cls", "cams"))):
        age(artifact.path, 31)
    assert gone(store, "artifacts", older_than=30 * DAY) == {f"artifacts/{old.path.name}"}


def test_young_unfinished_work_stays(store):
    folder = begin(store, "cams", {})
    for path in (*folder.iterdir(), folder):
        age(path, 31)
    age(folder / "segment-000000.h5", 29)
    assert gone(store, "partial", older_than=30 * DAY) == set()
    age(folder / "segment-000000.h5", 31)
    assert gone(store, "partial", older_than=30 * DAY) == {f"partial/{folder.name}"}


@pytest.mark.parametrize("look", [1, 2])
def test_unfinished_work_that_is_finished_while_it_is_looked_at_is_no_error(store, monkeypatch, look):
    """Whoever works there seals and removes the folder in the very moment in which it is listed."""
    folder = begin(store, "cams", {"classifier": "cc" * 32})
    scan, looks = os.scandir, []

    def finished_first(path):
        if path == folder:
            looks.append(path)
            if len(looks) == look:
                shutil.rmtree(folder)
        return scan(path)

    monkeypatch.setattr(os, "scandir", finished_first)
    assert gone(store, "partial") == set()
    assert not folder.exists()


def test_temporary_files_go_unless_somebody_writes_them(store):
    with files.temporary(store.temporary("cams-0123456789abcdef")) as descriptor:
        left = store.temporary("cams-0123456789abcdef")
        left.touch()
        put = store.temporary("put")
        put.touch()
        assert gone(store, "tmp", stage="pseudo") == set()
        assert gone(store, "tmp", stage="cams") == {f"tmp/{left.name}"}
        assert gone(store, "tmp", older_than=DAY) == set()
        assert gone(store, "tmp") == {f"tmp/{put.name}"}
        assert os.fstat(descriptor).st_nlink == 1


def test_a_log_whose_artifact_is_gone_goes_after_an_hour(store, made):
    log, own = store.root / "artifacts" / "train-cls-000000000000.jsonl", made["train-cls"].log_path
    log.touch()
    assert gone(store, "tmp") == set()
    age(log, 0.05)
    age(own, 0.05)
    assert gone(store, "tmp") == {f"artifacts/{log.name}"}
    assert own.exists()


def test_the_note_of_an_artifact_that_is_gone_goes_unless_it_is_made_again_or_needed(store, made):
    artifact = made["pseudo"]
    artifact.path.unlink()
    note = store.note_path("pseudo", artifact.key)
    with store.begin(Recipe("pseudo", 1, {"seed": 0}, {"maps": made["cams"].id})):
        assert gone(store, "tmp") == set()
    (store.root / "damaged").mkdir(exist_ok=True)
    aside = store.root / "damaged" / f"{artifact.path.name}.1"
    aside.touch()
    assert gone(store, "tmp") == set()
    assert gone(store, "artifacts") == set()
    aside.unlink()
    begin(store, "train-seg", {"masks": artifact.id})
    assert gone(store, "tmp") == set()
    gone(store, "partial")
    assert gone(store, "tmp", stage="cams") == set()
    assert gone(store, "tmp", older_than=DAY) == set()
    assert gone(store, "tmp") == {f"keys/pseudo/{note.name}"}
    assert not note.exists()


def test_the_inputs_of_a_damaged_artifact_stay_so_that_it_can_be_made_again(store, made):
    path = made["pseudo"].path
    path.chmod(0o644)
    path.write_bytes(b"")
    assert gone(store, "artifacts") == set()


def test_what_is_named_while_it_is_about_to_go_stays(store, made, monkeypatch):
    """After all was looked at, and before the claim."""
    claimed, first = files.claimed, []

    def late(path):
        if not first:
            first.append(store.name("late", made["cams"]))
        return claimed(path)

    monkeypatch.setattr(files, "claimed", late)
    assert gone(store, "artifacts") == {f"artifacts/{made['pseudo'].path.name}"}
    assert names(store) == {"dataset", "train-cls", "cams"}


def test_what_was_sealed_meanwhile_stays_with_all_that_it_was_made_from(store, made, monkeypatch):
    claimed, first = files.claimed, []

    def late(path):
        if not first and path.parent.name == "artifacts":
            first.append(True)
            seal(store, "pseudo", {"maps": made["cams"].id}, "da" * 32, seed=1)
        return claimed(path)

    monkeypatch.setattr(files, "claimed", late)
    assert gone(store, "artifacts") == {f"artifacts/{made['pseudo'].path.name}"}
    assert names(store) == {"dataset", "train-cls", "cams", "pseudo"}


def test_what_is_gone_is_made_again_and_found(store, made):
    gone(store, "artifacts")
    again = seal(store, "train-cls", {"images": "11" * 32}, "da" * 32)
    assert again.id == made["train-cls"].id
    assert store.find(Recipe("train-cls", 1, {"seed": 0}, {"images": "11" * 32})).id == again.id


def test_a_file_system_that_cannot_tell_is_left_alone(store, made, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="cannot determine whether"):
        gone(store, "artifacts")
    assert len(names(store)) == 4


# The command


def test_without_a_scope_nothing_happens_and_the_scopes_are_told(call, store, tmp_path):
    answer = call("gc", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert all(scope in answer.err for scope in ("--artifacts", "--partial", "--tmp", "--all", "--delete"))


def test_the_command_lists_and_with_delete_removes(call, store, made, tmp_path):
    store.name("maps", made["cams"])
    name = made["pseudo"].path.name
    for flags, verb in (((), "can be removed"), (("--delete",), "removed")):
        answer = call("gc", "--all", *flags, cwd=tmp_path)
        assert answer.code == 0
        assert answer.lines == [f"      0.01 MiB  artifacts/{name}"]
        assert f"1 {verb}, 0.01 MiB" in answer.err
    assert not made["pseudo"].path.exists()
    answer = call("gc", "--all", "--json", cwd=tmp_path)
    assert json.loads(answer.out) == {"paths": [], "bytes": 0, "deleted": False}


def test_a_store_that_is_not_there_is_missing(call, tmp_path):
    assert call("gc", "--all", cwd=tmp_path).code == 3
    assert not (tmp_path / ".mcis").exists()


def test_what_the_configuration_names_is_kept_unless_told_otherwise(call, chain_copy):
    for artifact in chain_copy.made.values():
        artifact.close()
    for name in chain_copy.store.names():  # of other tests
        chain_copy.store.unname(name)
    of_masks = call("eval", chain_copy.made["pseudo"].path, cwd=chain_copy.folder)
    answer = call("gc", "--all", "--delete", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert all(artifact.path.exists() for artifact in chain_copy.made.values())
    assert Path(of_masks.lines[0]).exists()  # scores of what the configuration names
    answer = call("gc", "--artifacts", "--no-keep-config", cwd=chain_copy.folder)
    assert {line.split("/")[-1] for line in answer.lines} >= {one.path.name for one in chain_copy.made.values()}
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    answer = call("gc", "--artifacts", "--delete", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--no-keep-config" in answer.err


def test_names_are_given_listed_and_taken_away(call, store, made, tmp_path):
    artifact = made["cams"]
    answer = call("name", "best", artifact.id[:8], cwd=tmp_path)
    assert (answer.code, answer.lines, answer.err) == (0, [str(artifact.path)], "")
    assert call("name", cwd=tmp_path).lines == [f"{artifact.id[:12]}  best  {artifact.path.stem}"]
    assert call("name", "--delete", "best", cwd=tmp_path).code == 0
    assert call("name", cwd=tmp_path).out == ""
    assert store.get(artifact.id).id == artifact.id


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("best",), 2, "mcis name best ARTIFACT"),
        (("--delete",), 2, "mcis name --delete NAME"),
        (("--delete", "best"), 3, "there is no name 'best'"),
        (("--delete", "../format"), 3, "there is no name"),
        (("best", "0123456789"), 3, "no artifact has an id that starts with"),
        (("a/b", "ARTIFACT"), 2, "cannot be a name"),
    ],
)
def test_a_name_that_cannot_be_is_told(call, store, made, tmp_path, arguments, code, word):
    named = [made["cams"].id if argument == "ARTIFACT" else argument for argument in arguments]
    answer = call("name", *named, cwd=tmp_path)
    assert (answer.code, answer.out) == (code, "")
    assert word in answer.err
    assert store.names() == {}


def test_an_artifact_of_another_store_cannot_be_named(call, store, tmp_path):
    other = make_store(tmp_path / "other")
    artifact = seal(other, "cams")
    answer = call("name", "best", artifact.path, "--store", store.root, cwd=tmp_path)
    assert answer.code == 2
    assert "mcis merge" in answer.err


# What cannot be read may need anything


def every_bit(path):
    data = path.read_bytes()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


@pytest.mark.slow
def test_a_name_with_any_bit_flipped_keeps_everything(store, made):
    store.name("best", made["pseudo"])
    path = store.root / "refs/best"
    for data in every_bit(path):
        rewrite(path, data)
        with pytest.raises(DamagedError, match=r"the name .*best is damaged") as refused:
            gone(store, "artifacts", "tmp")
        assert refused.value.exit_code == 4
    assert names(store) == {"dataset", "train-cls", "cams", "pseudo"}


@pytest.mark.parametrize("damage", [lambda path: rewrite(path, b"?"), lambda path: path.unlink()])
def test_unfinished_work_that_does_not_say_what_it_is_made_from_keeps_everything(store, made, damage):
    folder = begin(store, "cams", {"classifier": made["train-cls"].id})
    damage(folder / "recipe.json")
    with pytest.raises(DamagedError, match=r"recipe\.json is damaged"):
        gone(store, "artifacts")
    assert len(gone(store, "partial", "artifacts")) == 5


def test_a_damaged_note_keeps_everything(store, made):
    rewrite(store.note_path("cams", made["cams"].key), b"?")
    with pytest.raises(DamagedError, match="nothing can be removed"):
        gone(store, "artifacts")


def test_the_list_of_images_of_a_running_stage_stays(store, tmp_path):
    """No recipe names it: the stage that listed the images holds it until it ends."""
    write_synthetic(tmp_path / "shapes", num_train=2, num_val=1, num_classes=2, size=(16, 24))
    list_images(DataConfig(root=str(tmp_path / "shapes")), store)
    assert gone(store, "artifacts") == set()
    assert len(gone(open_store(store.root), "artifacts")) == 0
    store._kept.clear()
    gc_of_python()
    assert len(gone(store, "artifacts")) == 1


def test_the_cache_of_earlier_versions_goes(store):
    (store.root / "index.sqlite").write_bytes(b"old")
    assert gone(store, "tmp") == {"index.sqlite"}
