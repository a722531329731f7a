"""`mcis check` and `mcis init`: what is in a folder, what is wrong with it, and a configuration for it."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.text import Text

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import ImageOptions, Place, require_images
from mcis_cli.cli.session.parameters import add_command
from mcis_cli.cli.session.settings_file import written
from mcis_cli.cli.session.workspace import CONFIG_FILE
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, console, for_people, say
from mcis_cli.config import PRESETS, Preset, resolve
from mcis_cli.errors import CheckError, DataError, UsageError, counted

if TYPE_CHECKING:
    from mcis_cli.data.catalogue import Catalogue

STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
MAX_CLASSES = 12

Folder = Annotated[
    Path | None, typer.Argument(metavar="DATA", help="Folder of images, or a table of tags; else that of mcis.toml.")
]


def check(
    data: Folder = None,
    refs: Annotated[int, typer.Option("--refs", min=0, help="References that each class should have images for.")] = 3,
    *,
    images: ImageOptions,
    workers: opt.Workers = None,
    place: Place,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors and warnings only.")] = False,
) -> None:
    """Say what is in an image set and what is wrong with it; exit with 7 if something has to be mended.

    Example: mcis check photos/
    """
    workspace = place.open(images.flags)
    described = require_images(workspace, data, "check photos/")
    from mcis_cli.data.check import survey
    from mcis_cli.store import StatCache

    reporter = TerminalReporter(quiet=quiet)
    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        if not seen:
            reporter.start("check", total, images=1)
        reporter.advance(done - seen)
        seen = done

    options = opt.run_options(workers=workers)
    try:
        with StatCache(workspace.store.index_path) as cache:
            catalogue, findings = survey(
                described, cache, num_references=refs, workers=options.workers, progress=progress
            )
    finally:
        reporter.stop()
    errors = [finding for finding in findings if finding.severity == "error"]
    if as_json:
        listed = [{"severity": f.severity, "code": f.code, "message": f.message, "ids": list(f.ids)} for f in findings]
        say(json.dumps({"images": len(catalogue) if catalogue else 0, "findings": listed}))
    else:
        out = console()
        for finding in findings:
            if finding.severity == "error" and len(errors) == 1:
                continue  # the last line tells it
            if not quiet or finding.severity != "note":
                out.print(Text(f"{finding.severity}: {for_people(finding.message)}", style=STYLES[finding.severity]))
    if len(errors) == 1:
        raise CheckError(f"{described.root}: one thing has to be mended: {errors[0].message}")
    if errors:
        told = f"; the first: {errors[0].message}" if as_json else ""
        raise CheckError(f"{described.root}: {len(errors)} things have to be mended{told}")


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images, or a table of tags.")],
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="paper, released, quick or best (for a CPU), or lid20.",
            autocompletion=completion.words(*PRESETS),
        ),
    ] = "paper",
    *,
    images: ImageOptions,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look at a folder, say what it is taken for, and write mcis.toml for it.

    Example: mcis init photos/ --preset quick
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known: expected one of {', '.join(PRESETS)}")
    if not data.exists():
        raise UsageError(f"{data} does not exist: expected a folder of images, or a table of tags")
    given = {name: value for name, value in images.flags.tables["data"].items() if value is not None}
    target = Path(CONFIG_FILE)
    if os.path.lexists(target) and not force:
        raise UsageError(f"{target.resolve()} is there already: give --force to write over it")
    from mcis_cli.data.catalogue import count_domains
    from mcis_cli.data.evidence import of_tags, sampled_masks
    from mcis_cli.data.reading import read_catalogue

    if "saliency" in given:
        given["saliency"] = _seen_from(data, Path(given["saliency"]))
    named = resolve({"data": {"root": str(data), **given}}).data
    catalogue = read_catalogue(named)
    doubts = [*of_tags(catalogue), *sampled_masks(catalogue)]
    if fault := next((doubt for doubt in doubts if doubt.severity == "error"), None):
        raise DataError(f"{data}: {fault.message}")
    mapped = catalogue.split("all")
    num_salient = sum(entry.saliency is not None for entry in mapped.entries)
    settings = resolve({}, cast(Preset, preset))
    background = settings.pseudo.background
    if background == "saliency" and num_salient < len(mapped):
        background = "constant"
    splits = {name: len(catalogue.split(name)) for name in catalogue.split_names}
    train = "train" if "train" in splits else max(splits, key=lambda name: splits[name], default="all")
    val = "val" if "val" in splits else train
    chosen: dict[str, dict[str, Any]] = {
        "data": {
            "root": str(data),
            "layout": catalogue.layout,
            **{name: getattr(named, name) for name in given},
            "train": train,
            "val": val,
        },
        "train-cls": {"seed": 0, "loss": settings.train_cls.loss},
        "cams": {"refs": settings.cams.refs},
        "pseudo": {"background": background},
        "train-seg": {"seed": 0},
        "eval": {"crf": True},
    }
    content = written(cast(Preset, preset), chosen)
    OutputFolder(Path(), "cd FOLDER").write(target, content.encode())
    out = console()
    out.print(
        f"{data}: layout {catalogue.layout}, {counted(len(mapped), 'image')}, "
        f"{counted(catalogue.num_foreground, 'class', 'classes')}; "
        f"{', '.join(f'{name} {count}' for name, count in splits.items())}"
    )
    out.print(
        f"classes: {', '.join(catalogue.class_names[:MAX_CLASSES])}{', …' * (len(catalogue.class_names) > MAX_CLASSES)}"
    )
    for doubt in doubts:
        out.print(Text(f"warning: {for_people(doubt.message)}", style=STYLES["warning"]))
    if named.sources:
        counts = count_domains(catalogue).items()
        further = ", ".join(f"{domain} {count}" for domain, count in counts if domain != "target")
        out.print(f"further images to learn from: {further}")
    out.print(f"learns from {train}, scored on {val}: {_told(catalogue.split(val))}")
    without = ", so a constant background score is used" if background == "constant" else ""
    out.print(f"saliency maps: {_share(num_salient, len(mapped))}{without}")
    out.print("next: `mcis run` for everything, or `mcis train-cls` for the first stage")
    say(str(target))


def _seen_from(data: Path, folder: Path) -> str:
    """The path of a folder as seen from the images."""
    root = (data if data.is_dir() else data.parent).resolve()
    return os.path.relpath(folder.resolve(), root)


def _told(scored: "Catalogue") -> str:
    """Whether there is ground truth for a split."""
    num_masks = sum(entry.mask is not None for entry in scored.entries)
    without = "" if num_masks == len(scored) else ", so `mcis run` ends with the network"
    return f"ground truth {_share(num_masks, len(scored))}{without}"


def _share(count: int, total: int) -> str:
    return "none" if not count else "all there" if count == total else f"{count} of {total}"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_command(app, "check", check)
    add_command(app, "init", init)
