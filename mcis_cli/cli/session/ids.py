"""Lists of image ids that a command takes: lines of a file or of stdin, as `mcis review` prints them."""

import json
import sys
from pathlib import Path

from mcis_cli.errors import UsageError


def read_ids(path: Path, flag: str) -> list[str]:
    """The ids of a list, each once, in their order.

    A line is an id, or an id and a tab before anything else, or a JSON object with `id`. Empty lines do not count.

    Args:
        path: the file; `-` for stdin.
        flag: how messages call it.

    Raises:
        UsageError: the file cannot be read, a line is not understood, or there is no id.
    """
    try:
        text = sys.stdin.read() if path == Path("-") else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {path} cannot be read ({error!s:.80}): expected a text file of image ids") from None
    found = [_id_of(line, flag, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not found:
        raise UsageError(f"{flag} {path} is empty: expected image ids, one a line; `mcis review` prints them")
    return list(dict.fromkeys(found))


def _id_of(line: str, flag: str, number: int) -> str:
    if not line.lstrip().startswith("{"):
        return line.partition("\t")[0].strip()
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError):
        raise UsageError(
            f"{flag}: line {number} is {line[:60]!r}: expected an image id, or a JSON object with 'id'"
        ) from None
