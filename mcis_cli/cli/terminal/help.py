"""`mcis --help`: the commands in groups, each with its whole description; and spellings that have changed."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

GROUPS: Mapping[str, Sequence[str]] = {
    "Start": ("demo", "check", "init", "run", "status"),
    "Pipeline": ("train-cls", "cams", "affinity", "pseudo", "train-seg", "eval", "predict", "saliency", "ablate"),
    "Look": ("ls", "show", "log", "report", "config", "env"),
    "Share": ("export", "import", "coco-masks", "merge"),
    "Store": ("name", "verify", "gc"),
}
ORDER = [name for names in GROUPS.values() for name in names]
MAX_SUMMARY = 65  # characters of a description, so that a line has 80

# What was called otherwise, as it is typed, and what it is called.
RENAMED: Mapping[str, str] = {
    "mcis tag": "name",
    "mcis report --out": "--output",
    "mcis train-seg --network": "--architecture",
}


class GroupedCommands(TyperGroup):
    """The commands in groups; the first line of a command's docstring describes it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups into the help."""
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary_of(self.commands[name].callback)) for name in names])


def summary_of(call: Any) -> str:
    """The description of a command, as its docstring begins, without the full stop."""
    return inspect.cleandoc(call.__doc__).partition("\n")[0].rstrip(".")


def renamed(command: str, message: str) -> str | None:
    """What to type instead of a command or an option that the parser does not know; None if it never existed.

    Args:
        command: as far as it was understood: `mcis`, or `mcis report`.
        message: the parser's.
    """
    for old, new in RENAMED.items():
        before, _, word = old.rpartition(" ")
        unknown = f"No such option: {word} ", f"No such command '{word}' "
        if before == command and f"{message} ".startswith(unknown):
            return f"{word} is now called {new}"
    return None
