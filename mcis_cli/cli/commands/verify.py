"""`mcis verify`: checks that everything in the store is as it was sealed, and sets the rest aside."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.cli.terminal.output import TerminalReporter, console, say
from mcis_cli.errors import CheckError, McisError, UsageError, counted, plain

if TYPE_CHECKING:
    from mcis_cli.store.upkeep.repair import Outcome
    from mcis_cli.store.upkeep.verification import Verified


def verify(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="Path, id, name or stage; else everything in the store.",
            autocompletion=completion.artifact,
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged files aside, and print the commands that make them again."),
    ] = False,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    as_json: opt.AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Damage only, no progress and no summary.")] = False,
) -> None:
    """Check every file of the store for damage.

    Compares digests, then content ids, then references between files. Prints a line for each damaged file, and exits
    with 7 if one is left. Damaged files are never deleted.

    Example: mcis verify --repair
    """
    named = artifacts or []
    workspace = open_workspace(store=store, config=config, upstream=named[0] if named else None, may_create=False)
    from mcis_cli.store.upkeep.repair import Outcome
    from mcis_cli.store.upkeep.verification import locate

    paths = [locate(workspace.store, name) for name in named] if named else None
    if repair:
        _refuse_strangers(workspace, paths or ())
    reporter = TerminalReporter(quiet=quiet)
    verified = _verified(workspace, paths, reporter)
    found = _repaired(workspace, verified) if repair else (Outcome(one, False, "") for one in verified.findings)
    results = _printed(found, verified, as_json=as_json)
    if not quiet:
        _summarise(workspace, verified, results, is_repair=repair)
    if left := [result for result in results if not result.is_repaired]:
        remedy = "see above what to do" if repair else "`mcis verify --repair` prints how to make it again"
        raise CheckError(
            f"{len(left)} of {verified.num_files} files in {workspace.store.root} are damaged or missing, the first is "
            f"{left[0].finding.path.name}; {remedy}"
        )


def _printed(found: "Iterator[Outcome]", verified: "Verified", *, as_json: bool) -> "list[Outcome]":
    """The outcome of each finding, after printing it."""
    results = []
    for result in found:
        results.append(result)
        if not as_json:
            say(_line(result))
    if as_json:
        listed = [_as_dict(result) for result in results]
        say(json.dumps({"files": verified.num_files, "bytes": verified.num_bytes, "findings": listed}))
    return results


def _state(result: "Outcome") -> str:
    """One word for the outcome of a finding."""
    if result.is_repaired:
        return "repaired"
    return "missing" if result.finding.is_missing else "damaged"


def _line(result: "Outcome") -> str:
    finding = result.finding
    said = result.how if result.is_repaired else "; ".join(filter(None, [finding.fault, result.how]))
    return plain(f"{_state(result)} {finding.path}: {said}")


def _as_dict(result: "Outcome") -> dict[str, Any]:
    finding = result.finding
    facts = {"path": str(finding.path), "kind": finding.kind, "state": _state(result), "fault": finding.fault}
    return {**facts, "how": result.how or None}


def _refuse_strangers(workspace: Workspace, paths: Sequence[Path]) -> None:
    folder = workspace.store.root / "artifacts"
    for path in paths:
        if path.parent != folder:
            raise UsageError(
                f"{path} is not in {folder}: only files in that folder can be repaired; copy the file again"
            )


def _verified(workspace: Workspace, paths: Sequence[Path] | None, reporter: TerminalReporter) -> "Verified":
    from mcis_cli.store.upkeep import verification

    try:
        return verification.verify(workspace.store, paths, reporter.counting("verify"))
    finally:
        reporter.stop()


def _repaired(workspace: Workspace, verified: "Verified") -> "Iterator[Outcome]":
    """The outcome of each finding, with the command that makes an artifact again."""
    if not verified.findings:
        return
    from mcis_cli.stages.plan.again import command_of
    from mcis_cli.store.upkeep.repair import known_recipes, repair

    known = {done.id: done for done in known_recipes(workspace.store)}
    for outcome in repair(workspace.store, verified.findings):
        if outcome.done is not None:
            try:
                command = command_of(outcome.done, known, workspace.store, workspace.settings_of)
                how = f"make it again with `{command}`"
            except McisError as error:
                how = str(error)
            outcome = replace(outcome, how=how if outcome.finding.is_missing else f"set aside; {how}")
        yield outcome


def _summarise(workspace: Workspace, verified: "Verified", results: "Sequence[Outcome]", *, is_repair: bool) -> None:
    from mcis_cli.store.upkeep.verification import DAMAGED

    repaired = sum(result.is_repaired for result in results)
    parts = [f"{counted(verified.num_files, 'file')}, {verified.num_bytes / 2**20:.1f} MiB"]
    parts.append(f"{len(results)} damaged or missing" if results else "all as they were sealed")
    if is_repair and results:
        parts.append(f"{repaired} repaired; the damaged files are kept in {workspace.store.root / DAMAGED}")
    if verified.absent:
        parts.append(
            f"{len(verified.absent)} that others were made from no longer exist, which is not damage "
            f"({verified.absent[0]})"
        )
    console().print(Text(f"mcis: {'; '.join(parts)}"))
