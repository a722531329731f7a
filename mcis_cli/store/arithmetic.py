"""The arithmetic of segments, which may change bits: equal for all segments of an artifact, or listed in it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcis_cli.errors import DamagedError, MissingError, UsageError
from mcis_cli.store import files
from mcis_cli.store.format import user_block
from mcis_cli.store.format.identity import canonical_json

Arithmetic = Mapping[str, str | int]
Noted = tuple[int | None, Arithmetic]  # number of a segment, None for those to be computed, and its arithmetic


def noted_in(paths: Iterable[Path]) -> dict[bytes, Noted]:
    """The different arithmetics of segments by their JSON, each with the number of the first. Damaged ones are left
    out."""
    found: dict[bytes, Noted] = {}
    for path in paths:
        with suppress(MissingError, DamagedError):
            with open(files.open_regular(path), "rb") as file:
                manifest = user_block.read_manifest(file.fileno(), path, "segment")
            note(found, int(path.stem[8:]), manifest)
    return found


def note(found: dict[bytes, Noted], number: int, manifest: Mapping[str, Any]) -> None:
    """Add the arithmetic in the manifest of a segment, unless another segment has the same or it is no arithmetic."""
    noted = manifest.get("arithmetic", {})
    with suppress(ValueError, UsageError):
        if isinstance(noted, dict):
            found.setdefault(canonical_json(noted), (number, noted))


def require_one(found: Mapping[bytes, Noted], planned: Arithmetic | None = None) -> None:
    """Refuse segments of different arithmetic, or of another one than the rest would have, if that is given.

    Raises:
        UsageError: no single run leads to such a result.
    """
    if planned is not None:
        found = {canonical_json(planned): (None, planned)} | dict(found)
    if len(found) < 2:
        return
    (one, with_one), (other, with_other) = sorted(found.values(), key=lambda noted: (noted[0] is None, noted[0]))[:2]
    rest = "the rest would be" if other is None else f"segment {other}"
    raise UsageError(
        f"segment {one} was computed with {_in_words(with_one)}, and {rest} with {_in_words(with_other)}, which may "
        "change bits; compute all with the same (OMP_NUM_THREADS=N), start again after `mcis gc --partial --delete`, "
        "or allow the mixture with --mixed of the command that seals it"
    )


def _in_words(arithmetic: Arithmetic) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(arithmetic.items())) or "something that is not noted"
