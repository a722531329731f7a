"""The artifact that a command starts from: named, piped, or the one that the configuration names."""

from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.errors import MissingError
from mcis_cli.store import Artifact


def expected_artifact(workspace: Workspace, reference: str | None, stage: str) -> Artifact:
    """The upstream artifact of a command.

    Args:
        workspace: store, configuration, settings.
        reference: what was named or piped, if anything.
        stage: which stage's artifact is looked for where nothing was named.

    Raises:
        MissingError: there is none; the message tells which command to run.
        DamagedError: it is not what its stage writes.
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
            f"mcis.toml (`mcis init DATA` writes it); `mcis ls` shows what there is"
        )
    from mcis_cli.stages import command_of
    from mcis_cli.stages.plan.chain import plan

    planned = {one.stage: one.artifact for one in plan(workspace.settings(), data, workspace.store)}
    wanted = planned.get(stage)
    if wanted is None:
        missing = stage if stage in planned else next(name for name, artifact in planned.items() if artifact is None)
        raise MissingError(
            f"{workspace.config_file} asks for a stage that is not done: run `mcis {command_of(missing)}` first"
        )
    return wanted
