"""Commands on a pseudo-terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

from run_commands import environment


def on_terminal(*arguments: str, columns: int, cwd: Path) -> tuple[int, str]:
    """Exit code and output of Python, with stdin, stdout and stderr on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {**environment(TERM="xterm-256color"), "NO_COLOR": ""}
    for name in ("COLUMNS", "LINES"):  # which would stand for the size of the terminal
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd
    )
    os.close(theirs)
    output = b""
    while True:
        if select.select([ours], [], [], 120)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            output += piece
    os.close(ours)
    return process.wait(120), output.decode()
