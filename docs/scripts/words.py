"""Looks for words that the project does not use, in the texts that people read; each has a plain word in its place.

`python docs/scripts/words.py FILE…` prints where they are. `CLEAN` lists the files that have none; add a page here once
it is rewritten.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What to look for, and what to write instead.
WORDS: Mapping[str, str] = {
    r"\b(tell|tells|told)\b": "print, report, show, warn",
    r"\bfound done\b": "cached",
    r"\bgo(es|ing)? on (from|with|where|to)\b": "resume, continue",
    r"\b(goes|stands|went) before\b": "takes precedence over, overrides",
    r"\b(what|that) is there\b": "existing",
    r"\b(sane|sound)\b": "valid",
    r"\bparted by\b": "separated by",
    r"\btaken for\b": "treated as",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(likeness|alike)\b": "similarity, similar",
    r"\b(the like|of its kind)\b": "name it",
    r"(?<!at )\b(greatest|least)\b": "maximum, minimum",
    r"\b(fellows|company)\b": "other processes",
    r"\b(asks for|wants)\b": "requires, takes",
    r"\ba look at\b": "reads, loads, checks",
}

CLEAN = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    "docs/tutorial/first-masks.md",
    "docs/how-to/curves.md",
    "docs/how-to/export.md",
    "docs/how-to/fuzz.md",
    "docs/how-to/gpu.md",
    "docs/how-to/import.md",
    "docs/how-to/lid20.md",
    "docs/how-to/no-internet.md",
    "docs/how-to/own-backbone.md",
    "docs/how-to/predict.md",
    "docs/how-to/report.md",
    "docs/how-to/saliency.md",
    "docs/how-to/second-round.md",
    "docs/how-to/several-processes.md",
    "docs/how-to/use-without-torch.md",
    "docs/how-to/voc.md",
    "docs/how-to/web-images.md",
    "docs/explanation/co-attention.md",
    "docs/explanation/how-it-fits-together.md",
    "docs/explanation/performance.md",
    "docs/reference/backbones.md",
    "docs/reference/cli.md",
    "docs/reference/paper-map.md",
    "docs/reference/python.md",
    "examples/README.md",
    "examples/own-photos/README.md",
    "examples/pipelines/README.md",
    "examples/slurm/README.md",
)


def found_in(path: Path) -> Iterator[tuple[int, str, str]]:
    """The lines of a file that have such words: number, the word, and what to write instead."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for pattern, instead in WORDS.items():
            for match in re.finditer(pattern, line, re.IGNORECASE):
                yield number, match[0], instead


def main(paths: list[Path]) -> int:
    """Print what was found; returns the exit code."""
    found = [(path, *fault) for path in paths for fault in found_in(path)]
    for path, number, word, instead in found:
        sys.stdout.write(f"{path}:{number}: {word!r}: write {instead}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [ROOT / name for name in CLEAN]))
