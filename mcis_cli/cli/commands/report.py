"""`mcis report`: one HTML page that shows a run."""

from dataclasses import dataclass
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import TerminalReporter, say_path
from mcis_cli.cli.terminal.page_file import PageFile
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.store import Artifact


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows, and how it is made."""

    images: Annotated[int, typer.Option("--images", min=0, max=5000, help="Images in the gallery, at most.")] = 60
    references: Annotated[int, typer.Option("--references", min=0, help="Images of the reference gallery.")] = 8
    attention: Annotated[
        bool, typer.Option("--attention/--no-attention", help="Show where the classifier attends in references.")
    ] = True
    predictions: Annotated[
        bool, typer.Option("--predictions/--no-predictions", help="Predict the gallery's images with the network.")
    ] = True
    data: opt.DataOption = None
    device: opt.Device = "auto"
    preset: opt.Preset = None


def report(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="Paths, ids, names or stages of one run; else what mcis.toml names, or the newest.",
            autocompletion=completion.artifact,
        ),
    ] = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two runs side by side, each named by one artifact."),
    ] = None,
    *,
    page: PageFile,
    shown: Shown,
    place: Place,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write one HTML page about a run: scores, curves, galleries.

    Example: mcis report --output report.html
    """
    if artifacts and pair:
        raise UsageError(f"--compare already names the two runs: leave out {artifacts[0]}")
    named = [*pair] if pair else artifacts or []
    workspace = place.open(preset=shown.preset, upstream=named[0] if named else None, may_create=False)
    folder, name = page.checked()
    reporter = TerminalReporter(quiet=quiet)
    try:
        content = _page(workspace, _given(workspace, named), pair, shown, reporter)
    finally:
        reporter.stop()
    say_path(folder.write(name, content.encode()))
    reporter.suggest(f"open {page.output} in a browser")


def _page(
    workspace: Workspace,
    given: list[Artifact],
    pair: tuple[str, str] | None,
    shown: Shown,
    reporter: TerminalReporter,
) -> str:
    from mcis_cli.report.comparison import compare
    from mcis_cli.report.content import Wanted, gather
    from mcis_cli.report.page import render, render_comparison
    from mcis_cli.stages.plan.lineage import trace

    options = opt.run_options(device=shown.device, reporter=reporter)
    wanted = Wanted(
        images=shown.images, references=shown.references, attention=shown.attention, predictions=shown.predictions
    )
    of_images = workspace.data(shown.data) if shown.data is not None else None  # otherwise where they were listed
    store = workspace.store
    if pair:
        first, second = (trace([one], store) for one in given)
        return render_comparison(compare(first, second, pair, store, of_images, wanted, options))
    return render(gather(trace(given, store), store, of_images, wanted, options))


def _given(workspace: Workspace, references: list[str]) -> list[Artifact]:
    """The artifacts that were named; else the last finished one that the configuration leads to; else the newest."""
    if references:
        found = [workspace.store.get(reference) for reference in references]
        for artifact in found:
            if artifact.path.parent != workspace.store.root / "artifacts":
                artifact.check()  # a file from elsewhere: verify all of it before showing any of it
        return found
    from mcis_cli.stages.plan.lineage import newest

    last = _asked(workspace) or newest(workspace.store)
    if last is None:
        raise MissingError(
            f"{workspace.store.root} has no artifacts to report on yet: run `mcis train-cls`, or `mcis run`"
        )
    return [last]


def _asked(workspace: Workspace) -> Artifact | None:
    """The last artifact of the chain that the configuration describes; None also if its images are gone."""
    from mcis_cli.stages.plan.chain import plan

    try:
        if (data := workspace.data()) is None:
            return None
        planned = [one.artifact for one in plan(workspace.settings(), data, workspace.store)]
    except (UsageError, DataError):
        return None
    return next((artifact for artifact in reversed(planned) if artifact is not None), None)
