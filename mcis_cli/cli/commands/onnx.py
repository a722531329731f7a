"""`mcis export --onnx`: a network as ONNX files, with its model card."""

from importlib.util import find_spec
from pathlib import Path

from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.errors import UsageError, counted
from mcis_cli.store import Artifact

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Check, before any work, that the packages that only this command needs are installed.

    Raises:
        UsageError: one is not.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UsageError(
            f"--onnx needs the packages {', '.join(PACKAGES)}, and {missing[0]} is not installed; pip install "
            "'mcis[onnx]'"
        )


def write_onnx(workspace: Workspace, network: Artifact, output: Path, *, force: bool, quiet: bool) -> None:
    """Write the files of a network, then its card README.md, and print their folder.

    Args:
        workspace: has its scores.
        network: of `train-seg` or `train-cls`.
        output: the folder.
        force: write into a folder that is not empty.
        quiet: show no progress.

    Raises:
        UsageError: the artifact is of another stage.
        CheckError: onnxruntime gives other values than the network.
    """
    from mcis_cli.interop.exports import onnx as stage
    from mcis_cli.interop.exports.model_card import card_of, markdown
    from mcis_cli.stages.engine.inputs import Inputs

    graphs, scale = stage.graphs_of(Inputs(upstream=network).expect(*stage.NETWORKS))
    folder = OutputFolder(output, "--output")
    folder.require(empty=not force)
    reporter = TerminalReporter(quiet=quiet)
    card = card_of(
        network, workspace.store, scale=scale, on_damaged=lambda error: reporter.warn(f"left out of the card: {error}")
    )
    reporter.start("export", len(graphs))
    try:
        made = []
        for exported in stage.export(graphs, card.facts()):
            made.append(exported)
            reporter.advance()
        for exported in made:
            folder.write(Path(f"{exported.graph.name}.onnx"), exported.content)
        folder.write(Path("README.md"), markdown(card, made))
    finally:
        reporter.stop()
    largest = max(one.difference for one in made)
    reporter.note(
        f"export: {counted(len(made), 'network')} in {output}, onnxruntime and PyTorch differ by {largest:.1e} at most"
    )
    say_path(output)
    reporter.suggest(f"{output / 'README.md'} describes the files and how to use them")
