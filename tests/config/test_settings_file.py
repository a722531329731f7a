"""What `mcis init` writes: every setting is there with its meaning, and the value that it has anyway."""

import re
import tomllib

import pytest

from mcis_cli.cli.session.settings_file import toml, written
from mcis_cli.config import PRESETS, SECTIONS, Config, resolve


@pytest.mark.parametrize("preset", PRESETS)
def test_a_setting_without_its_sign_has_the_value_of_the_preset(preset):
    text = written(preset, {"data": {"root": "photos"}})
    all_given = re.sub(r"^# (?=\w+ = \S)(?!\w+ = +#)", "", text, flags=re.MULTILINE)
    assert all_given.count("\n# ") < text.count("\n# ")
    assert resolve(tomllib.loads(all_given)) == resolve({"preset": preset, "data": {"root": "photos"}})


def test_every_setting_is_there_with_its_meaning():
    text = written("quick", {"cams": {"refs": 5}})
    assert "\nrefs = 5 " in text
    tables = dict(SECTIONS)
    while tables:
        name, section = tables.popitem()
        part = text.partition(f"\n[{name}]\n")[2].partition("\n\n")[0]
        for field, info in section.model_fields.items():
            if isinstance(info.annotation, type) and issubclass(info.annotation, Config):
                tables[f"{name}.{field}"] = info.annotation
            else:
                assert re.search(rf"^(# )?{field} = .*  # \S", part, re.MULTILINE), (name, field)


@pytest.mark.parametrize("text", ["a", 'a"b\\', "\x7f", "é☃", "a\tb"])
def test_texts_read_back(text):
    assert tomllib.loads(f"x = {toml(text)}") == {"x": text}
