"""`mcis affinity`: three stages in a row, from localization maps to those after their random walk."""

from collections.abc import Callable
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Flags, warn_without_effect
from mcis_cli.cli.session.found import expected_artifact
from mcis_cli.cli.session.weights import weights_reference
from mcis_cli.config import AffinityConfig, DataConfig, RunOptions, Settings
from mcis_cli.store import Artifact, Store


def affinity(
    maps: opt.Upstream = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="ARTIFACT",
            help="Walk by this network of affinities; else one is trained on the maps.",
            autocompletion=completion.artifact_of("affinity-net"),
        ),
    ] = None,
    backbone: opt.Backbone = None,
    weights: opt.Weights = None,
    epochs: opt.Epochs = None,
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
    """Refine localization maps: learn from their sure regions which pixels belong together, then walk (AffinityNet).

    Example: mcis affinity --backbone resnet38
    """
    flags: Flags = {
        "affinity": {
            "backbone": backbone,
            "weights": weights_reference(weights),
            "epochs": epochs,
            "seed": seed,
            "precision": precision,
        }
    }
    call = Call("affinity", flags, config, preset, assignments, store, device, workers, as_json, quiet, shard, dry_run)
    reference, workspace = call.follow(maps, "cams")
    upstream = expected_artifact(workspace, reference, "cams")
    named = None if network is None else workspace.store.get(network)
    images = workspace.data_for(upstream, data, reference)
    if dry_run:
        call.tell_walk(workspace, upstream, images, named)
        return

    def work(settings: Settings, options: RunOptions) -> Artifact:
        if named is not None:
            warn_without_effect("affinity", settings.affinity, workspace, options.reporter, part="walk")
        return walked_maps(settings.affinity, upstream, images, workspace.store, options, named)

    call.run(workspace, upstream, work)


def walked_maps(
    config: AffinityConfig,
    maps: Artifact,
    data: DataConfig | None,
    store: Store,
    options: RunOptions,
    network: Artifact | None = None,
) -> Artifact:
    """The maps after their walk, and before that what they walk by; each stage is found done or gone on with.

    Args:
        config: settings of all three stages.
        maps: localization maps.
        data: where the images are.
        store: of all artifacts.
        options: how to run on this machine. Shards share the regions and the walk; one of them trains.
        network: of affinities; None trains one.
    """
    from mcis_cli.stages.affinity import labels as affinity_labels
    from mcis_cli.stages.affinity import train as train_affinity
    from mcis_cli.stages.affinity import walk as walking
    from mcis_cli.stages.engine.inputs import Inputs

    def told(run: Callable[[AffinityConfig, Inputs, Store, RunOptions], Artifact], upstream: Artifact) -> Artifact:
        made = run(config, Inputs(upstream=upstream, data=data), store, options)
        options.reporter.note(f"{made.stage}: {made.path.stem}")
        return made

    if network is None:
        network = told(train_affinity.run, told(affinity_labels.run, maps))
    return walking.run(config, Inputs(upstream=maps, data=data, network=network), store, options)
