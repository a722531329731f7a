"""The commands between the trainings: localization maps, and pseudo masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Flags, warn_without_effect
from mcis_cli.cli.session.found import expected_artifact
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.config import RunOptions, Settings
from mcis_cli.errors import MissingError, UsageError
from mcis_cli.store import Artifact


def _imported_saliency(given: Path | None, workspace: Workspace) -> Artifact | None:
    """The artifact of saliency maps that was named; None for a folder."""
    if given is None or given.is_dir():
        return None
    try:
        return workspace.store.get(str(given))
    except MissingError as error:
        raise UsageError(
            f"no saliency maps called {given}: found no folder, and {error}; expected a folder, or an artifact of "
            "mcis saliency, or of mcis import --saliency"
        ) from None


def _expect_use_of_saliency(given: Path | None, upstream: Artifact, background: str) -> None:
    """Refuse saliency maps that were named where nothing looks at them."""
    if given is None:
        return
    if upstream.stage == "train-seg":
        raise UsageError(
            f"--saliency {given} has no effect on masks of a network: found {upstream.path.stem} in the place of maps; "
            f"leave --saliency out, or ask both, as in `mcis pseudo MAPS --network {upstream.path.stem}`"
        )
    if background != "saliency":
        raise UsageError(
            f"--saliency {given} has no effect with the background {background!r}: expected 'saliency'; give "
            '--background saliency, or set background = "saliency" in [pseudo] of mcis.toml'
        )


def cams(
    classifier: opt.Upstream = None,
    refs: Annotated[
        str | None,
        typer.Option(
            "--refs",
            metavar="N[,N…]",
            help="References for each map; 0 is single-round. Several numbers share one pass, and give maps each.",
        ),
    ] = None,
    reference_choice: Annotated[
        str | None,
        typer.Option(
            "--reference-choice",
            help="random, or nearest: those of the class that are most like the image.",
            autocompletion=completion.values("cams", "reference_choice"),
        ),
    ] = None,
    with_contrastive: Annotated[
        bool | None, typer.Option("--with-contrastive/--no-contrastive", help="Average contrastive maps in (Table 2).")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="What to map; else what the classifier was trained on.", autocompletion=completion.split
        ),
    ] = None,
    domains: opt.Domains = None,
    reference_domains: opt.ReferenceDomains = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Side of the square that images are warped to.")
    ] = None,
    scales: opt.Scales = None,
    flip: opt.Flip = None,
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=1, help="Features to keep in memory, in MiB.")] = 2048,
    scratch_mb: Annotated[
        int,
        typer.Option(
            "--scratch-mb",
            min=0,
            help="Features to keep on disk where memory is full, in MiB; at least as much is left free, and "
            "all is gone at the end.",
        ),
    ] = 20_480,
    preset: opt.Preset = None,
    seed: opt.Seed = None,
    precision: opt.Precision = None,
    data: opt.DataOption = None,
    shard: opt.Shard = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Make localization maps with a classifier: where in each image its tags are.

    Example: mcis cams --refs 3
    """
    numbers = opt.whole_numbers("--refs", refs)
    flags: Flags = {
        "cams": {
            "refs": numbers[0] if numbers else None,
            "reference_choice": reference_choice,
            "with_contrastive": with_contrastive,
            "split": split,
            "domains": opt.words(domains),
            "reference_domains": opt.words(reference_domains),
            "image_size": image_size,
            "scales": opt.numbers(scales),
            "flip": flip,
            "seed": seed,
            "precision": precision,
        }
    }
    call = Call("cams", flags, config, preset, assignments, store, device, workers, as_json, quiet, shard, dry_run)
    reference, workspace = call.follow(classifier, "train-cls")
    upstream = expected_artifact(workspace, reference, "train-cls")
    images = workspace.data_for(upstream, data, reference)

    def variants(settings: Settings) -> list[Settings]:
        """The settings with each number of references."""
        configs = [settings.cams.model_copy(update={"refs": number}) for number in numbers or [settings.cams.refs]]
        return [settings.model_copy(update={"cams": config}) for config in configs]

    if dry_run:
        call.tell(workspace, upstream, images, variants(workspace.settings(upstream)))
        return

    def work(settings: Settings, options: RunOptions) -> Sequence[Artifact]:
        from dataclasses import replace

        from mcis_cli.stages.cams import run as stage
        from mcis_cli.stages.engine.inputs import Inputs

        configs = [one.cams for one in variants(settings)]
        most = max(configs, key=lambda one: one.refs)
        warn_without_effect("cams", most, workspace, options.reporter)
        inputs = Inputs(upstream=upstream, data=images)
        options = replace(options, cache_mb=cache_mb, scratch_mb=scratch_mb)
        return stage.run_all(configs, inputs, workspace.store, options)

    call.run(workspace, upstream, work)


def pseudo(
    maps: opt.Upstream = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="saliency, constant, power or affinity.",
            autocompletion=completion.values("pseudo", "background"),
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            "--fusion",
            help="hard: the highest score wins. soft: scores become probabilities, from which a CRF starts.",
            autocompletion=completion.values("pseudo", "fusion"),
        ),
    ] = None,
    foreground_threshold: Annotated[
        float | None, typer.Option("--foreground-threshold", help="Class scores under it do not count.")
    ] = None,
    background_score: Annotated[
        float | None, typer.Option("--background-score", help="Of the constant background; soft: with saliency too.")
    ] = None,
    background_power: Annotated[
        float | None, typer.Option("--background-power", help="Background is (1 - max) to this power.")
    ] = None,
    background_threshold: Annotated[
        float | None, typer.Option("--background-threshold", help="Of maps after their walk: less is background.")
    ] = None,
    conflict_threshold: Annotated[
        float | None, typer.Option("--conflict-threshold", help="Two scores over it: ignored.")
    ] = None,
    salient_threshold: Annotated[
        float | None, typer.Option("--salient-threshold", help="Background that is so salient: ignored.")
    ] = None,
    confident_threshold: Annotated[
        float | None, typer.Option("--confident-threshold", help="Background with a map over it: ignored.")
    ] = None,
    min_foreground: Annotated[
        float | None, typer.Option("--min-foreground", help="Images with a smaller share of it: ignored.")
    ] = None,
    allow_missing_saliency: Annotated[
        bool | None, typer.Option("--allow-missing-saliency", help="Ignore images without a saliency map.")
    ] = None,
    saliency: Annotated[
        Path | None,
        typer.Option(
            "--saliency",
            help="Saliency maps: a folder, or an artifact of saliency or import.",
            autocompletion=completion.artifact_of("saliency"),
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="ARTIFACT",
            help="A second round: ask this segmentation network beside the maps.",
            autocompletion=completion.artifact_of("train-seg"),
        ),
    ] = None,
    crf: opt.Crf = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", help="Of a network, and soft: less probable labels are ignored.")
    ] = None,
    scales: opt.Scales = None,
    flip: opt.Flip = None,
    preset: opt.Preset = None,
    precision: opt.Precision = None,
    data: opt.DataOption = None,
    shard: opt.Shard = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Turn localization maps into pseudo masks; or, for a second round, what a segmentation network predicts.

    Every score and threshold is in [0, 1]. With --network, maps and network are asked together; given in the place of
    maps, the network alone. Its masks have the classes that an image is tagged with, and background; --scales, --flip
    and --device are for it.

    Example: mcis pseudo --background constant --background-score 0.2
    """
    flags: Flags = {
        "pseudo": {
            "background": background,
            "fusion": fusion,
            "foreground_threshold": foreground_threshold,
            "background_score": background_score,
            "background_power": background_power,
            "background_threshold": background_threshold,
            "conflict_threshold": conflict_threshold,
            "salient_threshold": salient_threshold,
            "confident_threshold": confident_threshold,
            "min_foreground": min_foreground,
            "allow_missing_saliency": allow_missing_saliency,
            "crf": crf,
            "min_confidence": min_confidence,
            "scales": opt.numbers(scales),
            "flip": flip,
            "precision": precision,
        },
        "data": {"saliency": str(saliency.resolve()) if saliency and saliency.is_dir() else None},
    }
    call = Call("pseudo", flags, config, preset, assignments, store, device, workers, as_json, quiet, shard, dry_run)
    previous = "affinity" if call.open().settings().pseudo.background == "affinity" else "cams"
    reference, workspace = call.follow(maps, previous)
    upstream = expected_artifact(workspace, reference, previous)
    _expect_use_of_saliency(saliency, upstream, workspace.settings(upstream).pseudo.background)
    imported = _imported_saliency(saliency, workspace)
    asked = None if network is None else workspace.store.get(network)
    images = workspace.data_for(upstream, data, reference)
    if asked is not None and upstream.stage == "train-seg":
        raise UsageError("--network is asked beside maps, found a network in their place: give one or the other")
    if dry_run:
        call.tell(workspace, upstream, images, saliency=imported, network=asked)
        return

    def work(settings: Settings, options: RunOptions) -> Artifact:
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.pseudo import run as of_maps
        from mcis_cli.stages.pseudo import second_round as of_network

        inputs = Inputs(upstream=upstream, data=images, saliency=imported, network=asked)
        second = upstream.stage == "train-seg"
        evidence = "network" if second else "maps" if asked is None else "maps and network"
        warn_without_effect("pseudo", settings.pseudo, workspace, options.reporter, evidence=evidence)
        run = of_network.run if second else of_maps.run
        return run(settings.pseudo, inputs, workspace.store, options)

    call.run(workspace, upstream, work)
