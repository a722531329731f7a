"""Commands in processes that can be killed: real ones, and ones whose imports are done.

`python -m mcis_cli` takes seconds to import torch, and there are hundreds of commands to run. So a server, which is
this file run as a script, imports what the stages import, and forks a child for each call at its socket. The child has
the streams, the folder, the variables and the signals that a new process has, and calls `main` as the real command
does. What it skips is the imports, and taking them down at the end, which takes longer than most commands; some
commands of each test are real. A script of a shell calls by `fork_client.py`, and so has its `mcis`, in pipes as well.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

Limit = int | None
LINE = "line"  # the name of the socket
LISTENING: list[subprocess.Popen[bytes]] = []  # servers, each until this process ends


class Command:
    """One command that runs, in a session of its own; its streams go to files.

    Attributes:
        arguments: of the command.
        pid: of the process, and of its group.
    """

    def __init__(self, arguments: list[str], pid: int, out: Path, err: Path) -> None:
        self.arguments = arguments
        self.pid = pid
        self.code: int | None = None
        self._files = out, err
        self._descriptor = os.pidfd_open(pid)  # so that a signal never hits another process

    def send(self, number: int) -> None:
        """Send a signal to the process; one that has ended does not mind."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def send_to_group(self, number: int) -> None:
        """Send a signal to the process and its children, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, seconds: float = 300.0) -> int:
        """Wait for the end; the exit code, or minus the signal that ended it.

        Raises:
            TimeoutError: it did not end in time.
        """
        if self.code is None:
            self.code = self._ended(seconds)
            os.close(self._descriptor)
        return self.code

    def _ended(self, seconds: float) -> int:
        raise NotImplementedError

    @property
    def out(self) -> str:
        """What it wrote to stdout."""
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        """What it wrote to stderr."""
        return self._files[1].read_text()

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.code is not None or bool(select.select([self._descriptor], [], [], 0)[0])

    def children(self) -> int:
        """How many processes its group has besides it."""
        found = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                found += int(stat.read_text().rpartition(")")[2].split()[2]) == self.pid
        return found - 1

    def has_loaded(self, library: str) -> bool:
        """Whether it has a library in its memory."""
        with suppress(OSError):
            return library in Path(f"/proc/{self.pid}/maps").read_text()
        return False

    def left_behind(self, seconds: float = 60.0) -> bool:
        """Whether a process of its group is still there after some seconds, of a machine that may be busy."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.01)
        return True


class Real(Command):
    """`python -m mcis_cli ...`."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str], limit: Limit = None) -> None:
        out, err = folder / "out.txt", folder / "err.txt"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mcis_cli", *arguments],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=lambda: limit_files(limit),
            )
        super().__init__(arguments, self._process.pid, out, err)

    def _ended(self, seconds: float) -> int:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error


class Forked(Command):
    """The same, forked by a server; `more` is what else `_run_called` knows."""

    def __init__(
        self, server: Path, arguments: list[str], folder: Path, environment: Mapping[str, str], **more: Any
    ) -> None:
        files = folder / "out.txt", folder / "err.txt"
        request = {
            "arguments": [_of_bytes(one) for one in arguments],
            "folder": _of_bytes(folder),
            "closed": [],
            **more,
        }
        request["environment"] = {_of_bytes(name): _of_bytes(value) for name, value in environment.items()}
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(server / LINE))
        # The files are there before the command is, as with a shell: a signal may come before it does anything.
        with open(os.devnull) as stdin, files[0].open("wb") as out, files[1].open("wb") as err:
            socket.send_fds(self._line, [b"."], [one.fileno() for one in (stdin, out, err)])
        self._line.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._line.makefile()
        self.megabytes = 0.0
        super().__init__(arguments, int(self._answers.readline()), *files)
        self._line.sendall(b".")  # the process is held: it may vanish

    def _ended(self, seconds: float) -> int:
        if not select.select([self._line], [], [], seconds)[0]:
            raise TimeoutError
        with self._line, self._answers:
            code, kilobytes = self._answers.readline().split()
        self.megabytes = int(kilobytes) / 2**10
        return int(code)


def _of_bytes(text: str | Path) -> str:
    """Text that any locale has, of what may have another one: as `fork_client.py` sends it."""
    return os.fsencode(text).decode("latin-1")


def listening(environment: Mapping[str, str]) -> Path:
    """A folder of programs `mcis` and `python`, to be the first on the path of a script; a server listens for them.

    It leaves, and removes the folder, when this process has ended.
    """
    # The name of a socket has 107 bytes at the most: it cannot lie under a folder that may be deep.
    folder = Path(tempfile.mkdtemp(prefix="mcis-", dir="/tmp" if os.path.isdir("/tmp") else None))
    caller = f'"{sys.executable}" -S -E "{Path(__file__).with_name("fork_client.py")}" "{folder}/{LINE}"'
    for name, program in (("mcis", caller), ("python", f'"{sys.executable}"')):
        (folder / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (folder / name).chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, folder],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    LISTENING.append(server)
    assert server.stdout is not None
    assert server.stdout.readline(), "the server is gone"  # it is ready
    return folder


def limit_files(limit: Limit) -> None:
    """Let no file grow over `limit` bytes: a write beyond that fails, and no signal comes of it."""
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def preload() -> None:
    """Import what any stage imports; compute nothing."""
    import torch._dynamo  # noqa: F401

    from mcis_cli import stages
    from mcis_cli.cli import app  # noqa: F401
    from mcis_cli.store.format import container, reader  # noqa: F401

    for found in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}."):
        importlib.import_module(found.name)


def answer(what: int | str) -> None:
    """Write a line to stdout."""
    os.write(1, f"{what}\n".encode())


def listen(folder: str) -> NoReturn:
    """Answer calls at a socket, several at a time, until stdin ends."""
    preload()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked safely"
    gc.collect()
    gc.freeze()  # else a child copies all memory when it collects
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(f"{folder}/{LINE}")
        line.listen()
        answer("ready")
        while line in select.select([line, sys.stdin], [], [])[0]:
            call, _ = line.accept()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                line.close()
                _run_called(call)
            call.close()
    shutil.rmtree(folder)
    os._exit(0)


def _run_called(call: socket.socket) -> NoReturn:
    """Run a command in a child; send the caller its process, and then how it ended and its memory; and leave.

    The request has `arguments`, `folder` and `environment` of the command, and the numbers of the streams that are
    `closed`. It may have the `limit` of `limit_files`; `alone`, for a session of its own; `guard`, what
    `limited_commands.guard` is given; and `function`, a file of Python and the name of what is called there instead.
    """
    _, streams, _, _ = socket.recv_fds(call, 1, 3)
    request = json.loads(call.makefile().readline())
    pid = os.fork()
    if pid:
        for stream in (0, 1, 2, *streams):  # a pipe ends with the command
            os.close(stream)
        with suppress(ConnectionError):  # the caller was killed
            call.sendall(f"{pid}\n".encode())
            call.recv(1)  # the caller has taken hold of it
        _, status, usage = os.wait4(pid, 0)
        with suppress(ConnectionError):
            call.sendall(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n".encode())
        os._exit(0)
    call.close()
    if request.get("alone"):
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (_reopened(number, number in request["closed"]) for number in range(3))
    os.environ.clear()
    os.environb.update(
        {name.encode("latin-1"): value.encode("latin-1") for name, value in request["environment"].items()}
    )
    os.chdir(request["folder"].encode("latin-1"))
    arguments = [os.fsdecode(one.encode("latin-1")) for one in request["arguments"]]
    limit_files(request.get("limit"))
    if "guard" in request:
        from limited_commands import guard

        guard(**request["guard"])
    leave_quickly(lambda: _work(arguments, request.get("function")))


def _reopened(number: int, is_closed: bool) -> Any:
    """A stream as Python opens it in this environment, or none where the caller has closed it."""
    if is_closed:
        return os.close(number)
    own = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    assert own is not None
    mode, by_line = ("w" if number else "r"), (1 if number == 2 else -1)
    return os.fdopen(number, mode, by_line, encoding=own.encoding, errors=own.errors, closefd=False)


def _work(arguments: list[str], function: list[str] | None) -> None:
    if function is None:
        from mcis_cli.cli.start import main

        sys.argv = ["mcis", *arguments]
        return main(arguments)
    path, name = function
    sys.path.insert(0, os.path.dirname(path))
    getattr(importlib.import_module(Path(path).stem), name)(*map(json.loads, arguments))
    return None


def leave_quickly(work: Callable[[], None]) -> NoReturn:
    """Do what there is to do; leave without taking down, module by module, what was imported, which takes a second."""
    status = 0
    try:
        work()
    except SystemExit as left:
        status = int(left.code or 0)
    except KeyboardInterrupt:  # before the command listens: Python answers, as where a real one imports
        raise
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    listen(sys.argv[1])
