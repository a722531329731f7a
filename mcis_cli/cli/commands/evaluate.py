"""`mcis eval`: scores."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.call import Call, Flags, warn_without_effect
from mcis_cli.cli.session.found import expected_artifact
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.config import RunOptions, Settings
from mcis_cli.errors import CheckError
from mcis_cli.store import Artifact


def evaluate(
    artifact: opt.Upstream = None,
    crf: opt.Crf = None,
    scales: opt.Scales = None,
    flip: opt.Flip = None,
    split: opt.Split = None,
    min_miou: Annotated[
        float | None,
        typer.Option("--min-miou", min=0, max=1, help="Exit with 7 if the mean IoU (a fraction) is lower."),
    ] = None,
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
    """Score a segmentation network, localization maps or pseudo masks by mean IoU.

    Example: mcis eval --crf --min-miou 0.5
    """
    flags: Flags = {
        "eval": {"crf": crf, "scales": opt.numbers(scales), "flip": flip, "split": split, "precision": precision}
    }
    call = Call("eval", flags, config, preset, assignments, store, device, workers, as_json, quiet, shard, dry_run)
    reference, workspace = call.follow(artifact, "train-seg")
    upstream = expected_artifact(workspace, reference, "train-seg")
    images = workspace.data_for(upstream, data, reference)
    if dry_run:
        call.tell(workspace, upstream, images)
        return
    found: dict[str, Any] = {}

    def work(settings: Settings, options: RunOptions) -> Artifact:
        from mcis_cli.stages import kind_of
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.evaluate import run as stage

        inputs = Inputs(upstream=upstream, data=images)
        done = stage.run(settings.eval, inputs, workspace.store, options)
        subject = kind_of(upstream.stage) or ""
        warn_without_effect("eval", settings.eval, workspace, options.reporter, subject=subject)
        found.update(stage.metrics(done))
        return done

    def extra(done: Artifact) -> Mapping[str, Any]:
        if not quiet:
            print_scores(found)
        return {"metrics": found}

    call.run(workspace, upstream, work, extra)
    if min_miou is not None and not (found["mean_iou"] or 0) >= min_miou:
        raise CheckError(
            f"mean IoU of {upstream.path.stem} on split {found['split']}: found {found['mean_iou'] or 0:.4f}, expected "
            f"at least {min_miou:.4f} (--min-miou)"
        )
