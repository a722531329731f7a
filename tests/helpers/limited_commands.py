"""Commands in a process with little memory and time, which reports the files that it opened."""

import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fork_server import Forked
from run_commands import environment, programs

MEMORY = 2**30  # beyond what the imports take
CPU_SECONDS = 20  # a busy machine counts twice what an idle one does
SECONDS = 320  # a machine may be busy; whoever opens a pipe without a writer waits for ever


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, or minus the signal that ended it: of too much time, or of a crash.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        opened: the files that Python code opened, of those that were asked about.
        megabytes: memory, with that of the imports.
    """

    code: int
    out: str
    err: str
    opened: tuple[str, ...]
    megabytes: float


def run_limited(arguments: Sequence[str | Path], folder: Path, watched: Sequence[str] = ()) -> Ended:
    """Run `mcis ...` in a folder, where its streams go, too; `watched` are names of files not to be opened."""
    return _ended([str(one) for one in arguments], folder, {"watched": list(watched), "cpu_seconds": CPU_SECONDS})


def call_limited(function: Callable[..., None], *arguments: Any, folder: Path) -> Ended:
    """Call a function of a test module with arguments of JSON in such a process."""
    named = [inspect.getfile(function), function.__name__]
    limits = {"watched": [], "cpu_seconds": 3600}
    return _ended([json.dumps(one) for one in arguments], folder, limits, function=named)


def _ended(arguments: list[str], folder: Path, limits: dict[str, Any], **more: Any) -> Ended:
    command = Forked(programs(), arguments, folder, environment(), guard=limits, **more)
    code = command.wait(4 * 3600)
    out, err = ((folder / name).read_text(errors="replace") for name in ("out.txt", "err.txt"))
    return Ended(code, out, err, tuple((folder / "opened.txt").read_text().splitlines()), command.megabytes)


def guard(watched: Sequence[str], cpu_seconds: int) -> None:
    """Limit this process, and note each of its opens that is watched for."""
    noted = os.open("opened.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and os.path.basename(arguments[0]) in watched:
            os.write(noted, arguments[0].encode() + b"\n")

    sys.addaudithook(note)
    most = _status("VmData") + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS + 10 * cpu_seconds)


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
