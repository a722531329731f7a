"""Whether a store notices everything: damage of every kind, in every kind of file, before HDF5 sees a byte of it."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from sizes import size
from store_makers import IDS, SCHEMA, TENSORS, make_store, recipe, records, rewrite, seal_records, seal_tensors

from mcis_cli.errors import DamagedError, MissingError, UsageError
from mcis_cli.store import Artifact, open_store, segments_of
from mcis_cli.store.format import user_block
from mcis_cli.store.format.container import write_records
from mcis_cli.store.upkeep.repair import known_recipes, move_aside, repair
from mcis_cli.store.upkeep.verification import locate, verify

FEW = IDS[:70]  # two segments


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with two artifacts, a name, a place, and unfinished work of two kinds."""
    store = make_store(tmp_path_factory.mktemp("filled"))
    store.name("best", seal_records(store, ids=FEW))
    seal_tensors(store)
    store.set_location("cd" * 32, {"root": "/photos"})
    with store.begin(recipe("pseudo")) as partial:
        for index, ids in enumerate(segments_of(FEW)):
            partial.write_segment(index, SCHEMA, records(ids))
    with store.begin(recipe("train-seg")) as partial:
        for step in (5, 10):
            partial.save_checkpoint(step, b"state " * 50)
        partial.log({"step": 10, "total": 0.5})
    return store


@pytest.fixture
def store(filled, tmp_path):
    import shutil

    shutil.copytree(filled.root, tmp_path / "copy", symlinks=True)
    return open_store(tmp_path / "copy")


def everything(store):
    """All files that are checked."""
    folders = ("artifacts", "keys", "refs", "locations", "partial")
    found = [path for folder in folders for path in sorted((store.root / folder).rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix != ".jsonl"]


def faults(store, only=None):
    return {finding.path: finding.fault for finding in verify(store, only).findings}


def resealed(path, change):
    """Change bytes after the block, and compute the digest anew, as a forger would."""
    data = bytearray(path.read_bytes())
    change(data)
    rewrite(path, data)
    descriptor = os.open(path, os.O_RDWR)
    place = user_block.read_block(descriptor, path, "artifact").manifest
    user_block.seal(descriptor, path, "artifact", place)
    os.close(descriptor)


def test_a_store_at_rest_is_as_it_was_sealed(store):
    steps = []
    verified = verify(store, progress=lambda done, total: steps.append((done, total)))
    assert verified.findings == []
    assert verified.num_files == len(everything(store)) == 12
    assert verified.num_bytes == sum(path.stat().st_size for path in everything(store))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]


def test_an_empty_store_is_well(tmp_path):
    assert verify(make_store(tmp_path)).findings == []


def mutations(rng):
    """What disks and people do to files, as (name, how often in CI, how often in a long run, change)."""

    def flip(data):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)

    def truncate(data):
        del data[rng.randrange(len(data)) :]

    def zero(data):
        start = rng.randrange(0, len(data), 512)
        before = bytes(data[start : start + 512])
        data[start : start + 512] = bytes(len(before))
        if before == bytes(len(before)):
            flip(data)

    def append(data):
        data += rng.randbytes(rng.randint(1, 600))

    return (
        ("flip", size(2000, 20_000), flip),
        ("truncate", size(200, 2000), truncate),
        ("zero", size(100, 1000), zero),
        ("append", size(100, 1000), append),
    )


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("kind", range(4))
def test_every_mutation_of_every_file_is_noticed_and_h5py_is_never_asked(store, kind, monkeypatch):
    rng = random.Random(kind)
    name, count, change = mutations(rng)[kind]
    paths = everything(store)
    whole = {path: path.read_bytes() for path in paths}
    from mcis_cli.store.format import reader

    opened = []
    monkeypatch.setattr(reader.h5py, "File", lambda path, *_, **__: opened.append(path))
    for number in range(count):
        path = paths[number % len(paths)]
        data = bytearray(whole[path])
        change(data)
        rewrite(path, bytes(data))
        if path.parent.name == "artifacts":
            assert list(faults(store, [path])) == [path], (name, number, path)
            with pytest.raises(DamagedError):
                _read(path)
        else:
            assert _noticed(store, path), (name, number, path)
        rewrite(path, whole[path])
    assert opened == []


@pytest.mark.slow
def test_every_bit_of_the_first_bytes_of_every_kind_of_file_counts(store):
    """Where a file names its own parts: a length that reaches past its end reads the same bytes, say."""
    for path in everything(store):
        if path.suffix in (".h5", ".ckpt") and path.parent.name != "artifacts":
            whole = path.read_bytes()
            end = whole.index(b"\0")
            for bit in range(8 * (end + 2)):
                data = bytearray(whole)
                data[bit // 8] ^= 1 << bit % 8
                rewrite(path, bytes(data))
                assert _noticed(store, path), (path, bit)
            rewrite(path, whole)


def _read(path):
    with Artifact(path) as artifact:
        next(iter(artifact.records()), None) or artifact.tensors()


def _noticed(store, path):
    """Whether a file that is no artifact is found damaged, without looking at all the others."""
    from mcis_cli.store.upkeep import verification

    checks = [(checked, kind, check) for checked, kind, check in verification._checks(store) if checked == path]
    ((_, kind, check),) = checks
    return verification._tried(path, kind, check, is_wanted=False) is not None


@pytest.mark.slow
@pytest.mark.promise
def test_swapped_files_are_noticed_both(store):
    rng = random.Random(0)
    by_folder = {}
    for path in everything(store):
        by_folder.setdefault((path.parent.parent.name, path.suffix), []).append(path)
    pairs = [(a, b) for paths in by_folder.values() for a in paths for b in paths if a < b]
    assert len(pairs) >= 3
    for one, other in [pairs[number % len(pairs)] for number in range(size(20, 200))]:
        if rng.random() < 0.5:
            one, other = other, one
        spare = one.with_name("spare")
        for source, target in ((one, spare), (other, one), (spare, other)):
            source.rename(target)
        assert {one, other} <= set(faults(store)), (one, other)
        for source, target in ((one, spare), (other, one), (spare, other)):
            source.rename(target)
    assert faults(store) == {}


def test_hdf5_is_not_even_imported_for_a_damaged_artifact(store):
    for path in (store.root / "artifacts").glob("*.h5"):
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        rewrite(path, data)
    lines = [
        "import sys",
        "from pathlib import Path",
        "from mcis_cli.store import open_store",
        "from mcis_cli.store.upkeep import verification",
        f"store = open_store({str(store.root)!r})",
        "paths = sorted((store.root / 'artifacts').glob('*.h5'))",
        "print(len(verification.verify(store, paths).findings), 'h5py' in sys.modules)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2 False\n", "")


def test_the_digest_is_what_keeps_hdf5_from_garbage(store):
    """The same garbage with a good digest reaches HDF5, which does not understand it; with a bad one it does not."""
    path = store.get("best").path

    def spoil(data):
        data[512 : 512 + 64] = b"\xff" * 64

    before = path.read_bytes()
    resealed(path, spoil)
    assert "HDF5 says" in faults(store)[path]
    data = bytearray(before)
    spoil(data)
    rewrite(path, bytes(data))
    assert "its bytes have the digest" in faults(store)[path]


def test_other_values_under_a_good_digest_have_another_content_id(store, tmp_path):
    artifact = store.get("best")
    manifest = artifact.manifest
    others = [(image_id, {**fields, "score": np.array(0.5)}) for image_id, fields in artifact.records()]
    path = tmp_path / "forged.h5"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    write_records(descriptor, path, "artifact", SCHEMA, others, lambda count: manifest)
    os.close(descriptor)
    artifact.close()
    rewrite(artifact.path, path.read_bytes())
    assert faults(store)[artifact.path].startswith("its content has the id ")


def test_a_manifest_with_the_recipe_of_another_key_is_noticed(store, tmp_path):
    artifact = store.get("best")
    manifest = {**artifact.manifest, "recipe": {**artifact.manifest["recipe"], "version": 2}}
    path = tmp_path / "forged.h5"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    write_records(descriptor, path, "artifact", SCHEMA, artifact.records(), lambda count: manifest)
    os.close(descriptor)
    kept = list(artifact.records())
    artifact.close()
    rewrite(artifact.path, path.read_bytes())
    assert faults(store)[artifact.path].startswith("its recipe has the key ")
    for strange in ({"version": 1}, {"version": 1, "config": 3, "inputs": {}}):
        descriptor = os.open(path, os.O_RDWR | os.O_TRUNC)
        write_records(descriptor, path, "artifact", SCHEMA, kept, lambda count, s=strange: {**manifest, "recipe": s})
        os.close(descriptor)
        rewrite(artifact.path, path.read_bytes())
        assert artifact.path in faults(store)


def test_what_is_no_file_is_noticed(store):
    for path in (store.get("best").path, store.root / "refs/best"):
        path.unlink()
        path.mkdir()
        assert faults(store)[path] == "it is a link, a folder, a pipe or a device, expected a file"
        path.rmdir()
        os.mkfifo(path)
        assert faults(store)[path] == "it is a link, a folder, a pipe or a device, expected a file"
        path.unlink()


def test_a_copy_in_the_folder_of_artifacts_is_noticed_by_its_name(store):
    path = store.get("best").path
    copy = path.with_name("cams-000000000000.h5")
    copy.write_bytes(path.read_bytes())
    assert faults(store) == {copy: f"it is {path.name}, expected the file of its name"}


def test_parts_under_names_that_say_nothing_are_noticed(store):
    (folder,) = (store.root / "partial").glob("pseudo-*")
    (folder / "segment-x.h5").write_bytes(b"")
    (folder / "segment-000001.h5").rename(folder / "segment-000007.h5")
    found = faults(store)
    assert "its name is that of no part" in found[folder / "segment-x.h5"]
    assert found[folder / "segment-000007.h5"].startswith("it is index 1 of ")


def test_a_name_of_an_artifact_that_is_gone_asks_for_it(store):
    artifact = store.get("best")
    artifact.path.unlink()
    (finding,) = verify(store).findings
    assert (finding.path, finding.kind, finding.is_missing) == (artifact.path, "artifact", True)
    assert finding.fault == "it is missing, expected the artifact that the name best stands for"
    for path in (store.root / "keys/cams").iterdir():
        path.unlink()
    (finding,) = verify(store).findings
    assert (finding.path, finding.kind, finding.is_missing) == (store.root / "refs/best", "name", True)
    assert finding.fault == f"it names the artifact {artifact.id[:12]}, which is missing, expected an existing one"


def test_an_artifact_without_a_name_may_be_gone(store):
    """It is computed again when it is needed."""
    (path,) = (store.root / "artifacts").glob("train-cls-*.h5")
    path.unlink()
    assert verify(store).findings == []


def test_artifacts_that_others_were_made_from_may_be_gone_and_are_told(tmp_path):
    store = make_store(tmp_path)
    upstream = seal_tensors(store)
    from mcis_cli.store import Recipe

    seal_records(store, Recipe("cams", 1, {}, {"classifier": upstream.id}), FEW)
    upstream.path.unlink()
    verified = verify(store)
    assert verified.findings == []
    assert verified.absent == [upstream.path.name]


def test_what_was_set_aside_is_missed_until_it_is_made_again(store):
    artifact = store.get("best")
    (store.root / "refs/best").unlink()
    move_aside(store, artifact.path)
    (finding,) = verify(store).findings
    assert (finding.path, finding.is_missing) == (artifact.path, True)
    seal_records(store, ids=FEW)
    assert verify(store).findings == []


def test_setting_aside_keeps_the_bytes_and_what_was_set_aside_before(store):
    path = store.get("best").path
    data = path.read_bytes()
    first = move_aside(store, path)
    path.write_bytes(b"other")
    second = move_aside(store, path)
    assert (first.name, second.name) == (f"{path.name}.1", f"{path.name}.2")
    assert (first.read_bytes(), second.read_bytes()) == (data, b"other")
    assert not path.exists()


def test_artifacts_can_be_checked_alone_wherever_they_are(store, tmp_path):
    artifact = store.get("best")
    copy = tmp_path / "copy.h5"
    copy.write_bytes(artifact.path.read_bytes())
    verified = verify(store, [artifact.path, copy])
    assert (verified.num_files, verified.findings) == (2, [])
    rewrite(copy, artifact.path.read_bytes()[:-1])
    assert list(faults(store, [artifact.path, copy])) == [copy]
    (finding,) = verify(store, [tmp_path / "gone.h5"]).findings
    assert finding.is_missing


def test_an_artifact_is_located_whatever_state_it_is_in(store, tmp_path):
    artifact = store.get("best")
    refs = ["best", artifact.id, artifact.id[:8], artifact.path.name, artifact.path.stem, str(artifact.path)]
    for act in (lambda: None, lambda: rewrite(artifact.path, b""), artifact.path.unlink):
        act()
        assert [locate(store, ref) for ref in refs[:5]] == [artifact.path] * 5
    with pytest.raises(MissingError, match="no artifact 'abcdef01'"):
        locate(store, "abcdef01")
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.touch()
    assert locate(store, str(elsewhere)) == elsewhere
    twin = artifact.path.with_name(f"pseudo-{artifact.id[:12]}.h5")
    twin.touch()
    with pytest.raises(UsageError, match="2 artifacts have an id that starts with"):
        locate(store, artifact.id[:8])


# What is repaired without computing anything


def repaired(store):
    return {outcome.finding.path: outcome for outcome in repair(store, verify(store).findings)}


def flip(path, place=-9):
    data = bytearray(path.read_bytes())
    data[place] ^= 2
    rewrite(path, bytes(data))


def test_a_damaged_note_is_written_again_from_its_artifact(store):
    (path,) = (store.root / "keys/cams").iterdir()
    before = path.read_bytes()
    flip(path)
    outcome = repaired(store)[path]
    assert outcome.is_repaired
    assert outcome.how == f"written again from {store.get('best').path.name}"
    assert path.read_bytes() == before
    assert verify(store).findings == []


def test_a_damaged_note_of_nothing_is_set_aside(store):
    (path,) = (store.root / "keys/train-cls").iterdir()
    (store.root / "artifacts").glob("train-cls-*").__next__().unlink()
    flip(path)
    outcome = repaired(store)[path]
    assert outcome.is_repaired
    assert outcome.how.startswith("set aside: nothing else records what that recipe came to")
    assert verify(store).findings == []


@pytest.mark.parametrize(
    "damage", [lambda p: flip(p, 20), lambda p: flip(p), lambda p: rewrite(p, p.read_bytes()[:60])]
)
def test_a_damaged_name_is_written_again_where_it_is_clear_what_it_named(store, damage):
    path = store.root / "refs/best"
    before = path.read_bytes()
    damage(path)
    assert repaired(store)[path].is_repaired
    assert path.read_bytes() == before
    assert verify(store).findings == []


def test_a_name_of_which_nothing_is_left_stays_as_it_protects_everything(store):
    path = store.root / "refs/best"
    rewrite(path, b"\0" * 500)
    outcome = repaired(store)[path]
    assert not outcome.is_repaired
    assert outcome.how.startswith("it stays; `mcis name best ARTIFACT` gives it again")
    assert path.read_bytes() == b"\0" * 500
    with pytest.raises(DamagedError, match=r"the name .*best is damaged"):
        store.names()
    store.unname("best")
    assert verify(store).findings == []


def test_a_valid_name_stays_while_its_artifact_is_missing(store):
    path = store.root / "refs/best"
    before, artifact = path.read_bytes(), store.get("best")
    data = artifact.path.read_bytes()
    artifact.path.unlink()
    (store.root / "keys/cams").joinpath(f"{artifact.key}.json").unlink()
    assert not repaired(store)[path].is_repaired
    assert path.read_bytes() == before
    artifact.path.write_bytes(data)
    assert store.get("best").id == artifact.id


def test_damaged_places_and_parts_are_set_aside(store):
    (place,) = (store.root / "locations").iterdir()
    (segment, _) = sorted((store.root / "partial").rglob("segment-*"))
    (_, checkpoint) = sorted((store.root / "partial").rglob("checkpoint-*"))
    described = segment.with_name("recipe.json")
    for path in (place, segment, checkpoint, described):
        flip(path)
    outcomes = repaired(store)
    assert {path for path, outcome in outcomes.items() if outcome.is_repaired} == {place, segment, checkpoint}
    assert [finding.path for finding in verify(store).findings] == [described]
    with store.begin(recipe("pseudo")) as partial:
        assert [partial.segment(0), partial.segment(1)] == [False, True]
    with store.begin(recipe("train-seg")) as partial:
        assert partial.load_checkpoint() == (5, b"state " * 50)


def test_swapped_artifacts_get_their_names_back(store):
    one, other = store.get("best").path, next((store.root / "artifacts").glob("train-cls-*"))
    spare = one.with_name("spare")
    for source, target in ((one, spare), (other, one), (spare, other)):
        source.rename(target)
    outcomes = repaired(store)
    assert {outcome.how for outcome in outcomes.values()} == {"it was under the name of another, and has its own again"}
    assert verify(store).findings == []
    assert list((store.root / "damaged").iterdir()) == []


def test_what_was_made_again_before_it_is_set_aside_has_its_name_afterwards(store):
    with seal_records(store) as artifact:
        whole = artifact.path.read_bytes()
    rewrite(artifact.path, whole[:-1] + bytes([whole[-1] ^ 1]))
    findings = verify(store).findings
    rewrite(artifact.path, whole)
    (outcome,) = repair(store, findings)
    assert outcome.is_repaired
    assert artifact.path.read_bytes() == whole


def test_a_name_that_is_given_again_while_it_is_repaired_stays(store, monkeypatch):
    named, other = seal_tensors(store), seal_records(store)
    store.name("best", named)
    path = store.root / "refs" / "best"
    rewrite(path, path.read_bytes().replace(b"sha256", b"sha257"))
    findings = verify(store).findings

    def move_aside_and_tag(of, path):
        moved = move_aside(of, path)
        store.name("best", other)
        return moved

    monkeypatch.setattr("mcis_cli.store.upkeep.repair.move_aside", move_aside_and_tag)
    list(repair(store, findings))
    assert store.names()["best"] == other.id


def test_two_repairs_at_once_do_not_meet(store):
    from mcis_cli.errors import BusyError
    from mcis_cli.store.locks import held

    flip(store.root / "refs/best")
    with (
        held(store.root / "locks" / "repair", None, "fail"),
        pytest.raises(BusyError, match="works on repair"),
    ):
        list(repair(store, verify(store).findings))


def test_a_manifest_alone_tells_how_an_artifact_was_made(store):
    """The note is gone and the data damaged: what the manifest says, which has a digest of its own, is enough."""
    artifact = store.get("best")
    (note,) = (store.root / "keys/cams").iterdir()
    note.unlink()
    data = bytearray(artifact.path.read_bytes())
    data[-1] ^= 1
    rewrite(artifact.path, bytes(data))
    known = {done.id: done for done in known_recipes(store)}
    assert known[artifact.id].recipe.key == artifact.key
    assert known[artifact.id].meta == artifact.meta


def test_what_nothing_tells_of_is_set_aside_and_said_so(store):
    artifact = store.get("best")
    (note,) = (store.root / "keys/cams").iterdir()
    note.unlink()
    rewrite(artifact.path, b"garbage")
    outcome = repaired(store)[artifact.path]
    assert not outcome.is_repaired
    assert outcome.how.startswith("set aside: nothing says how it was made; run its stage again")
    assert TENSORS  # the other artifact is as it was
    assert store.get(next((store.root / "artifacts").glob("train-cls-*.h5"))).is_intact()
