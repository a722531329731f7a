"""What the commands of the pipeline share: settings, upstream artifact, shards and ranks, the line of the result."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mcis_cli.cli.session import launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.forecast import forecaster, tell
from mcis_cli.cli.session.workspace import Workspace, open_workspace, reads_pipe, upstream_reference
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.config import Config, DataConfig, Reporter, RunOptions, Settings, merge
from mcis_cli.errors import UnfinishedError, UsageError
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.plan.forecast import Forecaster

Flags = Mapping[str, Mapping[str, Any]]
SHARDED = ("saliency", "cams", "affinity", "pseudo", "eval")


def warn_without_effect(section: str, config: Config, workspace: Workspace, reporter: Reporter, **facts: str) -> None:
    """Warn of settings that were given and have no effect.

    A setting of a file is for all that its section makes: it is warned about only if it has no effect for a reason that
    is in the section itself.

    Args:
        section: its name.
        config: its settings.
        workspace: which settings were given, and how.
        reporter: who is told.
        facts: about this run, as `Config.FACTS` of the section names them.
    """
    in_all, named, flags = (
        {name for name, value in tables.get(section, {}).items() if value not in (None, False)}
        for tables in (workspace.tables, workspace.named, workspace.flags)
    )
    anyway = config.without_effect(in_all)
    for name, why in config.without_effect(in_all, **facts).items():
        if name in named or anyway.get(name) == why:
            given = config.flag_of(name) if name in flags else f"{section}.{name}"
            reporter.warn(f"{given} has no effect {why}")


@dataclass(frozen=True)
class Call:
    """What every pipeline command is told."""

    stage: str
    flags: Flags
    config: Path | None
    preset: str | None
    assignments: list[str] | None
    store: Path | None
    device: str
    workers: int | None
    as_json: bool
    quiet: bool
    shard: str | None = None
    dry_run: bool = False

    @property
    def rank(self) -> launched.Place | None:
        """Which process this is of those that train together; the other commands are cut in shards."""
        return launched.rank() if self.stage in ("train-cls", "train-seg") else None

    def open(self, reference: str | None = None) -> Workspace:
        """The workspace, with the command's flags merged in."""
        return open_workspace(
            store=self.store,
            config=self.config,
            preset=self.preset,
            assignments=self.assignments or (),
            flags=merge(self.flags, {self.stage: {"processes": self.rank.count}}) if self.rank else self.flags,
            upstream=reference,
            may_create=not self.dry_run,
        )

    def follow(self, given: str | None, previous: str) -> tuple[str | None, Workspace]:
        """The reference of the upstream artifact, and the workspace. A mistake of the settings is told before a pipe
        is waited for: the command at its other end may take days."""
        self.open()
        if launched.rank() is not None and reads_pipe(given):
            raise UsageError(
                f"{self.stage} cannot read a pipe in several processes: found one on stdin, expected the name of an "
                "artifact; give it as the argument, and < /dev/null"
            )
        reference = upstream_reference(given, previous)
        return reference, self.open(reference)

    def run(
        self,
        workspace: Workspace,
        upstream: Artifact | None,
        work: Callable[[Settings, RunOptions], Artifact | Sequence[Artifact]],
        extra: Callable[[Artifact], Mapping[str, Any]] = lambda artifact: {},
    ) -> Artifact:
        """Run a stage, tell what came of it, and print its line, or one for each artifact. Returns the last."""
        started = time.monotonic()
        reporter = TerminalReporter(quiet=self.quiet, silent=self.rank is not None and self.rank.number > 0)
        settings = workspace.settings(upstream)
        options = opt.run_options(
            device=self.device,
            workers=self.workers,
            preset=workspace.preset(upstream),
            reporter=reporter,
            shard=self._shard(reporter),
            rank=(self.rank.number, self.rank.count) if self.rank else None,
        )
        if self.rank:
            reporter.note(f"{self.stage}: {self.rank.count} processes, by {self.rank.told_by}")
        if upstream is not None and workspace.named_preset is None and options.preset != "paper":
            reporter.note(f"preset {options.preset}, as {upstream.path.stem} was made with")
        try:
            made = work(settings, options)
        except UnfinishedError as others:
            reporter.note(f"{self.stage}: {others}")
            raise typer.Exit from None
        finally:
            reporter.stop()
        seconds = time.monotonic() - started
        artifacts = [made] if isinstance(made, Artifact) else list(made)
        how = f"done in {seconds:.0f} s" if reporter.worked else "found done"
        reporter.note(f"{self.stage}: {how}, {', '.join(artifact.path.stem for artifact in artifacts)}")
        for artifact in artifacts:
            announce(
                artifact,
                cached=not reporter.worked,
                seconds=seconds,
                as_json=self.as_json,
                quiet=self.quiet,
                extra=extra(artifact),
            )
        return artifacts[-1]

    def tell(
        self,
        workspace: Workspace,
        upstream: Artifact | None,
        data: DataConfig | None,
        variants: Sequence[Settings] = (),
        saliency: Artifact | None = None,
        network: Artifact | None = None,
    ) -> None:
        """Tell what the stage would do (`--dry-run`).

        Args:
            workspace: settings and store.
            upstream: the artifact that it would start from.
            data: where the images are; None where nobody knows.
            variants: settings, where it would be done with several.
            saliency: maps that were named.
            network: that was named.
        """
        named = saliency.id if saliency else None
        with self._looking(workspace, upstream, data) as looking:
            some = variants or [workspace.settings(upstream)]
            found = [
                looking.stage(self.stage, settings, upstream, saliency=named, network=network) for settings in some
            ]
            tell(found, as_json=self.as_json)

    def tell_walk(
        self, workspace: Workspace, maps: Artifact, data: DataConfig | None, network: Artifact | None
    ) -> None:
        """Tell what the three stages of `mcis affinity` would do, or the last of them where a network is named."""
        settings = workspace.settings(maps)
        with self._looking(workspace, maps, data) as looking:
            from mcis_cli.stages import stages_of

            *before, walk = stages_of("affinity")
            alone = [] if network is None else [looking.stage(walk, settings, maps, network=network)]
            tell(alone or list(looking.chain(settings, (*before, walk), made={"cams": maps})), as_json=self.as_json)

    def _looking(
        self, workspace: Workspace, upstream: Artifact | None, data: DataConfig | None
    ) -> AbstractContextManager["Forecaster"]:
        if data is None:
            assert upstream is not None, "a command that starts from images names them"
            from mcis_cli.stages.engine.inputs import place_of

            data = place_of(upstream, workspace.store)
        return forecaster(workspace, data, self.device)

    def _shard(self, reporter: TerminalReporter) -> tuple[int, int] | None:
        """The part of the work that was asked for; else what is this process's, which is told."""
        if self.shard is not None or self.stage not in SHARDED:
            return opt.parse_shard(self.shard)
        place = launched.shard()
        if place is None:
            return None
        reporter.note(f"{self.stage}: --shard {place.number + 1}/{place.count}, by {place.told_by}; 1/1 does all")
        return place.number + 1, place.count
