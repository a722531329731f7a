"""The flags of a section of settings: a group of options, made from what the section declares on its fields."""

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

import typer
from pydantic_core import PydanticUndefined

from mcis_cli.cli.session import completion
from mcis_cli.cli.session.options import numbers, whole_numbers, words
from mcis_cli.cli.session.workspace import names_file
from mcis_cli.config import DEFAULT_PRESET, PRESETS, SECTIONS, Config, Flag
from mcis_cli.config.setting import without_marks


@dataclass(frozen=True)
class Flags:
    """The settings that flags gave.

    Attributes:
        tables: by section and name; None for those that were not given.
        several: by section and name, where a flag gave more than one value, of which `tables` has the first.
    """

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    several: Mapping[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)

    def and_also(self, section: str, **settings: Any) -> "Flags":
        """With settings of a section that do not come from a flag of the same name."""
        return Flags({**self.tables, section: {**self.tables.get(section, {}), **settings}}, self.several)


class SectionFlags:
    """The flags that a section of settings declares.

    Args:
        section: its name.
        names: which settings; none for all that declare a flag.
    """

    def __init__(self, section: str, *names: str) -> None:
        self.section = section
        self.names = names

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """An option for each flag, named so that two sections do not collide."""
        return tuple(_option_of(self.section, name) for name in self._flagged())

    def build(self, given: Mapping[str, Any]) -> Flags:
        """What was given, as settings."""
        values, several = {}, {}
        for name in self._flagged():
            value = _as_setting(self.section, name, given[_option_name(self.section, name)])
            if value is not None and _flag(self.section, name).several:
                several[self.section, name] = value
                value = value[0]
            values[name] = value
        return Flags({self.section: values}, several)

    def _flagged(self) -> tuple[str, ...]:
        model = SECTIONS[self.section]
        return self.names or tuple(name for name in model.model_fields if model.facts_of(name).flag is not None)


def _option_name(section: str, name: str) -> str:
    return f"{section.replace('-', '_')}_{name}"


def _flag(section: str, name: str) -> Flag:
    flag = SECTIONS[section].facts_of(name).flag
    assert flag is not None, f"{section}.{name} has no flag"
    return flag


def _option_of(section: str, name: str) -> inspect.Parameter:
    """The option that gives a setting."""
    model, flag, kind = SECTIONS[section], _flag(section, name), _plain_kind(SECTIONS[section], name)
    spelling = str(model.flag_of(name))
    if kind is bool:
        spelling = f"{spelling}/--{flag.off or 'no-' + spelling.removeprefix('--')}"
    option = typer.Option(
        spelling,
        *([f"-{flag.short}"] if flag.short else []),
        metavar=flag.metavar or "|".join(_choices(model, name)) or None,
        help=help_of(model, name),
        autocompletion=_completer(model, name, flag),
    )
    typed = Path if flag.path else kind if kind in (bool, int, float) and not flag.several else str
    annotation = Annotated[typed | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(
        _option_name(section, name), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def help_of(model: type[Config], name: str) -> str:
    """The help of a setting: its description as a sentence, and when it has an effect."""
    text = without_marks(model.description_of(name))
    effect = model.effect_of(name)
    only = "" if not effect else f" N{effect[1:]}." if effect.startswith("no ") else f" Only {effect}."
    return f"{text[:1].upper()}{text[1:]}.{only}{_default_of(model, name)}"


def _default_of(model: type[Config], name: str) -> str:
    """The value of a setting in the default preset, and in those that set another; empty if the text has it."""
    without = model.model_fields[name].get_default(call_default_factory=True)
    section = next(one for one, found in SECTIONS.items() if found is model)
    values = {preset: tables.get(section, {}).get(name, without) for preset, tables in PRESETS.items()}
    default = values[DEFAULT_PRESET]
    others: dict[str, list[str]] = {}
    for preset, value in values.items():
        if value not in (default, None):
            others.setdefault(_in_help(value), []).append(preset)
    names = {value: "/".join(presets) for value, presets in others.items()}
    if [len(presets) for presets in others.values()] == [len(PRESETS) - 1]:
        names = dict.fromkeys(names, "other presets")
    by_preset = ", ".join(f"{presets} {value}" for value, presets in names.items())
    if default in (None, PydanticUndefined):
        return by_preset and f" Presets: {by_preset}."
    return f" Default: {_in_help(default)}{by_preset and f' ({by_preset})'}."


def _in_help(value: object) -> str:
    """As it is given to the flag; a switch is on or off."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(_in_help, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain_kind(model: type[Config], name: str) -> Any:
    """The type of a field, without None."""
    kind: Any = model.model_fields[name].annotation
    parts = [part for part in typing.get_args(kind) if part is not NoneType]
    return parts[0] if NoneType in typing.get_args(kind) else kind


def _choices(model: type[Config], name: str) -> Iterator[str]:
    kind = _plain_kind(model, name)
    return map(str, typing.get_args(kind) if typing.get_origin(kind) is Literal else ())


def _completer(model: type[Config], name: str, flag: Flag) -> completion.Complete | None:
    if flag.offers == "split":
        return completion.split
    offered = flag.offers if isinstance(flag.offers, tuple) else tuple(_choices(model, name))
    return completion.words(*offered) if offered else None


def _as_setting(section: str, name: str, value: Any) -> Any:
    """The value of a setting, as its section checks it, from that of its option."""
    model, flag = SECTIONS[section], _flag(section, name)
    if value is None:
        return None
    if flag.path in ("folder", "folder or name"):
        return str(value) if str(value) in (flag.offers or ()) else str(value.resolve())
    if flag.path == "file or artifact":
        return str(value.absolute() if names_file(str(value), Path()) else value)
    if flag.several:
        return whole_numbers(str(model.flag_of(name)), value)
    kind = _plain_kind(model, name)
    if typing.get_origin(kind) is tuple:
        return numbers(value) if _holds_numbers(kind) else words(value)
    return value


def _holds_numbers(kind: Any) -> bool:
    member = typing.get_args(kind)[0]
    return (typing.get_args(member)[0] if typing.get_origin(member) is Annotated else member) in (int, float)
