"""Looks for words that the project does not use, in all texts that people read; each has a plain word in its place.

`python docs/scripts/words.py` prints where they are; `python docs/scripts/words.py FILE…` looks at these files only.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What to look for, and what to write instead.
WORDS: Mapping[str, str] = {
    r"(?<!\.)(?<!def\s)(?<!class=\")\b(tell|tells|told)\b": "print, report, show, warn",
    r"\b(found|finds?( it)?) done\b": "cached",
    r"\bwhat (is|was) (done|told|asked)\b": "name it",
    r"\bgo(es|ing)? on (as|for|from|in|to|until|where|with)\b": "resume, continue",
    r"\b(goes|stands|went) before\b": "takes precedence over, overrides",
    r"\b(what|that) is there\b": "existing",
    r"\bwhere there (is|are)\b": "if",
    r"\b(sane|sound)\b": "valid",
    r"\bparted by\b": "separated by",
    r"\b(taken|takes? (it|them)) for\b": "treated as",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"(?<!-)\b(likeness|alike)\b": "similarity, similar",
    r"\b(the like|of its kind)\b": "name it",
    r"(?<!at\s)\b(greatest|least)\b": "maximum, minimum",
    r"\b(fellows|company)\b": "other processes",
    r"\b(ask(s|ed|ing)? for|wants)\b": "requires, takes, requested",
    r"\b(command|error|message|note|warning) says\b": "prints, reports, notes",
    r"\b(a|an|each|every|no|one|the|this|whole) pictures?\b": "image, figure",
    r"\ba look at\b": "reads, loads, checks",
}

# The texts: everything that people read, except the changelog, which is history. See `prose_of` for tests.
TEXTS = (
    "*.md",
    "*.toml",
    "docs/**/*.md",
    "docs/scripts/*.py",
    "tests/**/*.py",
    *(
        f"{folder}/**/*.{kind}"
        for folder in ("benchmarks", "examples", "fuzz", "mcis_cli")
        for kind in ("css", "j2", "js", "md", "py", "sh", "toml")
    ),
)
EXCEPTIONS = (
    "CHANGELOG.md",
    "docs/scripts/words.py",
)


def texts() -> Iterator[Path]:
    """The files to look at."""
    exceptions = {ROOT / name for name in EXCEPTIONS}
    found = {path for pattern in TEXTS for path in ROOT.glob(pattern)}
    yield from sorted(path for path in found - exceptions)


def prose_of(path: Path) -> str:
    """The text of a file; of a test only its comments and docstrings, each on its line."""
    text = path.read_text(encoding="utf-8")
    if not path.name.startswith("test_"):
        return text
    lines = [""] * (text.count("\n") + 2)
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT)
        if is_docstring or token.type == tokenize.COMMENT:
            for number, line in enumerate(token.string.split("\n"), start=token.start[0]):
                lines[number] += line
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    return "\n".join(lines[1:])


def found_in(path: Path) -> Iterator[tuple[int, str, str]]:
    """Where a file has such words, also over the end of a line: the line, the word, and what to write instead."""
    text = prose_of(path)
    for pattern, instead in WORDS.items():
        for match in re.finditer(pattern.replace(" ", r"\s+(?:# )?"), text, re.IGNORECASE):
            yield 1 + text.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def main(paths: list[Path]) -> int:
    """Print what was found; returns the exit code."""
    found = [(path, *fault) for path in paths for fault in found_in(path)]
    for path, number, word, instead in found:
        sys.stdout.write(f"{path}:{number}: {word!r}: write {instead}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or list(texts())))
