"""From declarations to the options of a command.

A command is a function whose parameters are arguments and options, as Typer reads them, or groups of these: a
dataclass whose fields are options, or the flags that a section declares on its fields. `spelled_out` spells the groups
out for Typer, completion and the reference, and hands the function each group as one value.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

Given = Mapping[str, Any]


@runtime_checkable
class Group(Protocol):
    """Options that a command takes as one value."""

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The options."""

    def build(self, given: Given) -> Any:
        """The value that the command gets, from the values of the options by name."""


@dataclass(frozen=True)
class OptionsOf:
    """A group of options that a dataclass declares; its fields may be groups themselves."""

    kind: type[Any]

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The options."""
        return tuple(one for part in fields(self.kind) for one in _parameters_of(_as_parameter(part)))

    def build(self, given: Given) -> Any:
        """An instance of the dataclass."""
        return self.kind(**_grouped(given, [_as_parameter(part) for part in fields(self.kind)]))


def spelled_out(function: Callable[..., None]) -> Callable[..., None]:
    """The function with its groups of options spelled out, each an option of its own."""
    declared = list(inspect.signature(function).parameters.values())

    def command(**given: Any) -> None:
        function(**_grouped(given, declared))

    parameters = [one for parameter in declared for one in _parameters_of(parameter)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def _parameters_of(parameter: inspect.Parameter) -> tuple[inspect.Parameter, ...]:
    group = _group_of(parameter)
    return (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY),) if group is None else group.parameters


def _grouped(given: Given, declared: list[inspect.Parameter]) -> dict[str, Any]:
    """The value of each declared parameter: its own, or that of its group."""
    groups = {parameter.name: _group_of(parameter) for parameter in declared}
    return {name: given[name] if group is None else group.build(given) for name, group in groups.items()}


def _group_of(parameter: inspect.Parameter) -> Group | None:
    kind = parameter.annotation
    if typing.get_origin(kind) is Annotated:
        return next((part for part in typing.get_args(kind) if isinstance(part, Group)), None)
    return OptionsOf(kind) if is_dataclass(kind) and isinstance(kind, type) else None


def _as_parameter(part: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if part.default is MISSING else part.default
    return inspect.Parameter(part.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=part.type)
