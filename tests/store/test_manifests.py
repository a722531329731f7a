import pytest
from store_makers import make_store, seal_records

from mcis_cli.errors import DamagedError
from mcis_cli.store.format.manifests import check_manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return seal_records(make_store(tmp_path_factory.mktemp("store"))).manifest


def test_a_sound_manifest_passes(sound, tmp_path):
    check_manifest(sound, tmp_path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"id": "../../etc"}, r"'\.\./\.\./etc' as its 'id', expected 64 hexadecimal digits"),
        ({"id": None}, "as its 'id'"),
        ({"key": "AB" * 32}, "as its 'key'"),
        ({"stage": "../x"}, "as its 'stage', expected the name of a stage"),
        ({"stage": ["cams"]}, "as its 'stage'"),
        ({"recipe": {}}, "as its 'recipe', expected version, config and inputs"),
        ({"recipe": {"version": True, "config": {}, "inputs": {}}}, "as its 'recipe'"),
        ({"recipe": {"version": 1, "config": [], "inputs": {}}}, "as its 'recipe'"),
        ({"recipe": {"version": 1, "config": {}, "inputs": {"images": 1}}}, "as its 'recipe'"),
        ({"recipe": {"version": 1, "config": {}, "inputs": {}, "stage": "x"}}, "as its 'recipe'"),
        ({"meta": []}, "as its 'meta', expected a JSON object"),
        ({"provenance": 1}, "as its 'provenance'"),
        ({"num_records": -1}, "no number of records"),
        ({"num_records": True}, "no number of records"),
        ({"num_records": 2.0}, "no number of records"),
    ],
)
def test_any_other_is_refused_in_one_line(sound, tmp_path, change, found):
    with pytest.raises(DamagedError, match=found):
        check_manifest({**sound, **change}, tmp_path)


@pytest.mark.parametrize("field", ["id", "key", "stage", "recipe", "meta", "provenance"])
def test_no_field_may_be_missing(sound, tmp_path, field):
    with pytest.raises(DamagedError, match=f"its manifest has no '{field}'"):
        check_manifest({name: value for name, value in sound.items() if name != field}, tmp_path)
