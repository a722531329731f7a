"""`mcis review`: which pseudo masks are most likely wrong."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Start
from mcis_cli.cli.session.groups import PartOptions, PipelineOptions
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.terminal.output import TerminalReporter, say, say_columns
from mcis_cli.cli.terminal.page_file import ReviewFile
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.review.ranking import Reviewed


def review(
    masks: opt.Upstream = None,
    *,
    network: Annotated[
        str | None,
        opt.artifact("--network", "network", "Also compare the masks with predictions of this network."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=5000, help="Masks to list and to show.")] = 50,
    page: ReviewFile,
    flags: Annotated[Flags, SectionFlags("review")],
    data: opt.DataOption = None,
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Rank pseudo masks by how likely they are wrong.

    Prints a line for each mask, the most likely wrong one first: id, score in [0, 1] and reasons, with tabs between
    them. Also writes a page with these masks. No ground truth is used.

    Example: mcis review --count 20 | mcis export pseudo --cvat --ids -
    """
    call = Call("review", flags, options, parts)
    start = call.start(masks, data)
    start = replace(start, network=None if network is None else start.workspace.store.get(network))
    target = None if options.dry_run else page.checked()

    def show(made: Artifact, reporter: TerminalReporter) -> None:
        from mcis_cli.stages.review.ranking import ranking

        found = ranking(made)
        assert target is not None, "a dry run shows nothing"
        folder, name = target
        try:
            content = _page(start, found, options, reporter, count)
        finally:
            reporter.stop()
        folder.write(name, content.encode())
        reporter.note(f"review: {min(count, len(found))} of {len(found)} masks are on the page {page.output}")
        _print(found[:count], options)

    evidence = "maps" if network is None else "maps and network"
    call.run(start, facts={"evidence": evidence}, show=show)


def _page(
    start: Start, found: "Sequence[Reviewed]", options: PipelineOptions, reporter: TerminalReporter, count: int
) -> str:
    from mcis_cli.report.page import render_review
    from mcis_cli.report.review import gather

    of_machine = opt.run_options(device=options.device, workers=options.workers, reporter=reporter)
    store = start.workspace.store
    return render_review(gather(start.artifact, found, start.network, store, start.images, of_machine, count=count))


def _print(found: "Sequence[Reviewed]", options: PipelineOptions) -> None:
    for one in found:
        if options.as_json:
            say(json.dumps({"id": one.image_id, "score": one.score, "reasons": list(one.reasons)}))
        else:
            say_columns(one.image_id, *(() if options.quiet else (f"{one.score:.3f}", "; ".join(one.reasons))))
