"""Options that several commands share, each declared once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.cli.session import completion, launched
from mcis_cli.errors import UsageError

if TYPE_CHECKING:
    from mcis_cli.config import RunOptions
    from mcis_cli.stages.stage import Kind
    from mcis_cli.store import Store


def _device(name: str) -> str:
    """The name of a device; whether it exists is checked later, with torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"no device is called {name!r}, expected auto, cpu, cuda, cuda:N or mps; give --device auto")
    return name


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Number and count of a shard.

    Raises:
        UsageError: something else, or no number from 1 to the count.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise UsageError(
            f"shard {text!r:.80} is not understood, expected a number and a count, as in --shard 1/4 to 4/4"
        )
    return int(match[1]), int(match[2])


def _shard(text: str | None) -> str | None:
    parse_shard(text)
    return text


ENGINES = ("here", "processes", "ray")


def _engine(name: str) -> str:
    if name not in ENGINES:
        raise UsageError(f"no engine is called {name!r:.80}, expected {', '.join(ENGINES)}; give --engine here")
    return name


PRESET_NAMES = "best (for a CPU), quick (for trying things out: fast, poorer masks), paper, released, or lid20"

Images = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder of images with tags, or a table; else that of mcis.toml."),
]
Upstream = Annotated[
    str | None,
    typer.Argument(
        metavar="ARTIFACT",
        help="Path, id, name, stage for its newest, or - for stdin; else the pipe, else what mcis.toml names.",
        autocompletion=completion.artifact,
    ),
]


def artifact(flag: str, kind: "Kind", help: str) -> Any:
    """An option that takes an artifact, and offers those of a kind to complete it."""
    return typer.Option(flag, metavar="ARTIFACT", help=help, autocompletion=completion.artifact_of(kind))


DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the images, if it has moved.")]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help=f"{PRESET_NAMES}. Default: that of mcis.toml, else of the artifact, else best.",
        autocompletion=completion.preset,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Any other setting; may be given more than once.",
        autocompletion=completion.setting,
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file; else mcis.toml here or in a folder above.")
]
PredictionConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file; its section [eval] is used only if you name it here.")
]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", help="Folder of the store; else .mcis here or in a folder above.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_device,
        help="auto, cpu, cuda, cuda:1, mps.",
        autocompletion=completion.words("auto", "cpu", "cuda", "mps"),
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Threads or processes that read and finish images; never changes a result. Default: one per core.",
    ),
]
Ids = Annotated[
    Path | None,
    typer.Option(
        "--ids", metavar="FILE|-", help="Only the images of this list, as mcis review prints it; - for stdin."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the id alone, and no progress.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would run, why, its cost, and what is missing; write nothing.")
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        callback=_shard,
        help="Compute part I of N while other commands compute the rest; the last one seals.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINES),
        callback=_engine,
        help="Where images are computed: in this process, in --workers processes, or on the Ray cluster at RAY_ADDRESS "
        "(else by Ray on this machine).",
        autocompletion=completion.words(*ENGINES),
    ),
]
Mixed = Annotated[
    bool,
    typer.Option(
        "--mixed",
        help="Seal parts that were computed with different threads, instructions or devices; the artifact lists them.",
    ),
]


def words(text: str | None) -> tuple[str, ...] | None:
    """Words separated by commas."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers separated by commas.

    Raises:
        typer.BadParameter: something else.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r:.80} is not understood: expected numbers and commas, as in 0.5,1,1.5"
        ) from error


def whole_numbers(flag: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers from 0 on, separated by commas.

    Raises:
        typer.BadParameter: something else.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise typer.BadParameter(f"{flag} {text!r:.80} is not understood: expected whole numbers, as in 3 or 0,1,3,5")
    return tuple(map(int, parts))


@contextmanager
def with_engine(name: str, options: "RunOptions", store: "Store") -> "Iterator[RunOptions]":
    """The options with an engine, which ends with the block."""
    if name == "here":
        yield options
        return
    from mcis_cli.stages.engine import engines

    with engines.opened(name, options, store.scratch_folder) as having:
        yield having


def run_options(*, device: str = "auto", workers: int | None = None, **others: Any) -> "RunOptions":
    """Run options from flags, or their defaults; processes on one machine share its cores."""
    from mcis_cli.config import RunOptions

    given: dict[str, Any] = {} if workers is None else {"workers": workers}
    if workers is None and (sharing := launched.num_local()) > 1:
        given = {"workers": max(1, RunOptions().workers // sharing)}
    return RunOptions(device=device, local=launched.local(), **given, **others)
