"""Values that no setting can have, in a file or by --set: bad input, and never a bug."""

import re

import pytest

from mcis_cli.config import DataConfig, parse_assignment, read_toml, resolve
from mcis_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data.train=" + "[" * 20_000, "has a value of a kind that no setting takes"),
        ("train-cls.seed=" + "9" * 5_000, "has a value of a kind that no setting takes"),
        ("train-cls.seed=99999999999999999999", "train-cls.seed is an integer of 67 bits"),
        ("train-cls.image_size=2147483648", "less than or equal to 16384"),
        ('data.root="a\\u0000b"', "data.root contains a NUL"),
    ],
)
def test_values_that_no_setting_has_are_bad_input(text, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        resolve(parse_assignment(text))


def test_a_file_with_such_values_is_bad_input(tmp_path):
    for text in ("[train-cls]\nseed = " + "9" * 5_000, '[data]\nroot = "a\\u0000b"'):
        (tmp_path / "mcis.toml").write_text(text)
        with pytest.raises(UsageError, match=r"is not valid TOML|contains a NUL"):
            read_toml(tmp_path / "mcis.toml")


@pytest.mark.parametrize("place", [None, {}, {"root": 3}, {"root": "a\0b"}, {"root": "x", "layout": "other"}])
def test_a_forged_place_is_none(place):
    assert DataConfig.remembered(place) is None or place == {}
