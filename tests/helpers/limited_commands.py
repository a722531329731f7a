"""Commands in a process that may not use much memory or time, and that tells which files it opened.

A server, which is this file run as a script, has imported what the stages import, and forks a child for each command.
"""

import gc
import importlib
import inspect
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fork_server import become, preload

MEMORY = 2**30  # beyond what the imports take
CPU_SECONDS = 5
SECONDS = 120  # a machine may be busy; whoever opens a pipe without a writer waits for ever


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


class Guard:
    """The server. Use it as a context."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()

    def run(self, arguments: Sequence[str | Path], folder: Path, watched: Sequence[str] = ()) -> Ended:
        """Run `mcis ...` in a folder, where its streams go, too; `watched` are names of files not to be opened."""
        return self._ask(
            {"arguments": [str(one) for one in arguments], "folder": str(folder), "watched": list(watched)}
        )

    def call(self, function: Callable[..., None], *arguments: Any, folder: Path) -> Ended:
        """Call a function of a test module with arguments of JSON in a child."""
        named = [inspect.getfile(function), function.__name__]
        return self._ask({"function": named, "arguments": list(arguments), "folder": str(folder), "watched": []})

    def _ask(self, request: Mapping[str, Any]) -> Ended:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(request | {"limit": None}).encode() + b"\n")
        stdin.flush()
        facts = json.loads(self._answer())
        folder = Path(request["folder"])
        return Ended(
            facts["code"],
            (folder / "out.txt").read_text(errors="replace"),
            (folder / "err.txt").read_text(errors="replace"),
            tuple((folder / "opened.txt").read_text().splitlines()),
            facts["megabytes"],
        )

    def _answer(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], 4 * 3600)[0], "the server says nothing"
        line = stdout.readline().decode()
        assert line, "the server is gone"
        return line

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _guard(watched: Sequence[str], seconds: int) -> None:
    """Limit this process, and note each of its opens that is watched for."""
    noted = os.open("opened.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and os.path.basename(arguments[0]) in watched:
            os.write(noted, arguments[0].encode() + b"\n")

    sys.addaudithook(note)
    most = _status("VmData") + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS + 20 * seconds)


def serve() -> Callable[[], Any] | None:
    """Answer requests until stdin ends. Returns in a child as well, with what it is to do."""
    preload()
    gc.collect()
    gc.freeze()  # else a child copies all memory when it ends
    os.write(1, b"ready\n")
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            arguments = become(request)
            _guard(request["watched"], 3600 if "function" in request else CPU_SECONDS)
            return _work(request.get("function"), arguments)
        _, status, usage = os.wait4(pid, 0)
        facts = {
            "code": os.waitstatus_to_exitcode(status),
            "megabytes": usage.ru_maxrss / 2**10,
        }
        os.write(1, json.dumps(facts).encode() + b"\n")
    return None


def _work(function: Sequence[str] | None, arguments: list[Any]) -> Callable[[], Any]:
    if function is None:
        from mcis_cli.cli.start import main

        sys.argv = ["mcis", *arguments]
        return main
    path, name = function
    sys.path.insert(0, os.path.dirname(path))
    found = getattr(importlib.import_module(Path(path).stem), name)
    return lambda: found(*arguments)


if __name__ == "__main__":
    work = serve()
    status = 0
    try:
        if work is not None:
            work()
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # an ordinary end takes a second, most of it torch's
