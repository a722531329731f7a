"""`mcis check`, `init` and `coco-masks`: describe a folder, write its configuration, and make masks from outlines."""

import json
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.text import Text

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import ImageOptions, Place, require_images
from mcis_cli.cli.session.location import CONFIG_FILE
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.settings_file import written
from mcis_cli.cli.session.workspace import KINDS_OF_DATA, Workspace
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, console, for_people, say, say_path
from mcis_cli.config import DEFAULT_PRESET, PRESETS, DataConfig, Preset, resolve
from mcis_cli.data.places import may_exist, url_of
from mcis_cli.errors import CheckError, DataError, UsageError, counted

if TYPE_CHECKING:
    from mcis_cli.data.catalogue import Catalogue

STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
MAX_CLASSES = 12

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder, table, list, tar shard or URL of images; else that of mcis.toml."),
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
    """Report what an image set contains and what is wrong with it.

    Exits with 7 if something must be fixed. Makes no store.

    Example: mcis check photos/
    """
    workspace = place.open(images.flags, may_create=False)
    described = require_images(workspace, data, "check photos/")
    from mcis_cli.data.check import survey
    from mcis_cli.store import StatCache

    reporter = TerminalReporter(quiet=quiet)
    options, progress = opt.run_options(workers=workers), reporter.counting("check", images=1)
    try:
        with StatCache(workspace.store.index_path if workspace.has_store else None) as cache:
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
                continue  # the last line, which is the error itself, has it
            if not quiet or finding.severity != "note":
                out.print(Text(f"{finding.severity}: {for_people(finding.message)}", style=STYLES[finding.severity]))
    if not errors and not as_json:
        reporter.suggest(_after_check(workspace, str(data or described.root)))
    if len(errors) == 1:
        raise CheckError(f"{described.root}: 1 error: {errors[0].message}")
    if errors:
        first = f"; the first: {errors[0].message}" if as_json else ""
        raise CheckError(f"{described.root}: {len(errors)} errors{first}")


def _after_check(workspace: Workspace, data: str) -> str:
    """The command that follows a check without errors."""
    if workspace.config_file is not None:
        return "`mcis run` runs all stages"
    return f"`{shlex.join(['mcis', 'init', data])}` writes mcis.toml for these images"


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder, table, list, tar shard or URL of images.")],
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help=f"{opt.PRESET_NAMES}.",
            autocompletion=completion.words(*PRESETS),
        ),
    ] = DEFAULT_PRESET,
    *,
    images: ImageOptions,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Detect the layout of an image set and write mcis.toml for it.

    Example: mcis init photos/
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known: expected one of {', '.join(PRESETS)}")
    if not may_exist(data):
        raise UsageError(f"{data} does not exist: expected {KINDS_OF_DATA}")
    given = {name: value for name, value in images.flags.tables["data"].items() if value is not None}
    target = Path(CONFIG_FILE)
    if os.path.lexists(target) and not force:
        raise UsageError(f"{target.resolve()} already exists: give --force to overwrite it")
    from mcis_cli.data.evidence import of_tags, sampled_masks
    from mcis_cli.data.reading import read_catalogue

    if "saliency" in given:
        given["saliency"] = _seen_from(data, Path(given["saliency"]))
    named = resolve({"data": {"root": url_of(data) or str(data), **given}}).data
    catalogue = read_catalogue(named)
    doubts = [*of_tags(catalogue), *sampled_masks(catalogue)]
    if fault := next((doubt for doubt in doubts if doubt.severity == "error"), None):
        raise DataError(f"{data}: {fault.message}")
    chosen = _fitting_settings(catalogue, named, cast(Preset, preset), given)
    OutputFolder(Path(), "cd FOLDER").write(target, written(cast(Preset, preset), chosen).encode())
    for line in _described(catalogue, data, chosen):
        console().print(line)
    for doubt in doubts:
        console().print(Text(f"warning: {for_people(doubt.message)}", style=STYLES["warning"]))
    say(str(target))
    TerminalReporter().suggest("`mcis run` runs all stages", "`mcis train-cls` the first one")


def _fitting_settings(
    catalogue: "Catalogue", named: DataConfig, preset: Preset, given: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The settings that the file sets, by section: those that fit the images, and the most important ones."""
    settings, mapped = resolve({}, preset), catalogue.split("all")
    background = settings.pseudo.background
    if background == "saliency" and any(entry.saliency is None for entry in mapped.entries):
        background = "otsu"
    splits = {name: len(catalogue.split(name)) for name in catalogue.split_names}
    train = "train" if "train" in splits else max(splits, key=lambda name: splits[name], default="all")
    place = {"root": named.root, "layout": catalogue.layout, **{name: getattr(named, name) for name in given}}
    return {
        "data": {**place, "train": train, "val": "val" if "val" in splits else train},
        "train-cls": {"seed": 0, "loss": settings.train_cls.loss},
        "cams": {"refs": settings.cams.refs},
        "pseudo": {"background": background},
        "train-seg": {"seed": 0},
        "eval": {"crf": True},
    }


def _described(catalogue: "Catalogue", data: Path, chosen: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What was found in a folder, line by line."""
    from mcis_cli.data.catalogue import count_domains

    mapped, names = catalogue.split("all"), catalogue.class_names
    splits = ", ".join(f"{name} {len(catalogue.split(name))}" for name in catalogue.split_names)
    counts = f"{counted(len(mapped), 'image')}, {counted(catalogue.num_foreground, 'class', 'classes')}"
    yield f"{data}: layout {catalogue.layout}, {counts}; {splits}"
    yield f"classes: {', '.join(names[:MAX_CLASSES])}{', …' * (len(names) > MAX_CLASSES)}"
    further = [f"{domain} {count}" for domain, count in count_domains(catalogue).items() if domain != "target"]
    if further:
        yield f"further images to learn from: {', '.join(further)}"
    train, val = chosen["data"]["train"], chosen["data"]["val"]
    yield f"learns from {train}, scored on {val}; {_truth_of(catalogue.split(val))}"
    num_salient = sum(entry.saliency is not None for entry in mapped.entries)
    without = ""
    if chosen["pseudo"]["background"] == "otsu":
        folder = Path("saliency") if url_of(data) else (data if data.is_dir() else data.parent) / "saliency"
        command = shlex.join(["mcis", "saliency", str(data), "-o", str(folder)])
        without = f", so the background comes from the maps alone (otsu); for better masks, first `{command}`"
    yield f"saliency maps: {_share(num_salient, len(mapped))}{without}"


def _seen_from(data: Path, folder: Path) -> str:
    """The path of a folder as seen from the images."""
    if url_of(data) is not None:
        return str(folder.resolve())
    root = (data if data.is_dir() else data.parent).resolve()
    return os.path.relpath(folder.resolve(), root)


def _truth_of(scored: "Catalogue") -> str:
    """Whether there is ground truth for a split."""
    num_masks = sum(entry.mask is not None for entry in scored.entries)
    without = "" if num_masks == len(scored) else ", so `mcis run` ends with the network"
    return f"ground truth: {_share(num_masks, len(scored))}{without}"


def _share(count: int, total: int) -> str:
    return "none" if not count else "complete" if count == total else f"{count} of {total}"


def coco_masks(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Folder in the layout of COCO.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the masks; else DATA/masks, where they count as ground truth."),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Split of the data set; all means every image.", autocompletion=completion.split),
    ] = "val",
    *,
    described: Annotated[Flags, SectionFlags("data", "tags")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    place: Place,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write ground truth from the outlines of COCO annotations.

    Prints the folder of the masks.

    Example: mcis coco-masks coco/ --split val
    """
    workspace = place.open(described, may_create=False)
    images = require_images(workspace, data, "coco-masks coco/")
    from mcis_cli.data.palette import write_mask_png
    from mcis_cli.data.reading import layout_of, read_catalogue, require_root
    from mcis_cli.interop.coco_masks import outline_masks

    catalogue, root = read_catalogue(images), require_root(images)
    outlines = layout_of(images, root).outlines
    if outlines is None:
        raise UsageError(
            f"{images.root} has the layout {catalogue.layout}: expected one with outlines, as COCO has them"
        )
    wanted = catalogue.split(split)
    if output is None and url_of(images.root):
        raise UsageError(f"masks cannot be written to {images.root}: give --output FOLDER")
    target = output or catalogue.root / "masks"
    folder = OutputFolder(target, "--output")
    folder.require(empty=not force)
    reporter = TerminalReporter(quiet=quiet)
    reporter.start("coco-masks", len(wanted), images=1)
    try:
        for image_id, mask in outline_masks(outlines(images, root), wanted):
            folder.write(Path(f"{image_id}.png"), write_mask_png(mask))
            reporter.advance()
    finally:
        reporter.stop()
    reporter.note(f"coco-masks: {counted(len(wanted), 'mask')} in {target}")
    say_path(target)
