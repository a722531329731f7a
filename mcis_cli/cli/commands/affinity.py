"""`mcis affinity`: three stages in a row, from localization maps to those after their random walk."""

from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Flags, warn_without_effect
from mcis_cli.cli.session.found import expected_artifact
from mcis_cli.cli.session.weights import weights_reference
from mcis_cli.config import RunOptions, Settings
from mcis_cli.store import Artifact


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
        from mcis_cli.stages import stages_of
        from mcis_cli.stages.plan.chain import run_stages

        names, made = stages_of("affinity"), {"cams": upstream}
        if named is not None:
            warn_without_effect("affinity", settings.affinity, workspace, options.reporter, part="walk")
            names, made = names[-1:], {**made, "affinity-net": named}
        *before, walked = run_stages(names, settings, images, workspace.store, options, made)
        for artifact in before:
            options.reporter.note(f"{artifact.stage}: {artifact.path.stem}")
        return walked

    call.run(workspace, upstream, work)
