"""Start and end of every command, with the answer to Ctrl-C and SIGTERM, also while modules are imported.

Finished work is safe whenever a command stops, so it may stop at once, with one line. The first signal raises an
exception, which removes bars and temporary files; later ones never raise another. A thread watches: if the exception
does not get through (a long step in C++, a callback that swallows it), or the signal is sent again, the process exits
at once. It also exits at once while torch is imported, because torch's C++ aborts at an exception.
"""

import os
import select
import shlex
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

# Slow imports come after the handlers of signals are set.

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 3.0  # seconds for the exception to get through
REPEATED = 0.3  # seconds after which a signal counts as sent again: some tools send it to process and group


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    _fill_closed_streams()
    stop = Stop(given)
    try:
        stop.listen()
        from mcis_cli.allocator import keep_freed_memory

        keep_freed_memory()
        from mcis_cli.cli.app import run

        code = run(given, lambda: bool(stop.number))
        stop.ignore()  # all work and output is done
    except (KeyboardInterrupt, Terminated):
        code = stop.explain(stop.number or signal.SIGINT)
        if not stop.number:
            stop.ignore()
        exec(
            ""
        )  # a KeyboardInterrupt that went through an exec of text, as dataclasses have, would kill Python at exit
    _give_up_on_stderr()
    sys.exit(code)


class Stop:
    """Answers the signals that ask a command to stop.

    Attributes:
        number: the signal that came first; 0 before.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.number = 0
        self._hint = _hint(arguments)
        self._print_unraisable = sys.unraisablehook
        self._unexplained = threading.Lock()

    def listen(self) -> None:
        """Raise KeyboardInterrupt at Ctrl-C, Terminated at SIGTERM; signals that the parent ignores stay ignored."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._raise)
        sys.unraisablehook = self._unraisable
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True, name="mcis-stop").start()

    def ignore(self) -> None:
        """Ignore all signals from now on."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.unraisablehook = self._print_unraisable
        writing = signal.set_wakeup_fd(-1)
        if writing >= 0:
            os.close(writing)

    def explain(self, number: int) -> int:
        """Print how to resume: once, and in a group of processes only the first; returns the exit code."""
        if self._unexplained.acquire(blocking=False) and os.environ.get("RANK", "0") == "0":
            line = f"mcis: stopped: {self._hint}\n".encode(sys.stderr.encoding or "utf-8", "backslashreplace")
            with suppress(OSError):
                os.write(2, line)
        return 128 + number

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number = number
            if _is_importing("torch"):
                self._leave(number)
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _unraisable(self, left: "sys.UnraisableHookArgs") -> None:
        """Print no trace of our exception if it comes where Python drops exceptions; the watching thread ends the
        process."""
        if not (self.number and issubclass(left.exc_type, KeyboardInterrupt | Terminated)):
            self._print_unraisable(left)

    def _watch(self, reading: int) -> None:
        """Read the numbers of signals as they come, and exit if stopping takes too long."""
        first, began = 0, 0.0
        while True:
            rest = max(0.0, began + PATIENCE - time.monotonic()) if first else None
            if not select.select([reading], [], [], rest)[0]:
                self._leave(first)
            number = os.read(reading, 1)
            if not number:
                break
            if number[0] in SIGNALS and not first:
                first, began = number[0], time.monotonic()
            elif number[0] in SIGNALS and time.monotonic() - began > REPEATED:
                self._leave(first)
        os.close(reading)

    def _leave(self, number: int) -> None:
        if os.isatty(2):
            os.write(2, b"\n\x1b[?25h")  # a bar hides the cursor
        os._exit(self.explain(number))


def _is_importing(name: str) -> bool:
    """Whether a module is being imported just now."""
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def _hint(arguments: list[str]) -> str:
    """How to resume: with the same command, spelled out."""
    command = shlex.join(["mcis", *arguments])
    plain = "".join(letter if letter.isprintable() else " " for letter in command)
    piped = "… | " if stat.S_ISFIFO(os.fstat(0).st_mode) else ""
    several = " by torchrun as before" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    return f"finished work is kept; to resume, run again{several}: {piped}{plain}"


def _give_up_on_stderr() -> None:
    """Drop unwritten stderr if nobody reads it or it is full: Python would try again and exit with 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _fill_closed_streams() -> None:
    """Replace a closed stdin, stdout or stderr by the null device; otherwise the next file that is opened gets its
    number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
