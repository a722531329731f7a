"""Commands in processes that can be killed: real ones, and ones whose imports are done.

`python -m mcis_cli` takes seconds to import torch, and there are hundreds of commands to kill. So a server, which is
this file run as a script, imports what the stages import, and forks a child for each command. The child is in a session
of its own, has the signals that a new process has, and calls `main` as the real command does. What it skips is the
imports, and taking them down at the end, which takes longer than most commands; some commands of each test are real.

A server that was given the name of a socket forks for whoever calls there, which `fork_client.py` does: so a script of
a shell has its `mcis`, in pipes as well.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

Limit = int | None


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

    def left_behind(self, seconds: float = 5.0) -> bool:
        """Whether a process of its group is still there after some seconds."""
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
    """The same, forked by a server."""

    def __init__(self, arguments: list[str], pid: int, server: "Server", folder: Path) -> None:
        self._server = server
        super().__init__(arguments, pid, folder / "out.txt", folder / "err.txt")

    def _ended(self, seconds: float) -> int:
        return os.waitstatus_to_exitcode(int(self._server.answer(seconds)))


class Server:
    """Forks commands, one at a time. Use it as a context."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.answer(300)  # it is ready
        except BaseException:
            self.__exit__()
            raise

    def run(self, arguments: list[str], folder: Path, limit: Limit = None) -> Forked:
        """Run a command in `folder`, where its streams go too; `limit` is on the size of files, in bytes.

        The files of its streams are there before it is, as with a shell: a signal may come before it does anything.
        """
        for name in ("out.txt", "err.txt"):
            (folder / name).touch()
        request = {"arguments": arguments, "folder": str(folder), "limit": limit}
        self._stream(self._process.stdin).write(json.dumps(request).encode() + b"\n")
        self._stream(self._process.stdin).flush()
        return Forked(arguments, int(self.answer(60)), self, folder)

    def answer(self, seconds: float) -> str:
        """The next line that the server writes.

        Raises:
            TimeoutError: there is none in time.
        """
        stdout = self._stream(self._process.stdout)
        if not select.select([stdout], [], [], seconds)[0]:
            raise TimeoutError
        line = stdout.readline().decode().strip()
        assert line, "the server is gone"
        return line

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._stream(self._process.stdin).close()


@contextmanager
def listening(folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder of programs `mcis` and `python`, to be the first on the path of a script, while the server listens."""
    programs = folder / "bin"
    programs.mkdir()
    # The name of a socket has 107 bytes at the most: it cannot lie under a folder that may be deep.
    short = Path(tempfile.mkdtemp(prefix="mcis-", dir="/tmp" if os.path.isdir("/tmp") else None))
    line = short / "line"
    caller = f'"{sys.executable}" -S -E "{Path(__file__).with_name("fork_client.py")}" "{line}"'
    for name, program in (("mcis", caller), ("python", f'"{sys.executable}"')):
        (programs / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (programs / name).chmod(0o755)
    command = [sys.executable, __file__, str(line)]
    with subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline(), "the server is gone"  # it is ready
            yield programs
        finally:
            server.terminate()
            shutil.rmtree(short)


def limit_files(limit: Limit) -> None:
    """Let no file grow over `limit` bytes: a write beyond that fails, and no signal comes of it."""
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def preload() -> None:
    """Import what any stage imports; compute nothing."""
    import filelock  # noqa: F401
    import torch._dynamo  # noqa: F401

    from mcis_cli import stages
    from mcis_cli.cli import app  # noqa: F401
    from mcis_cli.store.format import container, reader  # noqa: F401

    for found in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}."):
        importlib.import_module(found.name)


def answer(what: int | str) -> None:
    """Write a line to stdout."""
    os.write(1, f"{what}\n".encode())


def serve() -> list[str] | None:
    """Answer requests until stdin ends. Returns in a child as well, with the arguments of its command."""
    preload()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked safely"
    gc.collect()
    gc.freeze()  # else a child copies all memory when it collects
    answer("ready")
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return become(request)
        answer(pid)
        _, status = os.waitpid(pid, 0)
        answer(status)
    return None


def become(request: Mapping[str, Any]) -> list[str]:
    """Make of a forked child what a shell would have started; returns the arguments of its command."""
    os.setsid()
    os.chdir(request["folder"])
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (name, flags) in enumerate(((os.devnull, os.O_RDONLY), ("out.txt", new), ("err.txt", new))):
        descriptor = os.open(name, flags, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    limit_files(request["limit"])
    return list(request["arguments"])


def listen(path: str) -> NoReturn:
    """Answer calls at a socket, several at a time, until it is told to stop."""
    preload()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(path)
        line.listen()
        answer("ready")
        while True:
            call, _ = line.accept()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                line.close()
                run_called(call)
            call.close()


def run_called(call: socket.socket) -> NoReturn:
    """Run the command of a call in a child, tell the caller how it ended, and leave."""
    _, streams, _, _ = socket.recv_fds(call, 1, 3)
    request = json.loads(call.makefile().readline())
    pid = os.fork()
    if pid:
        for stream in (0, 1, 2, *streams):  # a pipe ends with the command
            os.close(stream)
        _, status = os.waitpid(pid, 0)
        call.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    call.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    leave_quickly(request["arguments"])


def leave_quickly(arguments: list[str]) -> NoReturn:
    """Run a command; leave without taking down, module by module, what was imported, which takes a second."""
    from mcis_cli.cli.start import main

    sys.argv = ["mcis", *arguments]
    try:
        main(arguments)
    except SystemExit as left:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(left.code or 0))
    raise AssertionError("a command leaves")


if __name__ == "__main__":
    if sys.argv[1:]:
        listen(sys.argv[1])
    arguments = serve()
    if arguments is not None:
        leave_quickly(arguments)
