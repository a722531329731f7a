"""Commands as a shell would run them: in a process of their own, or in a line of bash; forked ones, or real ones."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fork_server import listening


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


# What whoever runs the tests may have set, and no command shall depend on.
OF_THE_CALLER = ("MCIS_", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
READ_AT_START = ("LC_ALL", "PYTHONUTF8", "PYTHONCOERCECLOCALE")  # by Python, of a forked command's server


def environment(**given: str) -> dict[str, str]:
    """The variables that commands are run with."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_CALLER)}
    return {**inherited, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NO_COLOR": "1", **given}


@cache
def programs(**at_start: str) -> Path:
    """A folder of programs for the path of a shell: `mcis` is forked by a server, which saves seconds of imports.

    Args:
        at_start: what is set where Python starts, of `READ_AT_START`.
    """
    return listening(environment(**at_start))


def mcis(*arguments: str | Path, cwd: Path, piped: str | None = None, real: bool = False, **variables: str) -> Answer:
    """Run one command in a process of its own.

    Args:
        arguments: after `mcis`.
        cwd: the folder to run in.
        piped: what comes through a pipe on stdin; None for no pipe.
        real: a new process that imports all it needs, which takes seconds, and not a forked one.
        variables: of the environment.
    """
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if piped is None else {"input": piped}
    return _finished([*_program(real, variables), *map(str, arguments)], cwd, variables, stdin)


def shell(script: str, *, cwd: Path, real: bool = False, **variables: str) -> Answer:
    """Run a line of bash in which `mcis` is the command, with `pipefail`; `real` as for `mcis`."""
    command = f'set -o pipefail; mcis() {{ {shlex.join(_program(real, variables))} "$@"; }}; {script}'
    return _finished(["bash", "-c", command], cwd, variables, {"stdin": subprocess.DEVNULL})


def _program(real: bool, variables: Mapping[str, str]) -> list[str]:
    at_start = {name: value for name, value in variables.items() if name in READ_AT_START}
    return [sys.executable, "-m", "mcis_cli"] if real else [str(programs(**at_start) / "mcis")]


def python(script: str, *arguments: str, cwd: Path, **variables: str) -> Answer:
    """Run a script of Python in a process of its own."""
    return _finished([sys.executable, "-c", script, *arguments], cwd, variables, {"stdin": subprocess.DEVNULL})


def _finished(command: Sequence[str], cwd: Path, variables: Mapping[str, str], stdin: dict[str, Any]) -> Answer:
    done = subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=900, **stdin
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def imported_modules(*arguments: str | Path, cwd: Path) -> tuple[int, str, set[str]]:
    """Exit code and stdout of a command, and the modules that it has imported when it ends."""
    script = (
        "import sys, atexit; from mcis_cli.cli.start import main\n"
        "atexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n"
        f"main({list(map(str, arguments))!r})"
    )
    answer = python(script, cwd=cwd)
    line = next(line for line in answer.err.splitlines() if line.startswith("MODULES"))
    return answer.code, answer.out, set(line.split())
