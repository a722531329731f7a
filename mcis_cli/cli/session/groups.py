"""Groups of options that several commands share, each declared once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.config import DataConfig, Domain
from mcis_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which settings and which store a command works with."""

    assignments: opt.Assignments = None
    config: opt.ConfigFile = None
    store: opt.StoreFolder = None

    def open(
        self,
        flags: Flags | None = None,
        *,
        preset: str | None = None,
        upstream: str | None = None,
        may_create: bool = True,
    ) -> Workspace:
        """The workspace; see `open_workspace`."""
        return open_workspace(
            store=self.store,
            config=self.config,
            preset=preset,
            assignments=self.assignments or (),
            flags=flags.tables if flags else None,
            upstream=upstream,
            may_create=may_create,
        )


@dataclass(frozen=True, kw_only=True)
class PredictionPlace(Place):
    """The same for predictions, which use [eval] only of a file that is named."""

    config: opt.PredictionConfigFile = None


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """Options of every command that runs stages."""

    preset: opt.Preset = None
    device: opt.Device = "auto"
    workers: opt.Workers = None
    place: Place = field(default_factory=Place)
    dry_run: opt.DryRun = False
    as_json: opt.AsJson = False
    quiet: opt.Quiet = False


@dataclass(frozen=True, kw_only=True)
class PartOptions:
    """Options of commands whose work may be divided into parts."""

    shard: opt.Shard = None
    engine: opt.Engine = "here"
    mixed: opt.Mixed = False


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Options for tags, saliency maps, and further images to learn from."""

    described: Annotated[Flags, SectionFlags("data", "tags", "tags_from_masks", "saliency")]
    single_label: Annotated[
        list[Path] | None,
        typer.Option(
            "--single-label", help="More images, with one label each: a folder per class, or a list. Repeatable."
        ),
    ] = None
    web: Annotated[
        list[Path] | None,
        typer.Option("--web", help="More images, as a search found them: a folder per class, or a list. Repeatable."),
    ] = None
    list_tags: Annotated[
        str | None,
        typer.Option("--list-tags", help="Tags of a line `path tag ...` of such a list: one (default), first, or all."),
    ] = None

    @property
    def flags(self) -> Flags:
        """All of it as settings of `[data]`.

        Raises:
            UsageError: `--list-tags` without a list.
        """
        return self.described.and_also("data", sources=self._sources())

    def _sources(self) -> list[dict[str, Any]] | None:
        """The value of `data.sources`, which overrides that of mcis.toml; None if no flag names any."""
        given: list[tuple[Domain, Path]] = [("single-label", path) for path in self.single_label or ()]
        given += [("web", path) for path in self.web or ()]
        if not given and self.list_tags is not None:
            raise UsageError(
                "--list-tags is about the lists of --single-label and --web, found neither; give one of them"
            )
        about = {} if self.list_tags is None else {"list_tags": self.list_tags}
        return [{"root": str(path), "domain": domain, **about} for domain, path in given] or None


def require_images(workspace: Workspace, folder: Path | None, command: str) -> DataConfig:
    """The images that an argument or the configuration names.

    Args:
        workspace: with the configuration.
        folder: the argument.
        command: as it is typed with a folder, for the message.

    Raises:
        UsageError: neither names any.
    """
    if (images := workspace.data(folder)) is None:
        raise UsageError(f"no images are named: expected a folder, as in `mcis {command}`; or run `mcis init photos/`")
    return images
