"""`mcis verify`: whether everything in the store is what was sealed; and what is not, made again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.cli.terminal.output import TerminalReporter, console, plain, say
from mcis_cli.config import DataConfig
from mcis_cli.errors import CheckError, UsageError, counted

if TYPE_CHECKING:
    from mcis_cli.store.upkeep.verification import Finding, Verified


@dataclass(frozen=True)
class Result:
    """A finding, and what became of it."""

    finding: "Finding"
    is_mended: bool = False
    how: str = ""

    @property
    def state(self) -> str:
        """One word for it."""
        if self.is_mended:
            return "repaired"
        return "missing" if self.finding.is_missing else "damaged"

    def line(self) -> str:
        """As it is printed."""
        told = self.how if self.is_mended else "; ".join(filter(None, [self.finding.fault, self.how]))
        return plain(f"{self.state} {self.finding.path}: {told}")

    def as_dict(self) -> dict[str, Any]:
        """As it is in the JSON object."""
        finding = self.finding
        facts = {"path": str(finding.path), "kind": finding.kind, "state": self.state, "fault": finding.fault}
        return {**facts, "how": self.how or None}


def verify(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="Path, id (8 digits or more) or tag; else everything in the store.",
            autocompletion=completion.artifact,
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged files aside, and make them again with the same content.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the images, where the store does not know it any more.")
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option("--weights", help="File of initial weights of a training; may be given more than once."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="To repair on; else what the artifact was computed on.")
    ] = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    as_json: opt.AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Damage only, no progress and no summary.")] = False,
) -> None:
    """Check that every file of the store is what was sealed: digests, then content ids, then what names what.

    Prints a line for each file that is not, and exits with 7 if one is left. Damaged files are never deleted.

    Example: mcis verify --repair
    """
    named = artifacts or []
    workspace = open_workspace(store=store, config=config, upstream=named[0] if named else None, may_create=False)
    from mcis_cli.store.upkeep.verification import locate

    paths = [locate(workspace.store, name) for name in named] if named else None
    if repair:
        _refuse_strangers(workspace, paths or ())
    images = workspace.data(data) if data is not None else None
    reporter = TerminalReporter(quiet=quiet)
    results: list[Result] = []
    try:
        verified = _verified(workspace, paths, reporter)
        unmended = map(Result, verified.findings)
        for result in _mended(workspace, verified, images, weights or (), device, reporter) if repair else unmended:
            results.append(result)
            if not as_json:
                say(result.line())
    finally:
        reporter.stop()
    if as_json:
        listed = [result.as_dict() for result in results]
        say(json.dumps({"files": verified.num_files, "bytes": verified.num_bytes, "findings": listed}))
    left = [result for result in results if not result.is_mended]
    if not quiet:
        _summarise(workspace, verified, results, is_repair=repair)
    if left:
        remedy = "see how above" if repair else "`mcis verify --repair` makes it again"
        raise CheckError(
            f"{len(left)} of {verified.num_files} files in {workspace.store.root} are damaged or missing, the first is "
            f"{left[0].finding.path.name}; {remedy}"
        )


def _refuse_strangers(workspace: Workspace, paths: Sequence[Path]) -> None:
    folder = workspace.store.root / "artifacts"
    for path in paths:
        if path.parent != folder:
            raise UsageError(f"{path} is not in {folder}: only what is there can be repaired; copy it anew")


def _verified(workspace: Workspace, paths: Sequence[Path] | None, reporter: TerminalReporter) -> "Verified":
    from mcis_cli.store.upkeep import verification

    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        if not done:
            reporter.start("verify", total)
        reporter.advance(done - seen)
        seen = done

    try:
        return verification.verify(workspace.store, paths, progress)
    finally:
        reporter.stop()


def _mended(
    workspace: Workspace,
    verified: "Verified",
    images: DataConfig | None,
    weights: Sequence[Path],
    device: str | None,
    reporter: TerminalReporter,
) -> Iterator[Result]:
    if not verified.findings:
        return
    for finding in verified.findings:
        yield Result(finding, False, "run the command again that made it")


def _configured(workspace: Workspace) -> DataConfig | None:
    """The images that mcis.toml names, if they are there."""
    try:
        return workspace.data()
    except UsageError:
        return None


def _summarise(workspace: Workspace, verified: "Verified", results: Sequence[Result], *, is_repair: bool) -> None:
    from mcis_cli.store.upkeep.verification import DAMAGED

    mended = sum(result.is_mended for result in results)
    parts = [f"{counted(verified.num_files, 'file')}, {verified.num_bytes / 2**20:.1f} MiB"]
    parts.append(f"{len(results)} damaged or missing" if results else "all as they were sealed")
    if is_repair and results:
        parts.append(f"{mended} repaired; the damaged files are kept in {workspace.store.root / DAMAGED}")
    if verified.absent:
        parts.append(
            f"{len(verified.absent)} that others were made from are no longer there, which is no damage "
            f"({verified.absent[0]})"
        )
    console().print(Text(f"mcis: {'; '.join(parts)}"))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)
