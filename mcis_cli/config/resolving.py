"""From the tables of `mcis.toml` and of flags, over a preset, to settings."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mcis_cli.config.presets import DEFAULT_PRESET, PRESETS, Preset
from mcis_cli.config.sections import SECTIONS, Settings
from mcis_cli.config.sections.common import CrfConfig
from mcis_cli.config.sections.data import SourceConfig
from mcis_cli.errors import UsageError


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, tables merged key by key; neither is modified."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        UsageError: the file cannot be read or is not valid TOML.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_strange(tables)
        return tables
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name another file with --config") from error
    except RecursionError as error:
        raise UsageError(f"{path} nests tables too deeply, expected two levels; see mcis init") from error
    except ValueError as error:  # of TOML, of UTF-8, and of an integer of thousands of digits
        raise UsageError(f"{path} is not valid TOML: {error!s:.200}; `mcis init` writes a valid one") from error


def parse_assignment(text: str) -> dict[str, Any]:
    """`section.field=value` of `--set` as nested tables; a value that is not valid TOML is taken as a string.

    Raises:
        UsageError: there is no `=`, or no section.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise UsageError(
            f"--set {text!r:.80} is not understood: expected section.field=value, as in --set train-cls.lr=0.01"
        )
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--set {text!r:.80} has a value of a kind that no setting takes; give another") from error
    for key in reversed(keys):
        parsed = {key: parsed}
    _refuse_strange(parsed)
    return dict(parsed)


def resolve(tables: Mapping[str, Any], preset: Preset | None = None) -> Settings:
    """Settings from the tables of a file and of flags, over a preset.

    Args:
        tables: sections as in `mcis.toml`; its own `preset` is used if the argument is None.
        preset: `DEFAULT_PRESET` where neither names one.

    Raises:
        UsageError: a name is unknown (with a suggestion), or a value is out of its range.
    """
    given = dict(tables)
    named = given.pop("preset", DEFAULT_PRESET)
    chosen = preset or named
    if chosen not in list(PRESETS):  # a file may have anything here, including lists
        raise UsageError(
            f"preset {chosen!r:.80} is not known: expected one of {', '.join(PRESETS)}; set it with --preset"
        )
    _refuse_strange(given)
    try:
        return Settings.model_validate(merge(PRESETS[chosen], given))
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def _refuse_strange(value: object, name: str = "a setting") -> None:
    """Refuse values that TOML allows, but file names and arrays do not."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_strange(inner, str(key) if name == "a setting" else f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_strange(inner, name)
    elif isinstance(value, str) and "\0" in value:
        raise UsageError(f"{name} contains a NUL: expected text; give another")
    elif isinstance(value, int) and value.bit_length() > 64:
        raise UsageError(f"{name} is an integer of {value.bit_length():,} bits: expected at most 64; give a smaller")


def _explain(error: ValidationError) -> str:
    # An unknown name may be the reason why another is missing.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    if first["type"] == "missing" and isinstance(first["loc"][-1], str):
        return f"setting {'.'.join(place)} is missing; docs/reference/configuration.md describes it"
    if first["type"] != "extra_forbidden":
        reason = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        return f"{'.'.join(place)} = {first['input']!r:.80} is not accepted: expected {reason}"
    known = _names(place[:-1])
    near = difflib.get_close_matches(place[-1].replace("-", "_"), known, n=1) or difflib.get_close_matches(
        place[-1], known, n=1
    )
    hint = f"did you mean {near[0]}?" if near else f"known there: {', '.join(known)}"
    return f"setting {'.'.join(place)} is not known; {hint}"


def _names(section: list[str]) -> list[str]:
    if not section:
        return ["preset", *(field.alias or name for name, field in Settings.model_fields.items())]
    model: type[BaseModel] = SECTIONS.get(section[0], CrfConfig)
    if section[1:]:
        model = SourceConfig if section[0] == "data" else CrfConfig
    return list(model.model_fields)
