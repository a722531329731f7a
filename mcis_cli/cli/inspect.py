"""`mcis ls`, `show` and `status`: what is in the store, and what is left to do. No torch."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mcis_cli.cli import options as opt
from mcis_cli.cli.output import console, say
from mcis_cli.cli.workspace import open_workspace
from mcis_cli.errors import DamagedError, UsageError
from mcis_cli.store import Artifact


def ls(
    stage: Annotated[str | None, typer.Option("--stage", help="Of this stage alone.")] = None,
    store: opt.StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List the artifacts of the store, newest last.

    Example: mcis ls --stage train-seg
    """
    workspace = open_workspace(store=store, may_create=False)
    names = {content_id: name for name, content_id in workspace.store.tags().items()}
    damaged: list[DamagedError] = []
    for artifact in workspace.store.artifacts(on_damaged=damaged.append):
        if stage is not None and artifact.stage != stage:
            continue
        size = artifact.path.stat().st_size
        created = artifact.provenance.get("created", "")[:19]
        if as_json:
            facts = {"id": artifact.id, "stage": artifact.stage, "path": str(artifact.path), "bytes": size}
            say(json.dumps({**facts, "created": created, "tag": names.get(artifact.id)}))
        else:
            tag = names.get(artifact.id, "")
            say(f"{artifact.id[:12]}  {artifact.stage:<9}  {size / 2**20:8.2f} MiB  {created}  {tag}".rstrip())
    if damaged:
        raise damaged[0]


def show(
    artifact: Annotated[str, typer.Argument(help="Path, id (8 digits or more), or tag.")],
    store: opt.StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest.")] = False,
) -> None:
    """Show what an artifact is and how it was made.

    Example: mcis show 3fa8c1d2
    """
    workspace = open_workspace(store=store, upstream=artifact, may_create=False)
    found = workspace.store.get(artifact)
    if as_json:
        say(json.dumps(found.manifest, ensure_ascii=False))
        return
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
    if found.stage == "eval":
        from mcis_cli.cli.tables import print_scores
        from mcis_cli.stages.evaluate import metrics

        print_scores(metrics(found))


def _facts(found: Artifact) -> dict[str, Any]:
    facts = {key: value for key, value in found.meta.items() if key != "class_names"}
    names = found.meta.get("class_names", [])
    return {**facts, "classes": f"{len(names)}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"}


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else " " for letter in text)


def status(
    preset: opt.Preset = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
) -> None:
    """Show which stages of the chain in mcis.toml are done.

    Example: mcis status
    """
    workspace = open_workspace(store=store, config=config, preset=preset, assignments=assignments or ())
    data = workspace.data()
    if data is None:
        raise UsageError("no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it")
    from mcis_cli.stages.plan import CHAIN, plan

    done = {planned.stage: planned.artifact for planned in plan(workspace.settings(), data, workspace.store)}
    table = Table("stage", "state", "artifact", box=None)
    for stage in CHAIN:
        artifact = done.get(stage)
        if artifact is not None:
            table.add_row(stage, Text("done", style="green"), artifact.path.stem)
        else:
            first = stage in done
            part = _partial(workspace.store.root, stage) if first else ""
            table.add_row(stage, Text("to do" if first else "waits"), f"run `mcis {stage}`{part}" if first else "")
    console().print(Text(f"{workspace.config_file}"))
    out = console()
    out.stderr = False
    out.print(table)


def _partial(root: Path, stage: str) -> str:
    started = [folder for folder in (root / "partial").glob(f"{stage}-*") if any(folder.iterdir())]
    return ", which goes on from what is there" if started else ""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ls")(ls)
    app.command("show")(show)
    app.command("status")(status)
