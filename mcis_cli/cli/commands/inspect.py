"""`mcis show` and `status`: how an artifact was made, and which stages are still to run. No torch."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.location import existing_store
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.output import console, results, say
from mcis_cli.config import DataConfig
from mcis_cli.errors import CheckError, UsageError, plain
from mcis_cli.store import Artifact, Store

if TYPE_CHECKING:
    from mcis_cli.stages.plan.chain import Planned, Step


def show(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT",
            help="Path, id, name, or stage for its newest; with --why also a key.",
            autocompletion=completion.artifact,
        ),
    ],
    why: Annotated[
        bool,
        typer.Option("--why", help="Show what differs from mcis.toml: why the stage would run again."),
    ] = False,
    *,
    preset: opt.Preset = None,
    place: Place,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest; with --why one object.")] = False,
) -> None:
    """Show how an artifact was made, or why its stage would rerun.

    Example: mcis show 3fa8c1d2
    """
    if why:
        _show_why(place.open(preset=preset, upstream=artifact, may_create=False), artifact, as_json)
        return
    if preset or place.assignments or place.config:
        raise UsageError("--preset, --set and --config have an effect only with --why: add it, or leave them out")
    store = existing_store(place.store, artifact)
    found = store.get(artifact)
    if found.path.parent != store.root / "artifacts":
        found.check()  # a file from elsewhere: verify all of it before printing any of it
    if as_json:
        say(json.dumps(found.manifest))
    else:
        _print_artifact(found, store)


def _print_artifact(found: Artifact, store: Store) -> None:
    say(f"{found.path.stem}")
    say(f"id      {found.id}")
    say(f"key     {found.key}")
    for heading, values in (
        ("inputs", found.inputs),
        ("settings", found.manifest["recipe"]["config"]),
        ("facts", _facts(found)),
        ("made", found.provenance),
    ):
        say(heading)
        for name, value in values.items():
            say(f"  {name:<22} {_plain(value)}")
    from mcis_cli.stages import holds

    if holds(found, "scores"):
        from mcis_cli.cli.terminal.tables import print_scores
        from mcis_cli.stages.evaluate.run import metrics
        from mcis_cli.stages.plan.lineage import beyond_tags

        print_scores(metrics(found), beyond_tags(found, store))


def _facts(found: Artifact) -> dict[str, Any]:
    facts = {key: value for key, value in found.meta.items() if key != "class_names"}
    named = found.meta.get("class_names")
    names = [str(name) for name in named] if isinstance(named, list) else []
    classes = f"{len(names)}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
    return {**facts, "classes": classes} if names else facts


def _plain(value: object) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _show_why(workspace: Workspace, ref: str, as_json: bool) -> None:
    from mcis_cli.stages.plan.why import explain

    found = explain(ref, workspace.settings(), _data(workspace), workspace.store)
    if as_json:
        differences = [{"field": one.field, "then": one.then, "now": one.now} for one in found.differences]
        facts = {"stage": found.then.stage, "key": found.then.key, "artifact": found.made}
        say(json.dumps({**facts, "differences": differences}))
        return
    for one in found.differences:
        say(_plain(f"{one.field}: {one.text}"))
    what = found.made or f"{found.then.stage} of key {found.then.key[:12]}, which was begun"
    if found.differences:
        console().print(Text(f"mcis: {what}, compared with the settings in {workspace.config_file}"))
    elif found.exists:
        say("nothing differs: the stage is cached")
    else:
        say(f"nothing differs; the stage {'runs again' if found.made else 'resumes'} when its artifact is needed")


def status(
    preset: opt.Preset = None,
    *,
    place: Place,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 7 if a stage has not run.")] = False,
) -> None:
    """Show which stages of mcis.toml are done and what is next.

    Writes nothing.

    Example: mcis status
    """
    workspace = place.open(preset=preset, may_create=False)
    data = _data(workspace)
    from mcis_cli.data.reading import read_listing
    from mcis_cli.stages import command_of
    from mcis_cli.stages.plan.chain import chain_of, needed, num_listed_without_truth, plan, possible

    settings = workspace.settings()
    planned: dict[str, Planned] = {}
    if workspace.has_store:
        planned = {one.step.name: one for one in plan(settings, data, workspace.store)}
    chain, listing = chain_of(settings), read_listing(data)
    can_run = possible(settings, lambda step: num_listed_without_truth(step, data, listing))
    unneeded = tuple(chain)[: -len(needed(settings))]
    table = Table("stage", "state", "artifact", box=None)
    is_done = True
    for number, (name, step) in enumerate(chain.items()):
        if name in unneeded:
            state, detail = "left out", "the network learns from ground truth"  # as `mcis run` does
        elif name not in can_run:
            state, detail = "left out", "images without ground truth"  # as `mcis run` does
        elif not planned and number == len(unneeded):
            state, detail = "to do", f"run `mcis {command_of(step.stage)}`"
        else:
            state, detail = _state(planned.get(name), step)
        is_done &= state in ("done", "left out")
        table.add_row(name, Text(state, style="green" if state == "done" else ""), detail)
    console().print(Text(f"{workspace.config_file}"))
    results().print(table)
    if exit_code and not is_done:
        raise typer.Exit(CheckError.exit_code)


def _state(planned: "Planned | None", step: "Step") -> tuple[str, str]:
    """A step's state, and its artifact or what to do."""
    if planned is None:
        return "waits", ""
    if planned.artifact is not None:
        return "done", planned.artifact.path.stem
    from mcis_cli.stages import command_of

    return "to do", f"run `mcis {'run' if step.of else command_of(step.stage)}`{_progress(planned)}"


def _progress(planned: "Planned") -> str:
    return "" if planned.begun is None else f", which {planned.wanted.resumes(planned.begun)}"


def _data(workspace: Workspace) -> DataConfig:
    data = workspace.data()
    if data is None:
        raise UsageError("no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it")
    return data
