"""`mcis name`, `gc` and `merge`: name artifacts, remove unneeded ones, and copy from other stores. No torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import next_steps
from mcis_cli.cli.session.location import STORE_FOLDER, existing_store
from mcis_cli.cli.session.upstream import upstream_reference
from mcis_cli.cli.session.workspace import Workspace, open_workspace
from mcis_cli.cli.terminal.output import TerminalReporter, complain, say, say_path
from mcis_cli.errors import DamagedError, DataError, McisError, MissingError, UsageError, WeightsError, counted
from mcis_cli.store import Store, open_store

if TYPE_CHECKING:
    from mcis_cli.store.upkeep.collection import Scope

MIB = 2**20


def name(
    word: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Letters, digits, dot, dash, underline.", autocompletion=completion.name),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="Path, id, name, stage for its newest, or - for stdin; else the pipe.",
            autocompletion=completion.artifact,
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the name; the artifact stays.")] = False,
    store: opt.StoreFolder = None,
) -> None:
    """Give an artifact a name, which keeps it from gc, or list names.

    Example: mcis train-seg | mcis name best
    """
    if word is None or delete:
        opened = existing_store(store)
        if word is not None:
            opened.unname(word)
        elif delete:
            raise UsageError("no name is given: expected `mcis name --delete NAME`; `mcis name` lists them")
        else:
            _list_names(opened)
        return
    from mcis_cli.stages import names_of

    reference = upstream_reference(artifact, *names_of("network"))
    if reference is None:
        raise UsageError(
            f"no artifact is named: expected `mcis name {word} ARTIFACT`, or one through a pipe; see mcis ls"
        )
    opened = existing_store(store, reference)
    found = opened.get(reference)
    opened.name(word, found)
    say_path(found.path)
    TerminalReporter().suggest(*next_steps(found, word))


def _list_names(store: Store) -> None:
    names = {artifact.id: artifact.path.stem for artifact in store.artifacts(on_damaged=lambda _: None)}
    damaged: list[DamagedError] = []
    for name, content_id in store.names(damaged.append).items():
        say(f"{content_id[:12]}  {name}  {names.get(content_id, 'which is not here')}")
    if damaged:
        raise damaged[0]


@dataclass(frozen=True, kw_only=True)
class Unneeded:
    """The kinds of files to remove."""

    artifacts: Annotated[bool, typer.Option("--artifacts", help="Artifacts that nothing needs.")] = False
    partial: Annotated[bool, typer.Option("--partial", help="Unfinished work that no command is working on.")] = False
    tmp: Annotated[
        bool, typer.Option("--tmp", help="Files that killed commands left; logs and notes whose artifact is gone.")
    ] = False
    everything: Annotated[bool, typer.Option("--all", help="All three.")] = False
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage.", autocompletion=completion.stage)] = (
        None
    )
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Only if not written to for this many days."),
    ] = None

    @property
    def scopes(self) -> "frozenset[Scope]":
        """The kinds of files.

        Raises:
            UsageError: none is named.
        """
        given: dict[Scope, bool] = {"artifacts": self.artifacts, "partial": self.partial, "tmp": self.tmp}
        if not any([*given.values(), self.everything]):
            raise UsageError(
                "nothing is selected: expected --artifacts (those that nothing needs), --partial (unfinished work), "
                "--tmp (left-over files) or --all; without --delete they are only listed"
            )
        return frozenset(scope for scope, is_given in given.items() if is_given or self.everything)


def gc(
    *,
    unneeded: Unneeded,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only listed.")] = False,
    keep_config: Annotated[
        bool, typer.Option("--keep-config/--no-keep-config", help="Keep the artifacts that mcis.toml uses.")
    ] = True,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    as_json: opt.AsJson = False,
) -> None:
    """List, or remove, artifacts and files that nothing needs.

    Needed are artifacts with a name, those that mcis.toml describes, those that unfinished work or a running command
    uses, and all that these were made from.

    Example: mcis gc --artifacts --older-than 30 --delete
    """
    from mcis_cli.store.upkeep.collection import DAY, Choice, collect

    scopes = unneeded.scopes
    workspace = open_workspace(store=store, config=config, may_create=False)
    found = workspace.store
    keep = _named(workspace) if keep_config and "artifacts" in scopes else frozenset()
    choice = Choice(scopes=scopes, stage=unneeded.stage, older_than=(unneeded.older_than or 0) * DAY, keep=keep)
    gone: list[str] = []
    num_bytes = 0
    for one in collect(found, choice, delete=delete):
        path = str(one.path.relative_to(found.root))
        gone.append(path)
        num_bytes += one.num_bytes
        if not as_json:
            say(f"{one.num_bytes / MIB:10.2f} MiB  {path}")
    if as_json:
        say(json.dumps({"paths": gone, "bytes": num_bytes, "deleted": delete}))
    hint = "" if delete or not gone else "; add --delete to remove them"
    complain("gc", f"{len(gone)} {'removed' if delete else 'can be removed'}, {num_bytes / MIB:.2f} MiB{hint}")


def _named(workspace: Workspace) -> frozenset[str]:
    """Content ids of the finished stages that the configuration describes, of their scores, and of the inputs of the
    other stages."""
    if workspace.config_file is None:
        return frozenset()
    try:
        data = workspace.data()
        if data is None:
            return frozenset()
        from mcis_cli.stages import holds
        from mcis_cli.stages.plan.chain import plan

        planned = list(plan(workspace.settings(), data, workspace.store))
        made = {one.artifact.id for one in planned if one.artifact is not None}
        others = workspace.store.artifacts(on_damaged=lambda _: None)
        made |= {one.id for one in others if holds(one, "scores") and made & {*one.inputs.values()}}
        wanted = {name for one in planned for recipe in one.wanted.recipes for name in recipe.inputs.values()}
        return frozenset(made | wanted)
    except (UsageError, DataError, WeightsError, MissingError) as error:
        raise UsageError(
            f"cannot determine which artifacts {workspace.config_file} uses: {error}; or give --no-keep-config"
        ) from error


def merge(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="Another store, or the folder that contains it.")
    ],
    store: opt.StoreFolder = None,
) -> None:
    """Copy artifacts and finished work from other stores.

    Names and finished parts of unfinished work are copied, too. All of it is checked.

    Example: mcis merge /mnt/cluster/.mcis
    """
    from mcis_cli.store.upkeep.merging import merge as bring

    workspace = open_workspace(store=store)
    others = [_store_at(path) for path in stores]
    left: list[McisError] = []
    for other in others:
        count = num_parts = 0

        def report(error: McisError) -> None:
            complain("warning", f"not copied: {error}")
            left.append(error)

        for path in bring(workspace.store, other, report):
            name = path.relative_to(workspace.store.root)
            say(str(name))
            count += 1
            num_parts += name.parts[0] == "partial"
        hint = ", unfinished work among them: run its command again to resume" if num_parts else ""
        complain("merge", f"{count or 'nothing new'} from {other.root}{hint}")
    if damaged := [error for error in left if error.exit_code == DamagedError.exit_code]:
        raise DamagedError(f"not copied, because damaged: {counted(len(damaged), 'file')}, the first: {damaged[0]}")


def _store_at(path: Path) -> Store:
    inner = path / STORE_FOLDER
    return open_store(inner if inner.is_dir() else path, create=False)
