"""Where a command finds its configuration and its store, as git finds its folder."""

import os
from pathlib import Path

from mcis_cli.errors import UsageError
from mcis_cli.store import Store, open_store

CONFIG_FILE = "mcis.toml"
STORE_FOLDER = ".mcis"


def existing_store(store: Path | None, upstream: str | None = None) -> Store:
    """The store of a command that reads no settings.

    Args:
        store: its folder, if one is named.
        upstream: a reference to an artifact; a file in another store brings its store along.

    Raises:
        MissingError: there is none.
    """
    return open_store(store_folder(store, None, upstream), create=False)


def store_folder(store: Path | None, config_file: Path | None, upstream: str | None) -> Path:
    """The folder of the store: the one that is named, else MCIS_STORE, else that of the upstream file, else `.mcis`
    here or above, else beside the configuration.
    """
    if store is not None:
        return store
    if named := os.environ.get("MCIS_STORE"):
        return Path(named)
    if upstream is not None and Path(upstream).parent.name == "artifacts" and Path(upstream).is_file():
        return Path(upstream).resolve().parent.parent
    if found := upwards(STORE_FOLDER):
        return found
    return (config_file.parent if config_file else Path()) / STORE_FOLDER


def upwards(name: str) -> Path | None:
    """A file or folder of this name here or in a folder above; None if there is none.

    Raises:
        UsageError: the folder above has it from another user, or this folder is gone.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the folder that this command was started in is gone; cd to one that exists") from None
    found = next((folder / name for folder in (here, *here.parents) if (folder / name).exists()), None)
    if found is not None and found.parent != here:
        _refuse_of_others(found)
    return found


def _refuse_of_others(found: Path) -> None:
    """Refuse files of other users in a folder above, as git does, because their settings and results would be used."""
    owner = found.stat().st_uid
    if owner not in (os.geteuid(), 0) and not os.environ.get("MCIS_TRUST_OTHERS"):
        flag = "--config" if found.name == CONFIG_FILE else "--store"
        raise UsageError(
            f"{found} belongs to another user (number {owner}), expected one of your own; name it with {flag} "
            f"{found}, or set MCIS_TRUST_OTHERS=1"
        )
