"""The flags that name further images to learn from, and the settings they stand for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mcis_cli.config import Domain
from mcis_cli.errors import UsageError

SingleLabel = Annotated[
    list[Path] | None,
    typer.Option("--single-label", help="More images, with one label each: a folder per class, or a list. Repeatable."),
]
Web = Annotated[
    list[Path] | None,
    typer.Option("--web", help="More images, as a search found them: a folder per class, or a list. Repeatable."),
]
ListTags = Annotated[
    str | None,
    typer.Option("--list-tags", help="Tags of a line `path tag ...` of such a list: one (default), first, or all."),
]


def named_sources(
    single_label: Sequence[Path] | None, web: Sequence[Path] | None, list_tags: str | None
) -> list[dict[str, Any]] | None:
    """The value of `data.sources` that flags ask for, which goes before that of mcis.toml; None where they name none.

    Raises:
        UsageError: something is said of lists, and none is named.
    """
    given: list[tuple[Domain, Path]] = [("single-label", path) for path in single_label or ()]
    given += [("web", path) for path in web or ()]
    if not given and list_tags is not None:
        raise UsageError("--list-tags is about the lists of --single-label and --web, found neither; give one of them")
    about = {} if list_tags is None else {"list_tags": list_tags}
    return [{"root": str(path), "domain": domain, **about} for domain, path in given] or None
