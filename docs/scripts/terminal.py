"""Writes docs/images/terminal.svg: what commands print in the folder of a demo that was run, as a terminal shows it.

Run it as `python docs/scripts/terminal.py FOLDER`. The commands have a terminal of their own, so colours are those that
people see; the folder's path is left out.
"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent.parent / "images" / "terminal.svg"
COMMANDS = ("mcis check shapes", "mcis status", "mcis eval", "mcis ls")
COLUMNS, LINES = 90, 50
# Rich has fonts fetched from elsewhere; any that is here will do.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main(folder: Path) -> None:
    """Run the commands, and draw what they print."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for command in COMMANDS:
        console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
        console.print(Text.from_ansi(printed(command, folder)))
    TARGET.write_text(console.export_svg(title="mcis", code_format=FORMAT, unique_id="mcis"), encoding="utf-8")


def printed(command: str, folder: Path) -> str:
    """What a command prints on a terminal, without orders to it but colours."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    words = [sys.executable, "-m", "mcis_cli", *command.split()[1:]]
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    with subprocess.Popen(words, cwd=folder, env=variables, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        text = b"".join(iter(lambda: read(ours), b"")).decode()
    os.close(ours)
    if process.returncode:
        sys.exit(f"{command}: exit code {process.returncode}\n{text}")
    last = re.sub(r"[^\n]*\r\x1b\[2K", "", text.replace("\r\n", "\n"))  # a bar draws its line again and again
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-ln-z]|\r", "", last).replace(f"{folder.resolve()}/", "")


def read(descriptor: int) -> bytes:
    """Some bytes of a terminal; none where all that wrote to it have left."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
