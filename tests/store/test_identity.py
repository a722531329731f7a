"""Keys and content ids."""

import hashlib
import json
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.errors import UsageError
from mcis_cli.store import ContentHash, Recipe, canonical_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\n😀")
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner), max_leaves=8)


@given(VALUES)
def test_canonical_json_reads_back_as_what_it_was(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text("abcé"), SCALARS))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_canonical_json_has_sorted_keys_no_spaces_and_utf8():
    assert canonical_json(MappingProxyType({"b": (1, 2.0, None), "a": "é"})) == '{"a":"é","b":[1,2.0,null]}'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_canonical_json_refuses_numbers_that_are_not_finite(number):
    with pytest.raises(UsageError, match=r"value\.lr\[1\] is -?(nan|inf); .* finite"):
        canonical_json({"lr": [0.1, number]})


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, np.float32(1), np.zeros(2), object()])
def test_canonical_json_refuses_what_json_has_no_word_for(value):
    with pytest.raises(TypeError, match=r"value\.x is of type"):
        canonical_json({"x": value})


def test_canonical_json_refuses_names_that_are_no_text():
    with pytest.raises(UsageError, match=r"caf\\udce9.* is not valid UTF-8; rename"):
        canonical_json({"class_names": [b"caf\xe9".decode(errors="surrogateescape")]})


def test_canonical_json_refuses_keys_that_are_no_strings():
    with pytest.raises(TypeError, match="value has the key 1; keys are strings"):
        canonical_json({1: "one"})


def test_key_is_the_digest_of_the_recipe_spelled_canonically():
    recipe = Recipe("cams", 2, {"refs": 3, "flip": False}, {"classifier": "ab"})
    spelled = b'{"config":{"flip":false,"refs":3},"inputs":{"classifier":"ab"},"stage":"cams","version":2}'
    assert recipe.key == hashlib.sha256(spelled).hexdigest()


def test_key_changes_with_each_part_of_the_recipe():
    recipes = [
        Recipe("cams", 1, {"refs": 3}, {"classifier": "ab"}),
        Recipe("pseudo", 1, {"refs": 3}, {"classifier": "ab"}),
        Recipe("cams", 2, {"refs": 3}, {"classifier": "ab"}),
        Recipe("cams", 1, {"refs": 4}, {"classifier": "ab"}),
        Recipe("cams", 1, {"refs": 3.0}, {"classifier": "ab"}),
        Recipe("cams", 1, {"refs": 3}, {"classifier": "cd"}),
        Recipe("cams", 1, {"refs": 3}, {"network": "ab"}),
    ]
    assert len({recipe.key for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("stage", ["", "Cams", "../cams", "a b", "a" * 41])
def test_recipe_refuses_stages_that_are_no_file_names(stage):
    with pytest.raises(ValueError, match="a stage's name has"):
        Recipe(stage, 1, {}, {})


def content_of(*records, stage="cams", meta=None, schema=None):
    content = ContentHash(stage, meta or {}, schema or {"x": ("float32", 1), "y": ("uint8", 0)})
    for image_id, fields in records:
        content.add(image_id, fields)
    return content.hexdigest()


def fields(x=(1.0, 2.0), y=3):
    return {"x": np.array(x, np.float32), "y": np.array(y, np.uint8)}


def test_content_id_does_not_depend_on_the_order_of_fields_or_on_the_layout_of_arrays():
    plain = content_of(("a", fields()))
    swapped = np.array([1.0, 2.0], ">f4")
    strided = np.array([1.0, 9.0, 2.0, 9.0], np.float32)[::2]
    assert content_of(("a", dict(reversed(fields().items())))) == plain
    assert content_of(("a", fields() | {"x": swapped})) == plain
    assert content_of(("a", fields() | {"x": strided})) == plain


def test_content_id_changes_with_each_part_of_the_content():
    ids = [
        content_of(("a", fields())),
        content_of(("b", fields())),
        content_of(("a", fields(x=(2.0, 1.0)))),
        content_of(("a", fields(x=(1.0,)))),
        content_of(("a", fields(y=4))),
        content_of(("a", fields() | {"x": np.array([1.0, 2.0])})),
        content_of(("a", fields() | {"x": np.array([[1.0, 2.0]], np.float32)})),
        content_of(("a", {"x": fields()["x"], "z": fields()["y"]})),
        content_of(("a", fields()), ("b", fields())),
        content_of(("a", fields()), stage="pseudo"),
        content_of(("a", fields()), meta={"classes": ["cat"]}),
        content_of(("a", fields()), schema={"x": ("float32", 1)}),
        content_of(),
    ]
    assert len(set(ids)) == len(ids)


def test_content_hash_wants_ids_in_order():
    with pytest.raises(AssertionError, match="ascend strictly"):
        content_of(("b", fields()), ("a", fields()))


def test_content_hash_does_not_modify_its_arguments():
    given_fields = fields()
    content_of(("a", given_fields))
    assert given_fields["x"].tolist() == [1.0, 2.0]
