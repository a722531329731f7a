"""Completion of artifacts, splits and settings in a shell. No torch, and errors are silent."""

import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

import typer

from mcis_cli.cli.session.location import existing_store
from mcis_cli.errors import McisError
from mcis_cli.store import Store

if TYPE_CHECKING:
    from mcis_cli.config import Config, DataConfig
    from mcis_cli.stages.stage import Kind

Offer = tuple[str, str]
Complete = Callable[[typer.Context, str], list[Offer]]


def artifact(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Names, then ids, newest first, of what the command can start from: any artifact, if it is no stage's command."""
    from mcis_cli.stages import names_of, stages, stages_of

    def offers() -> Iterator[Offer]:
        first = next(iter(stages_of(ctx.info_name or "")), None)
        work = None if first is None else stages()[first].work
        kinds = next(iter(work.roles.values()), ()) if work is not None else ()
        return _artifacts(_store(ctx), names_of(*kinds))

    return _matching(offers, incomplete)


def artifact_of(*kinds: "Kind") -> Complete:
    """Names, then ids, newest first, of artifacts of some kinds."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        from mcis_cli.stages import names_of

        return _matching(lambda: _artifacts(_store(ctx), names_of(*kinds)), incomplete)

    return complete


def name(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Names of artifacts: to move, or to remove."""
    return _matching(lambda: _names(_store(ctx)), incomplete)


def stage(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Stages that artifacts were made by."""
    return _matching(lambda: ((name, "") for name in sorted(set(_made(_store(ctx)).values()))), incomplete)


def _store(ctx: typer.Context) -> Store:
    return existing_store(ctx.params.get("store"))


def _artifacts(store: Store, stages: Sequence[str]) -> Iterator[Offer]:
    """Names and ids of the artifacts of some stages; of all stages if none is given."""
    fitting = {short: name for short, name in _made(store).items() if not stages or name in stages}
    yield from ((name, target) for name, target in _names(store) if target.rpartition("-")[2] in fitting)
    yield from fitting.items()


def _made(store: Store) -> dict[str, str]:
    """The stage of each artifact by the digits in its name, newest first; no file is opened."""
    paths = sorted((store.root / "artifacts").glob("*.h5"), key=lambda path: -path.stat().st_mtime)
    return {digits: name for name, _, digits in (path.stem.rpartition("-") for path in paths)}


def _names(store: Store) -> Iterator[Offer]:
    made = _made(store)
    for name, content_id in store.names(lambda error: None).items():
        digits = content_id[:12]
        yield name, f"{made.get(digits, 'gone')}-{digits}"


def split(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The splits of the images that the command is given, or that mcis.toml names."""
    return _matching(lambda: _splits(ctx), incomplete)


def _splits(ctx: typer.Context) -> Iterator[Offer]:
    data = _images(ctx)
    if data is None:
        return
    from mcis_cli.data.reading import read_listing

    listing = read_listing(data)
    for name in sorted({name for item in listing.items for name in item.splits}):
        yield name, f"{sum(name in item.splits for item in listing.items)} images"
    yield "all", f"{len(listing.items)} images"


def _images(ctx: typer.Context) -> "DataConfig | None":
    """Where the images of a command are: by an argument or option, its artifact, or mcis.toml."""
    from mcis_cli.cli.session.workspace import open_workspace

    workspace = open_workspace(store=ctx.params.get("store"), config=ctx.params.get("config"), may_create=False)
    # The parser stops at the option that has no value yet, and leaves the arguments before it.
    given = ctx.params.get("data") or next(iter(ctx.args), None)
    if given is None:
        return workspace.data()
    if Path(given).exists() and Path(given).suffix != ".h5":
        return workspace.data(Path(given))
    return workspace.data_for(workspace.store.get(given), None, str(given))


def setting(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """`section.field=` of `--set`, and the values of those that have a few."""
    return _matching(lambda: _settings(incomplete), incomplete)


def _settings(incomplete: str) -> Iterator[Offer]:
    from mcis_cli.config import SECTIONS

    for section, model in SECTIONS.items():
        for name in model.model_fields:
            place = f"{section}.{name}="
            if not incomplete.startswith(place):
                yield place, model.description_of(name)
            else:
                yield from ((f"{place}{value}", "") for value in _values(model, name))


def preset(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Presets."""
    from mcis_cli.config import PRESETS

    return _matching(lambda: ((name, "") for name in PRESETS), incomplete)


def words(*known: str) -> Complete:
    """Words that are known before."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        return _matching(lambda: ((word, "") for word in known), incomplete)

    return complete


def _values(model: "type[Config]", name: str) -> Iterator[str]:
    kind: Any = model.model_fields[name].annotation
    kinds = typing.get_args(kind) if NoneType in typing.get_args(kind) else (kind,)
    for one in kinds:
        if typing.get_origin(one) is Literal:
            yield from map(str, typing.get_args(one))
        elif one is bool:
            yield from ("true", "false")


def _matching(offers: Callable[[], Iterable[Offer]], incomplete: str) -> list[Offer]:
    try:
        return [(word, meaning) for word, meaning in offers() if word.startswith(incomplete)]
    except (McisError, OSError):  # completion must not print errors
        return []
