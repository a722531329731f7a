"""Notes that check themselves: any byte that is not what was written makes a file none."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_makers import TENSORS, make_store, recipe, rewrite, seal_records, seal_tensors

from mcis_cli.errors import DamagedError
from mcis_cli.store import Recipe, canonical_json, notes

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé✓ \n", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)
entries = st.dictionaries(st.text("abcxyz", max_size=4), values, max_size=4)


@given(entries)
def test_what_is_spelled_is_parsed(given_entries):
    assert notes.parse(notes.spell(given_entries)) == given_entries


def test_the_digest_of_a_note_is_that_of_the_rest():
    parsed = json.loads(notes.spell({"id": "ab", "n": 1}))
    assert parsed.pop("sha256") == hashlib.sha256(b'{"id":"ab","n":1}').hexdigest()
    assert parsed == {"id": "ab", "n": 1}


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_makes_it_no_note(bit):
    data = notes.Done(recipe(), "ab" * 32, {"class_names": ["cat"]}, {"seconds": 1.5}).spell()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        assert notes.parse(bytes(flipped)) is None, place


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\n", lambda d: b" " + d, lambda d: d * 2])
def test_a_note_is_whole(change):
    assert notes.parse(change(notes.spell({"id": "ab"}))) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"{}", b'{"id": "ab"}', b"\xff", b"[" * 10**5, b'{"x":NaN}'])
def test_other_files_are_no_notes(data):
    assert notes.parse(data) is None


def test_a_recipe_that_is_done_is_read_back_under_its_own_name_only():
    done = notes.Done(recipe(), "ab" * 32, {"class_names": ["cat"]}, {"seconds": 1.5})
    assert notes.parse_done(done.spell(), "cams", recipe().key) == done
    assert notes.parse_done(done.spell(), "pseudo", recipe().key) is None
    assert notes.parse_done(done.spell(), "cams", recipe(refs=1).key) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../etc"},
        {"id": None},
        {"meta": []},
        {"provenance": None},
        {"recipe": {"stage": "cams"}},
        {"recipe": {**recipe().as_dict(), "more": 1}},
        {"recipe": {**recipe().as_dict(), "stage": "../x"}},
        {"recipe": {**recipe().as_dict(), "inputs": {"maps": 7}}},
    ],
)
def test_a_note_with_a_good_digest_is_still_checked(change):
    parts = {"id": "ab" * 32, "recipe": recipe().as_dict(), "meta": {}, "provenance": {}}
    stage, key = parts["recipe"]["stage"], recipe().key
    assert notes.parse_done(notes.spell(parts), stage, key) is not None
    assert notes.parse_done(notes.spell({**parts, **change}), stage, key) is None


def test_a_recipe_that_is_done_is_noted_with_all_that_making_it_again_takes(tmp_path):
    store = make_store(tmp_path)
    artifact = seal_records(store)
    done = store.done("cams", recipe().key)
    assert done.recipe == Recipe("cams", 1, {"refs": 3}, {"classifier": "ab" * 32})
    assert (done.id, done.meta) == (artifact.id, artifact.meta)
    assert done.provenance == artifact.provenance
    assert list(store.all_done()) == [done]
    artifact.path.unlink()
    assert store.find(recipe()) is None
    assert store.done("cams", recipe().key) == done


def test_what_was_lost_and_is_made_again_has_the_meta_that_it_had(tmp_path):
    """The whole data set that a stage lists is no part of its recipe, and may have grown since."""
    store = make_store(tmp_path)
    first = seal_tensors(store)
    first.path.unlink()
    with store.begin(recipe("train-cls")) as partial:
        again = partial.seal_tensors(TENSORS, {"backbone": "lite0", "dataset": "grown"}, {})
    assert (again.id, again.meta) == (first.id, first.meta)


def test_a_pipe_or_a_folder_in_the_place_of_a_note_is_none(tmp_path):
    import os

    store = make_store(tmp_path)
    os.mkfifo(store.root / "refs/pipe")
    (store.root / "refs/folder").mkdir()
    damaged = []
    assert store.names(damaged.append) == {}
    assert len(damaged) == 2


def test_a_damaged_name_is_an_error_and_a_damaged_place_is_none(tmp_path):
    store = make_store(tmp_path)
    store.name("best", seal_tensors(store))
    store.set_location("ab" * 32, {"root": "/photos"})
    for path in (store.root / "refs/best", store.root / "locations" / f"{'ab' * 32}.json"):
        rewrite(path, path.read_bytes().replace(b"o", b"0").replace(b"a", b"A"))
    with pytest.raises(DamagedError, match=r"the name .*best is damaged"):
        store.names()
    assert store.location("ab" * 32) is None


def test_notes_are_canonical_json(tmp_path):
    store = make_store(tmp_path)
    seal_tensors(store)
    (path,) = (store.root / "keys").rglob("*.json")
    assert canonical_json(json.loads(path.read_bytes())) == path.read_bytes()
