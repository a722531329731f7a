"""The pages, and what they show: blocks of shell, the commands in them, and what each is said to print."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")})
NO_COMMANDS = {"mcis artifact 1", "mcis content", "mcis store 1"}  # texts of the file format
OPERATORS = {"|", "||", "&&", ";", "&", "(", ")", ">", ">>", "<"}
BEFORE_A_COMMAND = {"do", "then", "!", "exec"}


@dataclass(frozen=True)
class Shown:
    """A command of a page.

    Attributes:
        line: as the page has it, a line that continues on the next one joined.
        printed: the lines below it in a block that shows a console.
    """

    line: str
    printed: tuple[str, ...] = ()


def names(paths: list[Path]) -> list[str]:
    """Paths in this project, to call tests by."""
    return [path.relative_to(ROOT).as_posix() for path in paths]


def fenced(page: Path, *kinds: str) -> list[str]:
    """The blocks of a page that are of these kinds."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{'|'.join(kinds)})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[list[Shown]]:
    """The commands of each block of shell of a page; of a console's, what stands behind the prompt."""
    return [list(_console(text) if text.startswith("$ ") else _script(text)) for text in fenced(page, "sh", "console")]


def _console(text: str) -> Iterator[Shown]:
    for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        line, *printed = part.splitlines()
        yield Shown(line, tuple(printed))


def _script(text: str) -> Iterator[Shown]:
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#.*", "", line)
        if command.strip() and not command.startswith("#"):
            yield Shown(re.sub(" +", " ", command.strip()))


def shown_commands(page: Path) -> Iterator[list[str]]:
    """The words of each `mcis …` and `make …` that a page shows, in blocks and in lines of text."""
    for line in [one.line for block in blocks(page) for one in block]:
        yield from commands_in(line)
    for line in re.findall(r"`((?:mcis|make) [^`\n]+)`", page.read_text(encoding="utf-8")):
        if line not in NO_COMMANDS:
            yield from commands_in(line)


def commands_in(line: str) -> Iterator[list[str]]:
    """The words of each `mcis …` and `make …` in a line of shell; a word stands for what a command in `$()` prints."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from commands_in(inner[1])
        line = line.replace(inner[0], "printed")
    for name, first in re.findall(r"for (\w+) in (\w+)", line):
        line = line.replace(f"${name}", first)
    line = re.sub(r"\[(--[^]]+)\]", r"\1", line.split(" #")[0])  # what may be left out
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in OPERATORS:
            words.append(word)
        elif words:
            yield from _plain(words)
            words = []


def _plain(words: list[str]) -> Iterator[list[str]]:
    """A command without its prefix: variables, a shell's words, torchrun."""
    while words and (words[0] in BEFORE_A_COMMAND or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    if words[:1] == ["torchrun"]:
        words = ["mcis", *words[words.index("mcis_cli") + 1 :]]
    if len(words) > 1 and words[0] in ("mcis", "make"):
        yield words
