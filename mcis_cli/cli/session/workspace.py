"""Where a command works: configuration file, store, settings, and the artifact that it starts from."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from mcis_cli.cli.session.location import CONFIG_FILE, STORE_FOLDER, store_folder, upwards
from mcis_cli.cli.terminal.output import complain
from mcis_cli.config import (
    DEFAULT_PRESET,
    PRESETS,
    SECTIONS,
    DataConfig,
    Preset,
    Settings,
    merge,
    parse_assignment,
    read_toml,
    resolve,
)
from mcis_cli.data.places import may_exist, resolved
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact, Store, open_store

KINDS_OF_DATA = "a folder of images or tar shards, a table of tags, a list of paths, or a URL of any of them"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder with a store, and perhaps a configuration file.

    Attributes:
        store_folder: where the store is, or would be.
        may_create: whether to make a store if there is none.
        config_file: the configuration in use, if any.
        tables: its tables, with those of the command merged over.
        named: those of the command itself: `--set` and flags.
        flags: those of its flags alone.
        named_preset: the preset that a flag or the file named, if any.
        is_file_named: whether `--config` named the file; else it was found.
    """

    store_folder: Path
    may_create: bool
    config_file: Path | None
    tables: Mapping[str, Any]
    named: Mapping[str, Any]
    flags: Mapping[str, Mapping[str, Any]]
    named_preset: Preset | None
    is_file_named: bool = False

    @cached_property
    def store(self) -> Store:
        """The store, opened or made at first use, so that a mistyped command leaves nothing behind.

        Raises:
            MissingError: there is none, and the command only reads.
        """
        return open_store(self.store_folder, create=self.may_create, warn=partial(complain, "warning"))

    @property
    def has_store(self) -> bool:
        """Whether there is a store."""
        return (self.store_folder / "format").exists()

    @contextmanager
    def existing_store(self) -> Iterator[Store]:
        """The store; if there is none, an empty temporary one for commands that write nothing."""
        if self.has_store:
            yield self.store
            return
        with TemporaryDirectory() as folder:
            yield open_store(Path(folder) / STORE_FOLDER)

    def preset(self, upstream: Artifact | None = None) -> Preset:
        """The preset that was named; else that of the upstream artifact; else `DEFAULT_PRESET`."""
        return self.named_preset or _inherited(upstream)

    def settings(self, upstream: Artifact | None = None) -> Settings:
        """All settings: preset, file and flags.

        Raises:
            UsageError: an unknown name or a value out of range.
            MissingError: weights are named by an id or name that is not there.
        """
        return self.settings_of(self.preset(upstream))

    def settings_apart_from_file(self, upstream: Artifact) -> Settings:
        """The settings of the preset that an artifact was made with, and of flags; those of a file only if `--config`
        names it.

        Raises:
            UsageError: an unknown name or a value out of range.
        """
        if self.is_file_named:
            return self.settings(upstream)
        return resolve(self.named, _inherited(upstream))

    def settings_of(self, preset: Preset) -> Settings:
        """All settings, over a preset; see `settings`."""
        return resolve(_with_weights_by_path(self.tables, lambda: self.store), preset)

    def doubt_of_backbone(self, section: str) -> str | None:
        """That a backbone was given, no preset, and that another preset than the default one is made for it."""
        given = self.tables.get(section, {}).get("backbone")
        if given is None or self.named_preset is not None:
            return None
        field = section.replace("-", "_")
        made_for_it = [preset for preset in PRESETS if getattr(resolve({}, preset), field).backbone == given]
        if not made_for_it or DEFAULT_PRESET in made_for_it:
            return None
        return (
            f"{section}.backbone is {given}, and all else is of the preset {DEFAULT_PRESET}, since none is named; "
            f"--preset {made_for_it[0]} has values that fit {given}"
        )

    def data(self, folder: Path | None = None) -> DataConfig | None:
        """Where the images are: a folder or file that was named, or else the configuration's.

        Raises:
            UsageError: the path does not exist.
        """
        section = dict(self.tables.get("data", {}))
        if folder is None and "root" not in section:
            return None
        root = resolved(folder or section["root"])
        if not may_exist(root):
            raise UsageError(f"{folder or section['root']} does not exist: expected {KINDS_OF_DATA}")
        return resolve({"data": {**section, "root": root}}).data

    def data_for(self, upstream: Artifact, folder: Path | None, reference: str | None) -> DataConfig | None:
        """Where the images behind an artifact are.

        Args:
            upstream: the artifact.
            folder: a folder that was named; overrides everything else.
            reference: how the artifact was named; None where the configuration did, which then names the images too.

        Returns:
            The folder; for an artifact that was named, the one that is remembered, with [data] merged over, unless it
            is gone. None if it is unknown.
        """
        if reference is None:
            return self.data(folder)
        dataset = str(upstream.meta.get("dataset"))  # not all artifacts have it
        is_id = re.fullmatch(r"[0-9a-f]{64}", dataset) is not None
        place = DataConfig.remembered(self.store.location(dataset)) if is_id else None
        if folder is not None:
            data = self.data(folder)
            sources = place.sources if place else ()
            if data is None or "sources" in self.tables.get("data", {}):
                return data
            return data.model_copy(update={"sources": sources})
        if place is None or not may_exist(place.root):
            return self.data()
        section = {key: value for key, value in self.tables.get("data", {}).items() if key != "root"}
        return resolve({"data": merge(place.model_dump(mode="json"), section)}).data


def _inherited(upstream: Artifact | None) -> Preset:
    """The preset that an artifact was made with; else `DEFAULT_PRESET`."""
    preset = upstream.provenance.get("preset") if upstream is not None else None
    return cast(Preset, preset) if preset in list(PRESETS) else DEFAULT_PRESET


def open_workspace(
    *,
    store: Path | None,
    config: Path | None = None,
    preset: str | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    upstream: str | None = None,
    may_create: bool = True,
) -> Workspace:
    """Find the configuration and the store as git finds its folder, and merge the flags over the file.

    Args:
        store: the folder of the store; else MCIS_STORE, else that of the upstream file, else `.mcis` here or above.
        config: the configuration file; else `mcis.toml` here or above.
        preset: as given by flag.
        assignments: values of `--set`.
        flags: sections of settings from the command's own flags; None values are those not given.
        upstream: a reference to an artifact; a file in another store brings its store along.
        may_create: make a store, once it is needed, if there is none.

    Raises:
        UsageError: the file or a value is not understood.
    """
    config_file = config or upwards(CONFIG_FILE)
    of_file = _with_absolute_paths(read_toml(config_file), config_file.parent) if config_file else {}
    named: dict[str, Any] = {}
    for assignment in assignments:
        named = merge(named, _with_absolute_root(parse_assignment(assignment), Path()))
    given = {section: {k: v for k, v in values.items() if v is not None} for section, values in (flags or {}).items()}
    named = merge(named, _with_absolute_root(given, Path()))
    tables = merge(of_file, named)
    named_preset = cast("Preset | None", preset or tables.get("preset"))
    try:
        resolve(tables, named_preset)  # report errors of the file and the flags before any work
    except UsageError as error:
        if str(error) == _fault_of(of_file):
            raise UsageError(f"{config_file}: {error}") from None
        raise
    return Workspace(
        store_folder=store_folder(store, config_file, upstream),
        may_create=may_create,
        config_file=config_file,
        tables=tables,
        named=named,
        flags=given,
        named_preset=named_preset,
        is_file_named=config is not None,
    )


def _fault_of(tables: Mapping[str, Any]) -> str | None:
    """Faults of the settings themselves."""
    try:
        resolve(tables)
    except UsageError as error:
        return str(error)
    return None


def _with_absolute_paths(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Weights and regions that a configuration names by a path: it is relative to the file, not to where the command is
    run."""
    absolute = {
        section: {
            k: str((folder / value).resolve()) for k, value in values.items() if _is_path(section, k, value, folder)
        }
        for section, values in tables.items()
        if isinstance(values, dict)
    }
    return merge(_with_absolute_root(tables, folder), absolute)


def _is_path(section: str, name: str, value: object, folder: Path) -> bool:
    """Whether the value of a setting is a path that is relative to a folder, unlike those of [data]."""
    model = SECTIONS.get(section)
    flag = model.facts_of(name).flag if model is not None and name in model.model_fields else None
    if flag is None or not isinstance(value, str):
        return False
    if flag.path == "folder or name":
        return value not in (flag.offers or ())
    return flag.path == "file or artifact" and names_file(value, folder)


def _with_absolute_root(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Folders of images are relative to where they are named: to the configuration, or to where a flag is given."""
    data = tables.get("data")
    if not isinstance(data, dict):
        return tables
    absolute: dict[str, Any] = _with_root(data, folder)
    if isinstance(sources := data.get("sources"), list):
        absolute["sources"] = [_with_root(one, folder) if isinstance(one, dict) else one for one in sources]
    return merge(tables, {"data": absolute})


def _with_root(named: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    root = named.get("root")
    return {**named, "root": resolved(root, folder)} if isinstance(root, str) else dict(named)


def _with_weights_by_path(tables: Mapping[str, Any], store: Callable[[], Store]) -> dict[str, Any]:
    """Weights that are given by id or name, by the file of their artifact instead."""
    named = {section: values["weights"] for section, values in tables.items() if _names_artifact(values)}
    return merge(tables, {section: {"weights": str(store().get(name).path)} for section, name in named.items()})


def _names_artifact(section: object) -> bool:
    weights = section.get("weights") if isinstance(section, Mapping) else None
    return isinstance(weights, str) and not names_file(weights, Path())


def names_file(weights: str, folder: Path) -> bool:
    """Whether a name of weights is that of a file, which exists or looks like one; otherwise it names an artifact."""
    path = Path(weights)
    return (folder / path).exists() or bool(path.suffix) or len(path.parts) > 1
