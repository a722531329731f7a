"""The settings of a prediction, for the commands that make one."""

from mcis_cli.cli.session.settings_file import toml
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter
from mcis_cli.config import EvalConfig
from mcis_cli.store import Artifact


def prediction_settings(
    command: str, workspace: Workspace, upstream: Artifact, reporter: TerminalReporter
) -> EvalConfig:
    """The settings of a prediction: flags, and the settings of a file if `--config` names one, which are printed."""
    given, all_given = workspace.named.get("eval", {}), workspace.tables.get("eval", {})
    of_file = [f"{name} = {toml(value)}" for name, value in all_given.items() if name not in given]
    if workspace.is_file_named and of_file:
        reporter.note(f"{command}: from [eval] of {workspace.config_file}: {', '.join(of_file)}")
    return workspace.settings_apart_from_file(upstream).eval
