"""The commands of the pipeline, in its order. Each prints one line: its artifact, made now or cached.

Their options are the flags of their section of the settings, and groups that they share.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Start
from mcis_cli.cli.session.groups import ImageOptions, PartOptions, PipelineOptions, require_images
from mcis_cli.cli.session.section_flags import Flags, SectionFlags
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.config import RunOptions, Settings
from mcis_cli.errors import CheckError, MissingError, UsageError
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.plan.forecast import Forecast, Forecaster


def train_cls(
    data: opt.Images = None,
    *,
    flags: Annotated[Flags, SectionFlags("train-cls")],
    split: Annotated[Flags, SectionFlags("data", "train")],
    images: ImageOptions,
    options: PipelineOptions,
) -> None:
    """Train the co-attention classifier on images with tags.

    Example: mcis train-cls photos/ --preset best
    """
    of_data = {**split.tables["data"], **images.flags.tables["data"]}
    call = Call("train-cls", flags.and_also("data", **of_data), options)
    workspace = call.open()
    start = Start(workspace, None, require_images(workspace, data, "train-cls photos/"))
    call.run(start)


def cams(
    classifier: opt.Upstream = None,
    *,
    flags: Annotated[Flags, SectionFlags("cams")],
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=1, help="Features to keep in memory, in MiB.")] = 2048,
    scratch_mb: Annotated[
        int,
        typer.Option(
            "--scratch-mb",
            min=0,
            help="Features to keep on disk when memory is full, in MiB; at least as much is left free, and "
            "the files are removed at the end.",
        ),
    ] = 20_480,
    data: opt.DataOption = None,
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Make localization maps: where in each image its tags are.

    Example: mcis cams --refs 3
    """
    call = Call("cams", flags, options, parts)
    start = call.start(classifier, data)

    def work(settings: Settings, options: RunOptions) -> Sequence[Artifact]:
        from mcis_cli.stages.cams import run as stage

        configs = [one.cams for one in call.variants(settings)]
        most = max(configs, key=lambda one: one.refs)
        call.warn_without_effect(start.workspace, most, options.reporter)
        options = replace(options, cache_mb=cache_mb, scratch_mb=scratch_mb)
        return stage.run_all(configs, start.inputs(), start.workspace.store, options)

    call.run(start, work)


def average(
    maps: Annotated[
        list[str],
        typer.Argument(
            metavar="MAPS",
            help="Two or more artifacts of maps of the same images: path, id or name.",
            autocompletion=completion.artifact,
        ),
    ],
    *,
    flags: Annotated[Flags, SectionFlags("average")],
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Combine the localization maps of several classifiers.

    The result can be used wherever maps can: by pseudo, affinity, eval, report and export.

    Example: mcis average lite0-maps vgg16-maps | mcis pseudo
    """
    call = Call("average", flags, options, parts)
    start = call.start(maps[0], None)
    call.run(replace(start, more=tuple(map(start.workspace.store.get, maps[1:]))))


def affinity(
    maps: opt.Upstream = None,
    *,
    network: Annotated[
        str | None,
        opt.artifact("--network", "affinities", "Use this AffinityNet for the walk; else one is trained on the maps."),
    ] = None,
    flags: Annotated[Flags, SectionFlags("affinity")],
    data: opt.DataOption = None,
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Refine localization maps by a random walk over AffinityNet.

    AffinityNet learns from confident regions of the maps which pixels belong together. Without --network it is trained
    first, on these maps.

    Example: mcis affinity --backbone resnet38
    """
    call = Call("affinity", flags, options, parts)
    start = call.start(maps, data)
    named = None if network is None else start.workspace.store.get(network)
    if named is not None:
        call.run(replace(start, network=named), facts={"part": "walk"})
        return
    from mcis_cli.stages import stages_of
    from mcis_cli.stages.plan.chain import run_stages

    names, made = stages_of("affinity"), {start.artifact.stage: start.artifact}

    def work(settings: Settings, options: RunOptions) -> Artifact:
        *before, walked = run_stages(names, settings, start.images, start.workspace.store, options, made)
        for artifact in before:
            options.reporter.note(f"{artifact.stage}: {artifact.path.stem}")
        return walked

    def foretell(looking: "Forecaster", settings: Settings) -> "Iterable[Forecast]":
        return looking.chain(settings, names, made=made)

    call.run(start, work, foretell=foretell)


def pseudo(
    maps: opt.Upstream = None,
    *,
    flags: Annotated[Flags, SectionFlags("pseudo")],
    saliency: Annotated[
        Path | None,
        typer.Option(
            "--saliency",
            help="Saliency maps: a folder, or an artifact of saliency or import.",
            autocompletion=completion.artifact_of("saliency maps"),
        ),
    ] = None,
    network: Annotated[
        str | None,
        opt.artifact("--network", "network", "A second round: use this segmentation network beside the maps."),
    ] = None,
    corrected: Annotated[
        str | None,
        opt.artifact(
            "--corrected",
            "corrected masks",
            "Masks of mcis import --corrected, which override others.",
        ),
    ] = None,
    data: opt.DataOption = None,
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Turn localization maps into pseudo masks.

    Every score and threshold is in [0, 1]. For a second round, --network combines the maps with the predictions of a
    segmentation network; if a network is given instead of maps, its predictions are used alone. Its masks have
    background and the classes that an image is tagged with. --scales, --flip and --device apply to the network.

    Example: mcis pseudo --background otsu --otsu-factor 1
    """
    folder = str(saliency.resolve()) if saliency and saliency.is_dir() else None
    call = Call("pseudo", flags.and_also("data", saliency=folder), options, parts)
    start = call.start(maps, data)
    _require_use_of_saliency(saliency, start)
    store = start.workspace.store
    start = replace(
        start,
        saliency=_named_saliency(saliency, start.workspace),
        network=None if network is None else store.get(network),
        corrected=None if corrected is None else store.get(corrected),
    )
    call.run(start, facts={"evidence": _evidence(start)})


def _evidence(start: Start) -> str:
    """What the masks are made from, as their recipe names it."""
    from mcis_cli.stages import holds

    if not holds(start.artifact, "network"):
        return "maps" if start.network is None else "maps and network"
    if start.network is not None:
        raise UsageError("--network is used beside maps, found a network in their place: give one of the two")
    return "network"


def _named_saliency(given: Path | None, workspace: Workspace) -> Artifact | None:
    """The artifact of saliency maps that the flag names; None for a folder."""
    if given is None or given.is_dir():
        return None
    try:
        return workspace.store.get(str(given))
    except MissingError as error:
        raise UsageError(
            f"no saliency maps called {given}: found no folder, and {error}; expected a folder, or an artifact of "
            "mcis saliency, or of mcis import --saliency"
        ) from None


def _require_use_of_saliency(given: Path | None, start: Start) -> None:
    """Refuse saliency maps if nothing uses them."""
    if given is None:
        return
    from mcis_cli.stages import holds

    upstream, background = start.artifact, start.workspace.settings(start.upstream).pseudo.background
    if holds(upstream, "network"):
        raise UsageError(
            f"--saliency {given} has no effect on masks of a network: found {upstream.path.stem} in the place of maps; "
            f"leave --saliency out, or use both, as in `mcis pseudo MAPS --network {upstream.path.stem}`"
        )
    if background != "saliency":
        raise UsageError(
            f"--saliency {given} has no effect with the background {background!r}: expected 'saliency'; give "
            '--background saliency, or set background = "saliency" in [pseudo] of mcis.toml'
        )


def train_seg(
    masks: opt.Upstream = None,
    *,
    flags: Annotated[Flags, SectionFlags("train-seg")],
    data: opt.DataOption = None,
    options: PipelineOptions,
) -> None:
    """Train a segmentation network on pseudo masks.

    Example: mcis train-seg --backbone resnet101
    """
    call = Call("train-seg", flags, options)
    workspace = call.open()
    if workspace.settings().train_seg.supervision == "full" and masks is None:
        start = Start(workspace, None, workspace.data(data))
    else:
        start = call.start(masks, data)
    has_corrected = start.upstream is not None and start.upstream.meta.get("corrected")
    call.run(start, facts={"masks": "corrected" if has_corrected else "made"})


def evaluate(
    artifact: opt.Upstream = None,
    *,
    flags: Annotated[Flags, SectionFlags("eval")],
    min_miou: Annotated[
        float | None,
        typer.Option("--min-miou", min=0, max=1, help="Exit with 7 if the mean IoU (a fraction) is lower."),
    ] = None,
    data: opt.DataOption = None,
    parts: PartOptions,
    options: PipelineOptions,
) -> None:
    """Score a network, maps or pseudo masks by mean IoU.

    Example: mcis eval --crf --min-miou 0.5
    """
    call = Call("eval", flags, options, parts)
    start = call.start(artifact, data)
    from mcis_cli.stages import kind_of
    from mcis_cli.stages.stage import SCORED

    found: dict[str, Any] = {}

    def extra(done: Artifact) -> Mapping[str, Any]:
        from mcis_cli.stages.evaluate.run import metrics
        from mcis_cli.stages.plan.lineage import beyond_tags

        found.update(metrics(done))
        if not options.quiet:
            print_scores(found, beyond_tags(done, start.workspace.store))
        return {"metrics": found}

    subject = kind_of(start.artifact.stage)
    facts = {"subject": str(subject)} if subject in SCORED else {}  # the stage refuses all others
    done = call.run(start, facts=facts, extra=extra)
    foreground = [value for name, value in found.get("iou", {}).items() if name != "background"]
    if done is not None and min_miou is not None and not any(value is not None for value in foreground):
        raise CheckError(
            f"mean IoU of {start.artifact.path.stem} on split {found['split']} is of background alone; expected "
            "ground truth with pixels of classes; see `mcis check`"
        )
    if done is not None and min_miou is not None and not (found["mean_iou"] or 0) >= min_miou:
        raise CheckError(
            f"mean IoU of {start.artifact.path.stem} on split {found['split']}: found {found['mean_iou'] or 0:.4f}, "
            f"expected at least {min_miou:.4f} (--min-miou)"
        )
