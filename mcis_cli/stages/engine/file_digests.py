"""Files that are brought along for images: which images have one, their digests, and reading them unchanged."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from mcis_cli.config import RunOptions
from mcis_cli.data.array_files import MAX_ARRAY_BYTES
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.facts import file_facts, no_facts
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import DataError, counted, first_few
from mcis_cli.store import StatCache, Store, canonical_json


def digests_of(paths: Sequence[Path], store: Store | None) -> dict[Path, str]:
    """SHA-256 of each file; unchanged ones are not read again, if there is a store to remember them.

    Raises:
        DataError: a file cannot be read.
    """
    with nullcontext() if store is None else StatCache(store.index_path) as cache:
        facts = list(file_facts(paths, "file-1", no_facts, cache))
    for fact in facts:
        if isinstance(fact, DataError):
            raise fact
    return {path: str(fact["sha256"]) for path, fact in zip(paths, facts, strict=True) if isinstance(fact, dict)}


def digest_of_all(named: Iterable[tuple[Sequence[str | int | None], str]]) -> str:
    """One digest of files, each by what it is for (an image, a class) and its own digest, in their order."""
    state = hashlib.sha256(b"mcis imported files 1\n")
    for names, digest in named:
        state.update(canonical_json([*names, digest]) + b"\n")
    return state.hexdigest()


def without_missing(
    images: Catalogue, missing: Sequence[str], where: Path, options: RunOptions, *, what: str, names: str, allow: bool
) -> Catalogue:
    """The images that have files.

    Args:
        images: all requested images.
        missing: those of them that need a file and have none.
        where: the folder.
        options: its reporter gets the warnings.
        what: the content of the files, for the message.
        names: of such files, for the message.
        allow: leave the missing ones out.

    Raises:
        DataError: some are missing and may not be left out, or all are.
    """
    if missing and (not allow or len(missing) == len(images)):
        raise DataError(
            f"{what} missing in {where} for {len(missing)} of {len(images)} images ({first_few(missing)}): expected "
            f"{names} for each; add them, choose a --split, or leave them out with --allow-missing"
        )
    if missing:
        options.reporter.warn(f"left out: {counted(len(missing), 'image')} without {what}: {first_few(missing)}")
    return images.only(set(images.ids) - set(missing))


def read_unchanged(path: Path, digests: Mapping[Path, str]) -> bytes:
    """The bytes of a file, which must be those that were hashed.

    Raises:
        DataError: it cannot be read, or has changed.
    """
    content = read_regular(path, MAX_ARRAY_BYTES)
    if hashlib.sha256(content).hexdigest() != digests[path]:
        raise DataError(f"{path} has changed since it was listed; start the command again")
    return content
