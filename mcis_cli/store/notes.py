"""Notes: small JSON files with a checksum. They record what a recipe came to, what a name stands for, where images are.

A note has, beside its entries, the SHA-256 of their canonical JSON, and is written in canonical JSON itself, so that a
changed byte is detected. A damaged note must not look like an absent one, since notes protect artifacts from removal:
`read` raises for the one and returns None for the other.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcis_cli.errors import MissingError, UsageError
from mcis_cli.store import files
from mcis_cli.store.artifact import file_name
from mcis_cli.store.format.identity import Recipe, canonical_json
from mcis_cli.store.workplace import RECIPE

T = TypeVar("T")
MAX_BYTES = 2**23  # an artifact's manifest, which has the same parts, is at most 4 MiB
_DIGEST = "sha256"
_ID = re.compile(r"[0-9a-f]{64}")


def spell(entries: Mapping[str, Any]) -> bytes:
    """A note as bytes."""
    assert _DIGEST not in entries, "that is added here"
    digest = hashlib.sha256(canonical_json(entries)).hexdigest()
    return canonical_json({**entries, _DIGEST: digest})


def parse(data: bytes) -> dict[str, Any] | None:
    """The entries of a note; None if `spell` did not make these bytes."""
    try:
        entries = json.loads(data)
        if not isinstance(entries, dict) or _DIGEST not in entries:
            return None
        del entries[_DIGEST]
        return entries if spell(entries) == data else None
    except (ValueError, TypeError, RecursionError, UsageError):
        return None


def parse_reference(data: bytes) -> str | None:
    """The content id that a name stands for; None where the note is damaged."""
    content_id = (parse(data) or {}).get("id")
    return content_id if isinstance(content_id, str) and _ID.fullmatch(content_id) else None


def read(path: Path, parse_note: Callable[[bytes], T | None]) -> T | None:
    """The content of a note's file; None if there is no file.

    Raises:
        DamagedError: it is another note, not a regular file, or in a folder that is a link.
        StorageError: it cannot be read.
    """
    if path.parent.is_symlink():
        raise files.damaged(path, "its folder is a link", "a folder of the store itself")
    try:
        found = parse_note(files.read_regular(path, MAX_BYTES))
    except MissingError:
        return None
    if found is None:
        raise files.damaged(path, "its bytes are not those of a note", "one with its digest")
    return found


@dataclass(frozen=True)
class Done:
    """A recipe that is done: its artifact, and all that is needed to make it again.

    Attributes:
        recipe: the recipe.
        id: content id of the artifact.
        meta: that of the artifact; if the recipe runs again, the new artifact gets the same.
        provenance: how it was made: device, threads, workers, preset.
    """

    recipe: Recipe
    id: str
    meta: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def file_name(self) -> str:
        """Name of the artifact's file in the store."""
        return file_name(self.recipe.stage, self.id)

    def spell(self) -> bytes:
        """The note as bytes."""
        parts = {"id": self.id, "recipe": self.recipe.as_dict(), "meta": self.meta, "provenance": self.provenance}
        return spell(parts)


def parse_done(data: bytes, stage: str, key: str) -> Done | None:
    """The note `keys/<stage>/<key>.json`; None if it is damaged or belongs to another recipe."""
    entries = parse(data) or {}
    recipe = parse_recipe(entries.get("recipe"))
    if recipe is None or (recipe.stage, recipe.key) != (stage, key):
        return None
    match entries:
        case {"id": str(content_id), "meta": dict(meta), "provenance": dict(provenance)}:
            return Done(recipe, content_id, meta, provenance) if _ID.fullmatch(content_id) else None
    return None


def parse_recipe(parts: Any) -> Recipe | None:
    """A recipe from the result of `Recipe.as_dict`; None for anything else."""
    match parts:
        case {"stage": str(stage), "version": int(version), "config": dict(config), "inputs": dict(inputs), **others}:
            if others or not all(isinstance(digest, str) for digest in inputs.values()):
                return None
            try:
                return Recipe(stage, version, config, inputs)
            except ValueError:
                return None
    return None


def read_done(path: Path) -> Done | None:
    """The note in a file of `keys/`; None if there is none.

    Raises:
        DamagedError: it is another note, or that of another recipe.
    """
    return read(path, lambda data: parse_done(data, path.parent.name, path.stem))


def read_recipe(folder: Path) -> Recipe | None:
    """The recipe that a folder of `partial/` is for; None if it is not recorded.

    Raises:
        DamagedError: the file of the recipe is damaged.
    """
    return read(folder / RECIPE, lambda data: parse_recipe(parse(data)))
