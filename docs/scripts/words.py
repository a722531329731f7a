"""Looks for words that the project does not use, in all texts that people read; each has a plain word in its place.

`python docs/scripts/words.py` prints where they are; `python docs/scripts/words.py FILE…` looks at these files only.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What to look for, and what to write instead.
WORDS: Mapping[str, str] = {
    r"(?<!\.)(?<!def\s)(?<!class=\")\b(tell|tells|told)\b": "print, report, show, warn",
    r"\bfound done\b": "cached",
    r"\bgo(es|ing)? on (from|with|where|to)\b": "resume, continue",
    r"\b(goes|stands|went) before\b": "takes precedence over, overrides",
    r"\b(what|that) is there\b": "existing",
    r"\b(sane|sound)\b": "valid",
    r"\bparted by\b": "separated by",
    r"\btaken for\b": "treated as",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"(?<!-)\b(likeness|alike)\b": "similarity, similar",
    r"\b(the like|of its kind)\b": "name it",
    r"(?<!at\s)\b(greatest|least)\b": "maximum, minimum",
    r"\b(fellows|company)\b": "other processes",
    r"\b(asks for|wants)\b": "requires, takes",
    r"\ba look at\b": "reads, loads, checks",
}

# The texts: everything that people read, except the changelog, which is history, and the tests.
TEXTS = (
    "*.md",
    "*.toml",
    "docs/**/*.md",
    "docs/scripts/*.py",
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


def found_in(path: Path) -> Iterator[tuple[int, str, str]]:
    """Where a file has such words, also over the end of a line: the line, the word, and what to write instead."""
    text = path.read_text(encoding="utf-8")
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
