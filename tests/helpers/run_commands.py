"""Commands as a shell would run them: in a process of their own, or in a line of bash."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def environment(**given: str) -> dict[str, str]:
    """The variables that commands are run with."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MCIS_")}
    return {**inherited, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NO_COLOR": "1", **given}


def mcis(
    *arguments: str | Path, cwd: Path, piped: str | None = None, programs: Path | None = None, **variables: str
) -> Answer:
    """Run one command in a process of its own.

    Args:
        arguments: after `mcis`.
        cwd: the folder to run in.
        piped: what comes through a pipe on stdin; None for no pipe.
        programs: of the fixture `programs`: the process is forked, which saves its imports; None for a new one.
        variables: of the environment.
    """
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if piped is None else {"input": piped}
    program = [sys.executable, "-m", "mcis_cli"] if programs is None else [str(programs / "mcis")]
    return _finished([*program, *map(str, arguments)], cwd, variables, stdin)


def shell(script: str, *, cwd: Path, programs: Path | None = None, **variables: str) -> Answer:
    """Run a line of bash in which `mcis` is the command, with `pipefail`; `programs` as for `mcis`."""
    program = f'"{sys.executable}" -m mcis_cli' if programs is None else f'"{programs}/mcis"'
    command = f'set -o pipefail; mcis() {{ {program} "$@"; }}; {script}'
    return _finished(["bash", "-c", command], cwd, variables, {"stdin": subprocess.DEVNULL})


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
