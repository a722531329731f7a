"""Shared by the commands of the pipeline: settings, upstream artifact, shards and ranks, the line of the result."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import typer

from mcis_cli.cli.session import launched
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.dry_run import forecaster, print_forecasts
from mcis_cli.cli.session.groups import PartOptions, PipelineOptions
from mcis_cli.cli.session.section_flags import Flags
from mcis_cli.cli.session.upstream import expected_artifact, reads_pipe, upstream_reference
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter, announce
from mcis_cli.config import DEFAULT_PRESET, Config, DataConfig, Reporter, RunOptions, Settings, merge
from mcis_cli.errors import UnfinishedError, UsageError, counted
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.engine.inputs import Inputs
    from mcis_cli.stages.plan.forecast import Forecast, Forecaster
    from mcis_cli.stages.stage import Work


@dataclass(frozen=True)
class Start:
    """What a stage starts from.

    Attributes:
        workspace: settings and store.
        upstream: the artifact of the stage before; None where it starts from images.
        images: where they are; None where the store knows it.
        saliency: an artifact of maps that was named.
        network: an artifact that was named.
        more: further artifacts of the same kind as the upstream artifact.
        corrected: an artifact of masks that was named.
    """

    workspace: Workspace
    upstream: Artifact | None
    images: DataConfig | None
    saliency: Artifact | None = None
    network: Artifact | None = None
    more: tuple[Artifact, ...] = ()
    corrected: Artifact | None = None

    @property
    def artifact(self) -> Artifact:
        """The artifact of the stage before; asserts that there is one."""
        assert self.upstream is not None, "the command starts from images"
        return self.upstream

    def inputs(self) -> "Inputs":
        """As a stage takes it."""
        from mcis_cli.stages.engine.inputs import Inputs

        return Inputs(
            upstream=self.upstream,
            data=self.images,
            saliency=self.saliency,
            network=self.network,
            more=self.more,
            corrected=self.corrected,
        )


def _preparing(start: Start, work: "Work | None") -> str:
    """What a stage does before its first step; a training loads a network with initial weights."""
    from mcis_cli.stages import holds

    upstream = start.upstream
    records = upstream is not None and upstream.manifest.get("schema") is not None
    what = "images" if upstream is None or not records else counted(len(upstream), "image")
    trains = work is not None and not work.by_image
    uses_network = upstream is None or start.network is not None or holds(upstream, "classifier", "network")
    return f"reading {what}, loading the network" if trains or uses_network else f"reading {what}"


def next_steps(artifact: Artifact, reference: str | None = None) -> list[str]:
    """Commands that use an artifact, each with what it does.

    Args:
        artifact: the artifact.
        reference: how to name it; None for its stage and the first digits of its id.
    """
    from mcis_cli.stages import stages

    stage = stages().get(artifact.stage)
    follows = stage.work.follows if stage is not None and stage.work is not None else ()
    return [step.replace("{}", reference or artifact.path.stem[:-4]) for step in follows]


Make = Callable[[Settings, RunOptions], Artifact | Sequence[Artifact]]
Show = Callable[[Artifact, TerminalReporter], None]
Foretell = Callable[["Forecaster", Settings], Iterable["Forecast"]]


@dataclass(frozen=True)
class Call:
    """A command of the pipeline with its arguments.

    Attributes:
        stage: its stage, whose name its section of the settings has.
        flags: settings that were given by flags.
        options: that all such commands take.
        parts: which part of the work this is, and whether parts may differ in how they were computed.
    """

    stage: str
    flags: Flags
    options: PipelineOptions
    parts: PartOptions = field(default_factory=PartOptions)

    @property
    def rank(self) -> launched.Place | None:
        """Which process this is of those that train together; the other commands are cut in shards."""
        work = self._work
        return launched.rank() if work is not None and work.ranks else None

    @property
    def _work(self) -> "Work | None":
        """How the stage works; None for a command that is no stage of the chain."""
        from mcis_cli.stages import stages

        return stages()[self.stage].work

    def open(self, reference: str | None = None) -> Workspace:
        """The workspace, with the command's flags merged in."""
        flags = self.flags
        if self.rank:
            flags = Flags(merge(flags.tables, {self.stage: {"processes": self.rank.count}}), flags.several)
        options = self.options
        return options.place.open(flags, preset=options.preset, upstream=reference, may_create=not options.dry_run)

    def start(self, given: str | None, folder: Path | None) -> Start:
        """Find the upstream artifact and its images.

        Errors of the settings are reported before waiting for a pipe, since the command at its other end may take days.

        Args:
            given: the argument that names the artifact.
            folder: of the images, as `--data` gave it.
        """
        previous = self._previous(self.open().settings())
        if launched.rank() is not None and reads_pipe(given):
            raise UsageError(
                f"{self.stage} cannot read a pipe in several processes: found one on stdin, expected the name of an "
                "artifact; give it as the argument, and < /dev/null"
            )
        reference = upstream_reference(given, previous)
        workspace = self.open(reference)
        upstream = expected_artifact(workspace, reference, previous)
        return Start(workspace, upstream, workspace.data_for(upstream, folder, reference))

    def _previous(self, settings: Settings) -> str:
        """The stage whose artifact is used where none is named."""
        from mcis_cli.stages import names_of
        from mcis_cli.stages.plan.chain import chain_of, step_of

        assert self._work is not None, "only a stage of the chain has one before it"
        usual = names_of(*next(iter(self._work.roles.values())))[0]
        chain = chain_of(settings)
        before = next(iter(step_of(self.stage, settings, chain).starts.values()), usual)
        return chain[before].stage if before in chain else before

    def variants(self, settings: Settings) -> list[Settings]:
        """The settings, once for each value of a flag with several values."""
        found = [settings]
        for (section, name), values in self.flags.several.items():
            place = section.replace("-", "_")
            found = [one.changed(**{place: {name: value}}) for one in found for value in values]
        return found

    def run(
        self,
        start: Start,
        make: Make | None = None,
        *,
        facts: Mapping[str, str] = MappingProxyType({}),
        extra: Callable[[Artifact], Mapping[str, Any]] = lambda artifact: {},
        foretell: Foretell | None = None,
        show: Show | None = None,
    ) -> Artifact | None:
        """Run a stage, report its result, and print a line for each artifact.

        Args:
            start: what it starts from.
            make: makes the artifacts; None to run the stage as it is declared.
            facts: about this run, by which settings have an effect or not.
            extra: facts for the JSON object of an artifact.
            foretell: the forecasts of `--dry-run`; None for that of the stage.
            show: prints the result in place of that line.

        Returns:
            The last artifact; None for `--dry-run`.
        """
        if self.options.dry_run:
            self._foretell(start, foretell or (lambda looking, settings: [self._forecast(looking, settings, start)]))
            return None
        started = time.monotonic()
        reporter = TerminalReporter(quiet=self.options.quiet, silent=self.rank is not None and self.rank.number > 0)
        options = self._run_options(start, reporter)
        reporter.prepare(f"{self.stage}: {_preparing(start, self._work)}")
        settings = start.workspace.settings(start.upstream)
        try:
            with opt.with_engine(self.parts.engine, options, start.workspace.store) as ready:
                made = make(settings, ready) if make else self._run_stage(start, settings, ready, facts)
        except UnfinishedError as others:
            reporter.note(f"{self.stage}: {others}")
            raise typer.Exit from None
        finally:
            reporter.stop()
        artifacts = [made] if isinstance(made, Artifact) else list(made)
        seconds = time.monotonic() - started
        how = f"done in {seconds:.0f} s" if reporter.worked else "cached"
        reporter.note(f"{self.stage}: {how}, {', '.join(artifact.path.stem for artifact in artifacts)}")
        if show is not None:
            show(artifacts[-1], reporter)
        else:
            self._print(artifacts, seconds, reporter, extra)
        return artifacts[-1]

    def _run_stage(self, start: Start, settings: Settings, options: RunOptions, facts: Mapping[str, str]) -> Artifact:
        work = self._work
        assert work is not None, f"{self.stage} is not declared with a section and its work"
        config = work.config(settings)
        self.warn_without_effect(start.workspace, config, options.reporter, **facts)
        return work.run(config, start.inputs(), start.workspace.store, options)

    def _print(
        self,
        artifacts: Sequence[Artifact],
        seconds: float,
        reporter: TerminalReporter,
        extra: Callable[[Artifact], Mapping[str, Any]],
    ) -> None:
        for artifact in artifacts:
            announce(
                artifact,
                cached=not reporter.worked,
                seconds=seconds,
                as_json=self.options.as_json,
                quiet=self.options.quiet,
                extra=extra(artifact),
            )
        if not self.options.as_json:
            reporter.suggest(*next_steps(artifacts[-1]))

    def _run_options(self, start: Start, reporter: TerminalReporter) -> RunOptions:
        workspace, upstream = start.workspace, start.upstream
        preset = workspace.preset(upstream)
        shard = self._shard(reporter)
        if self.rank:
            reporter.note(f"{self.stage}: {self.rank.count} processes, by {self.rank.variables}")
        if upstream is not None and workspace.named_preset is None and preset != DEFAULT_PRESET:
            reporter.note(f"preset {preset}, as {upstream.path.stem} was made with")
        if upstream is None and (doubt := workspace.doubt_of_backbone(self.stage)):
            reporter.warn(doubt)
        return opt.run_options(
            device=self.options.device,
            workers=self.options.workers,
            preset=preset,
            reporter=reporter,
            shard=shard,
            mixed=self.parts.mixed,
            rank=(self.rank.number, self.rank.count) if self.rank else None,
        )

    def _forecast(self, looking: "Forecaster", settings: Settings, start: Start) -> "Forecast":
        saliency, corrected = (one.id if one else None for one in (start.saliency, start.corrected))
        return looking.stage(
            self.stage,
            settings,
            start.upstream,
            saliency=saliency,
            network=start.network,
            more=start.more,
            corrected=corrected,
        )

    def _foretell(self, start: Start, foretell: Foretell) -> None:
        """Print what the stage would do (`--dry-run`), and write nothing."""
        data = start.images
        if data is None:
            assert start.upstream is not None, "a command that starts from images names them"
            from mcis_cli.stages.engine.inputs import place_of

            data = place_of(start.upstream, start.workspace.store)
        with forecaster(start.workspace, data, self.options.device) as looking:
            some = self.variants(start.workspace.settings(start.upstream))
            found = [one for settings in some for one in foretell(looking, settings)]
            print_forecasts(found, as_json=self.options.as_json)

    def _shard(self, reporter: TerminalReporter) -> tuple[int, int] | None:
        """The part of the work that was named, or else that of this process, which is printed."""
        if self.parts.engine != "here":
            if self.parts.shard is not None:
                raise UsageError(
                    f"--shard {self.parts.shard} and --engine {self.parts.engine} both divide the work: give one of "
                    "them"
                )
            return None
        if self.parts.shard is not None or (self._work is not None and not self._work.by_image):
            return opt.parse_shard(self.parts.shard)
        place = launched.shard()
        if place is None:
            return None
        reporter.note(f"{self.stage}: --shard {place.number + 1}/{place.count}, by {place.variables}; 1/1 does all")
        return place.number + 1, place.count

    def warn_without_effect(self, workspace: Workspace, config: Config, reporter: Reporter, **facts: str) -> None:
        """Warn of settings that the user gave and that have no effect.

        A setting of a file applies to all that its section makes, so it is warned about only if the section itself is
        the reason.

        Args:
            workspace: which settings were given, and how.
            config: settings of the section.
            reporter: receives the warnings.
            facts: about this run, as `Config.FACTS` of the section names them.
        """
        in_all, named, flags = (
            {name for name, value in tables.get(self.stage, {}).items() if value not in (None, False, {})}
            for tables in (workspace.tables, workspace.named, workspace.flags)
        )
        anyway = config.without_effect(in_all)
        for name, why in config.without_effect(in_all, **facts).items():
            if name in named or anyway.get(name) == why:
                given = config.flag_of(name) if name in flags else f"{self.stage}.{name}"
                reporter.warn(f"{given} has no effect {why}")
