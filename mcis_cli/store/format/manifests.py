"""The facts that every manifest must have, whoever wrote it: checked before anything uses or prints them."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcis_cli.store import files
from mcis_cli.store.format.identity import MAX_INTEGER, STAGE

_HEX = re.compile(r"[0-9a-f]{64}")
_VERSIONS = range(1, 2**31)
_COUNTS = range(2**48)
_MAX_DEPTH = 32


def _is_recipe(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.keys() != {"version", "config", "inputs"}:
        return False
    version, config, inputs = value["version"], value["config"], value["inputs"]
    return (
        type(version) is int
        and version in _VERSIONS
        and isinstance(config, Mapping)
        and isinstance(inputs, Mapping)
        and all(isinstance(content_id, str) for content_id in inputs.values())
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, "64 hexadecimal digits"),
    "key": (_is_id, "64 hexadecimal digits"),
    "stage": (lambda value: isinstance(value, str) and STAGE.fullmatch(value) is not None, "the name of a stage"),
    "recipe": (_is_recipe, "version, config and inputs"),
    "meta": (_is_object, "a JSON object"),
    "provenance": (_is_object, "a JSON object"),
}


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Check what all manifests of artifacts have.

    Raises:
        DamagedError: something is missing or of another type, or a value is one that is never written.
    """
    if fault := _fault(manifest):
        raise files.damaged(path, f"its manifest has {fault}", "finite numbers and plain text")
    for name, (is_sound, expected) in _FIELDS.items():
        if not is_sound(manifest.get(name)):
            found = f"{str(manifest[name])[:64]!r} as its {name!r}" if name in manifest else f"no {name!r}"
            raise files.damaged(path, f"its manifest has {found}", expected)
    if manifest.get("schema") is not None:
        count = manifest.get("num_records")
        if type(count) is not int or count not in _COUNTS:
            raise files.damaged(path, "its manifest has no number of records", "'num_records'")


def _fault(manifest: Mapping[str, Any]) -> str | None:
    """Values that JSON allows and manifests do not: NaN, text that cannot be encoded, deep nesting."""
    level: list[Any] = [manifest]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, float) and not math.isfinite(value):
                return "a number that is not finite"
            elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
                return "a number that is huge"
            elif isinstance(value, str) and not _is_text(value):
                return "a text that cannot be written"
        level = below
    return "lists within lists" if level else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
