"""What a user does after damage: `mcis verify --repair`, then each command that it prints."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcis_cli.config import resolve
from mcis_cli.stages.plan.again import command_of
from mcis_cli.store import Store, open_store
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep.repair import known_recipes
from mcis_cli.store.upkeep.verification import verify


def commands_of(answer: Any) -> list[list[str]]:
    """The commands in the JSON of `mcis verify --repair`, as words after `mcis`; environment and program left out."""
    hints = [found["how"] for found in json.loads(answer.out)["findings"] if found["state"] != "repaired"]
    assert all("`" in hint for hint in hints), hints
    words = [shlex.split(hint.split("`")[1]) for hint in hints]
    return [line[line.index("mcis") + 1 :] for line in words]


def make_again(call: Callable[..., Any], folder: Path) -> list[list[str]]:
    """Repair the store in a folder, run the commands that are printed, and check that nothing is missing."""
    commands = commands_of(call("verify", "--repair", "--json", cwd=folder))
    for command in commands:
        answer = call(*command, cwd=folder)
        assert answer.code == 0, (command, answer.err)
    found = verify(open_store(folder / ".mcis")).findings
    assert found == [], (commands, found)
    return commands


def command_words(done: Done, store: Store) -> list[str]:
    """The words after `mcis` of the command that makes an artifact again."""
    known = {one.id: one for one in known_recipes(store)}
    words = shlex.split(command_of(done, known, store, lambda preset: resolve({}, preset)))
    return words[words.index("mcis") + 1 :]
