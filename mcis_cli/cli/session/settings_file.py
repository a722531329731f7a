"""`mcis.toml` as `mcis init` writes it: the settings that it chose, then every other setting with its value."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import chain
from typing import Any, cast

from mcis_cli.cli.session.options import PRESET_NAMES
from mcis_cli.config import SECTIONS, Config, Preset, merge, resolve
from mcis_cli.errors import UsageError

HEAD = """\
# Settings of mcis. A line that begins with "# " is a setting at the value of the preset: remove the sign to change
# it. What each accepts is in docs/reference/configuration.md; numbers in brackets are those of
# docs/explanation/differences-from-the-paper.md. `mcis check` reports what is wrong with the images.
"""


def written(preset: Preset, chosen: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a configuration file.

    Args:
        preset: named in the file; gives the values of all settings that are not chosen.
        chosen: settings by section that are written without a comment sign.
    """
    parts = [
        HEAD,
        f"preset = {toml(preset)}  # {PRESET_NAMES}\n",
    ]
    settings = resolve({}, preset)
    for name in SECTIONS:
        parts += _table(name, getattr(settings, name.replace("-", "_")), chosen.get(name, {}))
    return "".join(parts)


def _table(place: str, values: Config, chosen: Mapping[str, Any], heading: str = "[{}]") -> Iterator[str]:
    """A table with a line for each setting, then those below it: one, or one for each of several."""
    section = type(values)
    yield f"\n# {inspect.cleandoc(str(section.__doc__)).splitlines()[0]}\n{heading.format(place)}\n"
    below: list[Iterator[str]] = []
    for name in sorted(section.model_fields, key=lambda name: name not in chosen):  # chosen ones first
        value = chosen.get(name, getattr(values, name))
        if isinstance(value, Config):
            below.append(_table(f"{place}.{name}", value, {}))
        elif isinstance(value, tuple) and value and isinstance(value[0], Config):
            below += [_table(f"{place}.{name}", one, one.model_dump(exclude_unset=True), "[[{}]]") for one in value]
        else:
            sign = "" if name in chosen else "# "
            yield f"{f'{sign}{name} = {toml(value)}':<40}  # {section.description_of(name)}\n"
    yield from chain.from_iterable(below)


def with_values(text: str, values: Mapping[str, Any], remark: str, name: str) -> str:
    """A configuration file with other values of some settings; all else stays, including comments and order.

    Args:
        text: the file.
        values: by `SECTION.FIELD`.
        remark: a comment for the line before the first of them; replaces the one of an earlier call.
        name: how messages call the file.

    Raises:
        UsageError: the file is written in a way that cannot be edited line by line.
    """
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(f"# {remark.partition(':')[0]}: ")]
    for number, (setting, value) in enumerate(values.items()):
        _set_value(lines, setting, toml(value), "" if number else f"# {remark}\n")
    made = "".join(lines)
    expected: dict[str, Any] = tomllib.loads(text)
    for setting, value in values.items():
        nested: Any = reduce(lambda inner, key: {key: inner}, reversed(setting.split(".")), cast(Any, value))
        expected = merge(expected, nested)
    try:
        is_valid = tomllib.loads(made) == expected
    except tomllib.TOMLDecodeError:
        is_valid = False
    if not is_valid:
        wanted = ", ".join(f"{setting} = {toml(value)}" for setting, value in values.items())
        raise UsageError(f"{name} cannot be edited line by line: expected a table [pseudo]; write {wanted} yourself")
    return made


def _set_value(lines: list[str], setting: str, value: str, remark: str) -> None:
    """Replace the value of a setting, or insert a line at the beginning of its table, which is added if need be."""
    table, _, key = setting.rpartition(".")
    headers = [place for place, line in enumerate(lines) if line.lstrip().startswith("[")]
    begin = next((place for place in headers if lines[place].split("#")[0].strip() == f"[{table}]"), None)
    if begin is None:
        lines[-1:] = [f"{lines[-1].rstrip()}\n"] if lines else []
        lines += [f"\n[{table}]\n", f"{remark}{key} = {value}\n"]
        return
    end = next((place for place in headers if place > begin), len(lines))
    for place in range(begin + 1, end):
        if match := re.fullmatch(rf"(\s*{key}\s*=\s*)(\{{[^}}#]*\}}|[^#\s]+)(.*)", lines[place], re.DOTALL):
            lines[place] = f"{remark}{match[1]}{value}{match[3]}"
            return
    lines.insert(begin + 1, f"{remark}{key} = {value}\n")


def _inline(pairs: Iterable[tuple[str, object]]) -> str:
    named = [f"{key if re.fullmatch('[A-Za-z0-9_-]+', key) else toml(key)} = {toml(value)}" for key, value in pairs]
    return f"{{ {', '.join(named)} }}" if named else "{}"


def toml(value: object) -> str:
    """Format a value as TOML. TOML has no null, so None becomes an empty string."""
    if value is None:
        return ""
    if isinstance(value, str):  # unlike JSON, TOML has no surrogate pairs, and allows no DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Config):
        said = ((name, found) for name, found in value if found is not None)
        return _inline(said)
    if isinstance(value, Mapping):
        return _inline(value.items())
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)
