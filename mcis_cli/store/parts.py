"""The files of unfinished work: names and checks of segments and checkpoints, lines of the log."""

import json
import os
import re
from pathlib import Path
from typing import Any

from mcis_cli.errors import DamagedError, MissingError, UsageError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format import user_block

_NAME = re.compile(r"segment-([0-9]{6})\.h5|checkpoint-([0-9]{12})\.ckpt")


def segment_name(index: int) -> str:
    """Name of the file of a segment."""
    return f"segment-{index:06d}.h5"


def checkpoint_name(step: int) -> str:
    """Name of the file of a checkpoint."""
    return f"checkpoint-{step:012d}.ckpt"


def part_named(path: Path) -> tuple[user_block.Kind, int] | None:
    """What a file's name states: a segment or checkpoint, and its index or step; None for other names."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    return ("segment", int(match[1])) if match[1] else ("checkpoint", int(match[2]))


def check_part(descriptor: int, path: Path, kind: user_block.Kind, key: str, number: int) -> dict[str, Any]:
    """Check the digest of a segment or checkpoint, and that it is the one that its name and folder state.

    Args:
        descriptor: the open file.
        path: its name, for the message.
        kind: what it should be.
        key: of the recipe, or its first digits.
        number: of the segment, or the checkpoint's step.

    Returns:
        Its manifest.

    Raises:
        DamagedError: it is not.
    """
    user_block.verify(descriptor, path, kind)
    manifest = user_block.read_manifest(descriptor, path, kind)
    found, where = str(manifest.get("key")), "index" if kind == "segment" else "step"
    if not found.startswith(key) or manifest.get(where) != number:
        raise files.damaged(path, f"it is {where} {manifest.get(where)} of {found[:12]}", f"{number} of {key[:12]}")
    return manifest


def intact_manifest(path: Path, kind: user_block.Kind, key: str, number: int) -> dict[str, Any] | None:
    """The manifest of a segment or checkpoint that exists and passes `check_part`; reads all of it."""
    try:
        descriptor = files.open_regular(path)
    except (MissingError, DamagedError):
        return None
    try:
        return check_part(descriptor, path, kind, key, number)
    except DamagedError:
        return None
    finally:
        os.close(descriptor)


def is_intact(path: Path, kind: user_block.Kind, key: str, number: int) -> bool:
    """Whether a segment or checkpoint exists and passes `check_part`; reads all of it."""
    return intact_manifest(path, kind, key, number) is not None


def check_readable(path: Path, kind: user_block.Kind) -> None:
    """Run the checks of a reader on a file before it gets a name, so that nothing unreadable is sealed.

    Raises:
        UsageError: it has more or longer entries than the format allows.
    """
    from mcis_cli.store.format.reader import Reader

    try:
        if kind == "artifact":
            Artifact(path).close()
        Reader(path, kind, is_new=True).close()
    except DamagedError as error:
        fault = str(error).removeprefix(f"{path} is damaged: ").removesuffix(f"; {files.REMEDY}")
        raise UsageError(f"what was computed cannot be sealed: {fault}; use fewer or smaller images") from error


def lines_until(log: bytes, step: int) -> bytes:
    """The lines of a metrics log of steps up to `step`, without torn ones."""
    return b"".join(line for line in log.splitlines(keepends=True) if _is_before(line, step))


def _is_before(line: bytes, step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and not entry.get("step", 0) > step
