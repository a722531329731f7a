"""Work in progress, and sealing."""

import functools
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from store_makers import IDS, SCHEMA, TENSORS, make_store, recipe, records, rewrite, seal_records, seal_tensors

from mcis_cli.errors import DamagedError, MissingError, UsageError
from mcis_cli.store import SEGMENT_SIZE, Recipe, files, segments_of
from mcis_cli.store.format import reader, user_block

META = {"class_names": ["cat", "dog"]}


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


@pytest.fixture
def partial(store):
    with store.begin(recipe()) as partial:
        yield partial


def write_all(partial):
    for index, segment in enumerate(segments_of(IDS)):
        partial.write_segment(index, SCHEMA, records(segment))


def test_segments_are_cuts_of_the_sorted_ids():
    segments = segments_of(reversed(IDS))
    assert [len(segment) for segment in segments] == [SEGMENT_SIZE, SEGMENT_SIZE, 2]
    assert [image_id for segment in segments for image_id in segment] == sorted(IDS)
    assert segments_of([]) == []


def test_segments_want_each_id_once():
    with pytest.raises(AssertionError, match="twice"):
        segments_of(["a", "b", "a"])


def test_a_segment_is_there_once_it_is_written(partial):
    assert not partial.segment(1)
    partial.write_segment(1, SCHEMA, records(IDS[64:128]))
    assert partial.segment(1)
    assert not partial.segment(0)


def test_a_segment_is_there_for_the_next_process(store):
    with store.begin(recipe()) as partial:
        partial.write_segment(1, SCHEMA, records(IDS[64:128]))
    with store.begin(recipe()) as partial:
        assert partial.segment(1)


def test_a_segment_that_could_not_be_computed_leaves_nothing(store, partial):
    def items():
        yield from records(IDS[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partial.write_segment(0, SCHEMA, items())
    assert [path.name for path in partial.folder.iterdir()] == ["recipe.json"]
    assert list((store.root / "tmp").iterdir()) == []
    assert not partial.segment(0)


def damage(path):
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    rewrite(path, data)


def test_a_damaged_segment_is_written_anew(store):
    with store.begin(recipe()) as partial:
        write_all(partial)
        damage(partial.folder / "segment-000001.h5")
    with store.begin(recipe()) as partial:
        assert [partial.segment(index) for index in range(3)] == [True, False, True]
        partial.write_segment(1, SCHEMA, records(IDS[64:128]))
        assert partial.seal(SCHEMA, 3, META, {}).ids == IDS


def test_a_segment_that_is_intact_stays(partial):
    partial.write_segment(0, SCHEMA, records(IDS[:64]))
    path = partial.folder / "segment-000000.h5"
    inode = path.stat().st_ino
    partial.write_segment(0, SCHEMA, records(IDS[:64]))
    assert path.stat().st_ino == inode


def test_segments_under_each_others_names_are_not_taken(store, partial):
    write_all(partial)
    first, second = (partial.folder / f"segment-00000{index}.h5" for index in (0, 1))
    data = first.read_bytes()
    rewrite(first, second.read_bytes())
    rewrite(second, data)
    with pytest.raises(DamagedError, match="it is another segment, expected number 0"):
        partial.seal(SCHEMA, 3, META, {})
    with store.begin(recipe(), lock="none") as other:
        assert not other.segment(0)


def test_segments_of_another_recipe_are_not_taken(store, partial):
    write_all(partial)
    with store.begin(recipe(refs=1)) as other:
        (other.folder / "segment-000000.h5").hardlink_to(partial.folder / "segment-000000.h5")
        assert not other.segment(0)


def test_sealing_packs_all_segments_and_removes_them(store, partial):
    write_all(partial)
    artifact = partial.seal(SCHEMA, 3, META, {"seconds": 2.5})
    assert artifact.ids == IDS
    assert len(artifact) == len(IDS)
    assert artifact.path.name == f"cams-{artifact.id[:12]}.h5"
    assert artifact.path.stat().st_mode & 0o777 == 0o444
    assert artifact.path.stat().st_nlink == 1
    assert artifact.content_id() == artifact.id
    assert not partial.folder.exists()
    assert list((store.root / "tmp").iterdir()) == []


def test_manifest_tells_what_was_done(store, partial):
    write_all(partial)
    manifest = partial.seal(SCHEMA, 3, META, {"seconds": 2.5}).manifest
    assert manifest["format"] == 1
    assert manifest["stage"] == "cams"
    assert manifest["key"] == recipe().key
    assert manifest["recipe"] == {"config": {"refs": 3}, "inputs": {"classifier": "ab" * 32}, "version": 1}
    assert manifest["meta"] == META
    assert manifest["provenance"].keys() == {"created", "seconds"}
    assert manifest["schema"]["maps"] == ["float16", 3]
    assert manifest["num_records"] == 130


def test_content_id_does_not_depend_on_provenance_or_on_how_records_were_cut(tmp_path):
    whole = seal_records(make_store(tmp_path / "a"))
    with make_store(tmp_path / "b").begin(recipe()) as partial:
        partial.write_segment(0, SCHEMA, records(IDS[:100]))
        partial.write_segment(1, SCHEMA, records(IDS[100:]))
        cut = partial.seal(SCHEMA, 2, META, {"device": "another"})
    assert cut.id == whole.id


def test_sealing_tells_which_segment_is_not_there(partial):
    partial.write_segment(0, SCHEMA, records(IDS[:64]))
    with pytest.raises(MissingError, match=r"segment 1 of 3 of cams-.* is not there; run the same command again"):
        partial.seal(SCHEMA, 3, META, {})
    assert partial.segment(0)


def test_sealing_notices_a_segment_that_was_damaged_meanwhile(store, partial):
    write_all(partial)
    damage(partial.folder / "segment-000002.h5")
    with pytest.raises(DamagedError, match="segment-000002"):
        partial.seal(SCHEMA, 3, META, {})
    assert list((store.root / "artifacts").iterdir()) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_no_records_are_an_artifact_too(partial):
    artifact = partial.seal(SCHEMA, 0, META, {})
    assert artifact
    assert artifact.ids == ()
    assert list(artifact.records()) == []


def test_the_first_to_seal_wins(store):
    with store.begin(recipe(), lock="none") as one, store.begin(recipe(), lock="none") as other:
        write_all(one)
        write_all(other)
        first = one.seal(SCHEMA, 3, META, {"by": "one"})
        second = other.seal(SCHEMA, 3, META, {"by": "other"})
    assert second.path == first.path
    assert second.provenance["by"] == "one"
    assert len(list((store.root / "artifacts").iterdir())) == 1


def test_two_recipes_with_one_result_share_the_file(store):
    first = seal_tensors(store, recipe("train-cls", seed=1))
    second = seal_tensors(store, recipe("train-cls", seed=2))
    assert second.path == first.path
    assert store.find(recipe("train-cls", seed=2)).id == first.id
    assert second.key == recipe("train-cls", seed=1).key


def test_sealing_puts_a_good_file_in_the_place_of_a_damaged_one(store):
    first = seal_tensors(store, recipe("train-cls", seed=1))
    damage(first.path)
    second = seal_tensors(store, recipe("train-cls", seed=2))
    assert second.path == first.path
    np.testing.assert_array_equal(second.tensors()["head.weight"], TENSORS["head.weight"])


def test_checkpoints_come_back_newest_first(store):
    with store.begin(recipe("train-cls")) as partial:
        assert partial.load_checkpoint() is None
        for step in (5, 10, 15):
            partial.save_checkpoint(step, b"state of %d" % step)
        assert partial.load_checkpoint() == (15, b"state of 15")
        assert len(list(partial.folder.glob("*.ckpt"))) == 2
    with store.begin(recipe("train-cls")) as partial:
        damage(partial.folder / "checkpoint-000000000015.ckpt")
        assert partial.load_checkpoint() == (10, b"state of 10")
        partial.save_checkpoint(15, b"state of 15 again")
        assert partial.load_checkpoint() == (15, b"state of 15 again")


def test_an_empty_checkpoint_comes_back(partial):
    partial.save_checkpoint(0, b"")
    assert partial.load_checkpoint() == (0, b"")


def test_a_checkpoint_of_another_training_or_step_is_not_gone_on_from(store):
    with store.begin(recipe("train-cls", seed=1)) as other, store.begin(recipe("train-cls")) as partial:
        other.save_checkpoint(2, b"of another seed")
        other.save_checkpoint(3, b"of another seed")
        partial.save_checkpoint(1, b"ours")
        (other.folder / "checkpoint-000000000003.ckpt").rename(partial.folder / "checkpoint-000000000003.ckpt")
        partial.save_checkpoint(2, b"ours, of step 2")
        (partial.folder / "checkpoint-000000000002.ckpt").rename(partial.folder / "checkpoint-000000000004.ckpt")
        partial.save_checkpoint(1, b"ours")
        assert partial.load_checkpoint() == (1, b"ours")


def test_the_log_loses_what_came_after_the_checkpoint_and_what_is_torn(partial):
    partial.truncate_log(3)
    for step in range(1, 6):
        partial.log({"step": step, "loss": 0.5})
    with partial.log_path.open("ab") as file:
        file.write(b'[1]\n{"step": 2, "lo')
    partial.truncate_log(3)
    assert [json.loads(line)["step"] for line in partial.log_path.read_text().splitlines()] == [1, 2, 3]
    partial.log({"step": 4, "loss": 0.25})
    assert partial.log_path.read_text().splitlines()[-1] == '{"loss":0.25,"step":4}'


def test_the_log_is_kept_beside_the_artifact(store):
    with store.begin(recipe("train-cls")) as partial:
        partial.log({"step": 1, "loss": 0.5})
        partial.save_checkpoint(1, b"state")
        artifact = partial.seal_tensors(TENSORS, {}, {})
    assert artifact.log_path == artifact.path.with_suffix(".jsonl")
    assert artifact.log_path.read_text() == '{"loss":0.5,"step":1}\n'
    assert not partial.folder.exists()


def test_tensors_are_not_modified(store):
    before = {name: tensor.copy() for name, tensor in TENSORS.items()}
    seal_tensors(store)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_sealing_twice_in_a_row_finds_the_first(store):
    with store.begin(recipe("train-cls")) as partial:
        first = partial.seal_tensors(TENSORS, {}, {})
        assert partial.sealed().path == first.path
        assert partial.seal_tensors({}, {}, {}).path == first.path


def test_segments_written_after_another_process_sealed_do_no_harm(store):
    with store.begin(recipe(), lock="none") as one, store.begin(recipe(), lock="none") as other:
        write_all(one)
        first = one.seal(SCHEMA, 3, META, {})
        other.write_segment(2, SCHEMA, records(IDS[128:]))
        assert other.seal(SCHEMA, 3, META, {}).path == first.path
    assert list((store.root / "partial").iterdir()) == []


# What is sealed can be read


def test_an_integer_that_no_manifest_can_have_is_refused_before_anything_is_computed(store):
    with pytest.raises(UsageError, match=r"iterations is an integer of 64 bits; expected one from"):
        _ = Recipe("cams", 1, {"iterations": 2**63}, {}).key
    assert Recipe("cams", 1, {"iterations": 2**63 - 1, "least": -(2**63)}, {}).key


@pytest.mark.parametrize(
    "meta",
    [{"names": ["x" * 2**22]}, {"deep": functools.reduce(lambda inner, _: [inner], range(40), 0)}],
    ids=["manifest of 4 MiB", "nested"],
)
def test_what_no_reader_would_take_is_not_sealed(store, meta):
    with store.begin(recipe()) as partial:
        partial.write_segment(0, SCHEMA, records(IDS[:2]))
        with pytest.raises(UsageError, match="what was computed cannot be sealed"):
            partial.seal(SCHEMA, 1, meta, {})
        assert partial.segment(0)
    assert store.find(recipe()) is None
    assert list((store.root / "artifacts").iterdir()) == []
    with store.begin(recipe("train-cls")) as partial, pytest.raises(UsageError, match="cannot be sealed"):
        partial.seal_tensors({"x": np.zeros(2)}, meta, {})


def test_a_record_that_no_reader_would_take_is_not_written(store, monkeypatch):
    monkeypatch.setattr(reader, "_MAX_RECORD_BYTES", 64)
    with store.begin(recipe()) as partial:
        with pytest.raises(UsageError, match="a shape of maps is out of bounds"):
            partial.write_segment(0, {"maps": ("float32", 1)}, [("a", {"maps": np.zeros(17, np.float32)})])
        assert not partial.is_written(0)


# Few reads


def bytes_read():
    """By this process, through any library."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def test_records_are_read_once_though_their_digest_is_checked(store, partial):
    write_all(partial)
    expected = list(partial.records(3, SCHEMA))
    size = sum(path.stat().st_size for path in partial.folder.glob("segment-*.h5"))
    before = bytes_read()
    found = list(partial.records(3, SCHEMA))
    assert bytes_read() - before < 1.1 * size
    assert len(found) == len(IDS)
    for (image_id, fields), (other_id, others) in zip(found, expected, strict=True):
        assert image_id == other_id
        assert all((fields[name] == others[name]).all() for name in SCHEMA)


def test_segments_that_are_too_large_for_memory_have_the_same_records(store, partial, monkeypatch):
    write_all(partial)
    made = seal_records(make_store(store.root / "other"))
    monkeypatch.setattr(user_block, "MAX_READ", 1)
    assert partial.seal(SCHEMA, 3, META, {}).id == made.id


def test_workers_that_join_open_one_segment_of_many(store, monkeypatch):
    with store.begin(recipe()) as partial:
        for index, segment in enumerate(segments_of(IDS)):
            partial.write_segment(index, SCHEMA, records(segment), ONE)
        with store.begin(recipe(), lock="none") as joined:
            opened, really = [], files.open_regular
            monkeypatch.setattr(files, "open_regular", lambda path, *flags: opened.append(path) or really(path, *flags))
            assert joined.written() == {0, 1, 2}
            assert opened == []
            joined.check_arithmetic(ONE)
            assert [path.name for path in opened] == ["segment-000000.h5"]
            with pytest.raises(UsageError, match="segment 0 was computed with"):
                joined.check_arithmetic(TWO)


# Segments of different arithmetic


ONE, TWO = {"threads": 1, "instructions": "AVX2"}, {"threads": 2, "instructions": "AVX2"}


@pytest.mark.parametrize(("first", "second"), [(ONE, TWO), (ONE, None), (None, TWO)])
def test_segments_of_different_arithmetic_are_sealed_only_if_that_is_allowed(store, first, second):
    with store.begin(recipe()) as partial:
        for index, arithmetic in enumerate((first, second)):
            partial.write_segment(index, SCHEMA, records(segments_of(IDS)[index]), arithmetic)
        with pytest.raises(UsageError, match=r"segment 0 was computed with .*, and segment 1 with .*--mixed"):
            partial.seal(SCHEMA, 2, META, {})
        assert partial.segment(0)
        made = partial.seal(SCHEMA, 2, META, {}, mixed=True)
    assert made.provenance["arithmetic"] == [first or {}, second or {}]


def test_work_that_would_mix_its_arithmetic_with_what_is_there_is_not_begun(store):
    with store.begin(recipe()) as partial:
        partial.write_segment(1, SCHEMA, records(segments_of(IDS)[1]), ONE)
        partial.check_arithmetic(ONE)
        with pytest.raises(
            UsageError, match="segment 1 was computed with instructions AVX2, threads 1, and the rest would be"
        ):
            partial.check_arithmetic(TWO)


def test_segments_of_one_arithmetic_are_sealed_and_have_the_same_id_as_without(store):
    with store.begin(recipe()) as partial:
        for index, segment in enumerate(segments_of(IDS)):
            partial.write_segment(index, SCHEMA, records(segment), ONE)
        made = partial.seal(SCHEMA, 3, {"class_names": ["cat", "dog"]}, {"seconds": 1.5})
    assert "arithmetic" not in made.provenance
    assert made.id == seal_records(store).id


@pytest.mark.parametrize("forged", [[1], "AVX2", None, {"threads": 2**70}, {"threads": {"a": [1]}}, {"": None}])
def test_forged_arithmetic_ends_in_one_line_or_is_left_out(store, monkeypatch, forged):
    with store.begin(recipe()) as partial:
        partial.write_segment(0, SCHEMA, records(segments_of(IDS)[0]), ONE)
        monkeypatch.setattr(user_block, "read_manifest", lambda *_: {"arithmetic": forged})
        with suppress(UsageError):
            partial.check_arithmetic(TWO)
