"""The artifact that a command starts from: named, piped, or the one that the configuration names."""

import os
import stat
import sys

from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.errors import MissingError, UsageError
from mcis_cli.store import Artifact


def expected_artifact(workspace: Workspace, reference: str | None, stage: str) -> Artifact:
    """The upstream artifact of a command.

    Args:
        workspace: store, configuration, settings.
        reference: the artifact that was named or piped, if any.
        stage: the stage whose artifact is used if nothing was named.

    Raises:
        MissingError: there is none; the message names the command to run.
        DamagedError: its content is not what its stage writes.
    """
    if reference is not None:
        from mcis_cli.stages import check

        found = workspace.store.get(reference)
        check(found)
        return found
    data = workspace.data()
    if data is None:
        raise MissingError(
            f"no artifact to start from: give one of {stage} as argument or through a pipe, or work in a folder with "
            f"mcis.toml (`mcis init DATA` writes it); `mcis ls` lists all"
        )
    from mcis_cli.stages import command_of
    from mcis_cli.stages.plan.chain import plan

    planned: dict[str, Artifact | None] = {}
    for one in plan(workspace.settings(), data, workspace.store):  # of several rounds, the last that exists
        planned[one.stage] = one.artifact or planned.get(one.stage)
    wanted = planned.get(stage)
    if wanted is None:
        missing = stage if stage in planned else next(name for name, artifact in planned.items() if artifact is None)
        raise MissingError(
            f"{workspace.config_file} requires a stage that has not run: run `mcis {command_of(missing)}` first"
        )
    return wanted


def upstream_reference(given: str | None, previous: str) -> str | None:
    """The reference of the upstream artifact: as given, or one line from a pipe on stdin.

    Args:
        given: the argument: a path, an id prefix, a name, `-` for stdin, or None.
        previous: the stage that should have printed the line.

    Returns:
        The reference; None if nothing was given and stdin is not a pipe.

    Raises:
        MissingError: the pipe is empty: the stage before failed.
    """
    if not reads_pipe(given):
        return given
    line = sys.stdin.readline().strip()
    if not line:
        raise MissingError(
            f"the pipe is empty: the command before it, `mcis {previous}` or another, printed no artifact; its message "
            "gives the reason"
        )
    return _reference_of(line)


def reads_pipe(given: str | None) -> bool:
    """Whether the reference of the upstream artifact is to come from stdin."""
    return given == "-" or (given is None and _stdin_is_pipe())


def _reference_of(line: str) -> str:
    """A line as a pipeline command prints it: a path, an id, or one JSON object."""
    if not line.startswith("{"):
        return line
    import json

    try:
        return str(json.loads(line)["path"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"found {line[:60]!r} on stdin: expected the path or the id of an artifact") from error


def _stdin_is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False
