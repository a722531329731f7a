"""`mcis config` and `mcis env`: the settings in effect with their origin, and the devices and versions of this
machine."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.settings_file import toml
from mcis_cli.cli.session.workspace import open_workspace
from mcis_cli.cli.terminal.output import say
from mcis_cli.config import PRESETS, SECTIONS, Config, merge, parse_assignment, read_toml
from mcis_cli.errors import UsageError, plain

Origin = tuple[str, Mapping[str, Any]]


def config(
    action: Annotated[
        str,
        typer.Argument(metavar="ACTION", help="show, the only action.", autocompletion=completion.words("show")),
    ] = "show",
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION", help="data, train-cls, …; else all.", autocompletion=completion.words(*SECTIONS)
        ),
    ] = None,
    preset: opt.Preset = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    as_json: opt.AsJson = False,
) -> None:
    """Show each setting with its value and where that comes from.

    A value comes from the default, the preset, mcis.toml or --set.

    Example: mcis config show train-cls --preset quick
    """
    if action != "show":
        raise UsageError(f"mcis config {plain(action)!r:.80} is not known: expected show, as in `mcis config show`")
    if section not in (None, *SECTIONS):
        raise UsageError(f"section {section!r:.80} is not known: expected one of {', '.join(SECTIONS)}")
    workspace = open_workspace(
        store=None, config=config, preset=preset, assignments=assignments or (), may_create=False
    )
    named = workspace.preset()
    given: dict[str, Any] = {}
    for assignment in assignments or ():
        given = merge(given, parse_assignment(assignment))
    origins: list[Origin] = [("--set", given)]
    if workspace.config_file is not None:
        origins.append((str(workspace.config_file), read_toml(workspace.config_file)))
    origins.append((f"preset {named}", PRESETS[named]))
    settings = workspace.settings()
    shown: dict[str, dict[str, Any]] = {}
    for name in SECTIONS if section is None else (section,):
        for path, value in _values([name], getattr(settings, name.replace("-", "_"))):
            shown[".".join(path)] = {"value": value, "from": _origin(path, origins)}
    if as_json:
        say(json.dumps({"preset": named, "settings": shown}))
        return
    say(f"preset = {toml(named)}")
    for place, found in shown.items():
        line = f"{place} = {toml(found['value']) or '-'}"
        say(f"{line:<48}  {found['from']}")


def _values(path: list[str], section: Config) -> Iterator[tuple[list[str], Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Config):
            yield from _values([*path, name], value)
        else:
            yield [*path, name], value


def _origin(path: list[str], origins: list[Origin]) -> str:
    for name, tables in origins:
        found: Any = tables
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return name
    return "default"


def env(
    device: opt.Device = "auto",
    as_json: opt.AsJson = False,
) -> None:
    """Show versions, devices, and which device mcis uses and why.

    Example: mcis env
    """
    from mcis_cli.training.environment import environment

    found = environment(device)
    if as_json:
        say(json.dumps(found))
        return
    for heading, facts in found.items():
        say(heading)
        for name, value in facts.items():
            say(f"  {name:<12} {value}")
