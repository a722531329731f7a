"""The two commands that train a network: the classifier, and the segmentation network."""

from pathlib import Path
from typing import Annotated

import typer

from mcis_cli.cli.session import completion
from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session import sources as src
from mcis_cli.cli.session.call import Call, Flags, warn_without_effect
from mcis_cli.cli.session.found import expected_artifact
from mcis_cli.cli.session.weights import weights_reference
from mcis_cli.config import RunOptions, Settings
from mcis_cli.errors import UsageError
from mcis_cli.store import Artifact


def train_cls(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Folder of images with tags, or a table; else that of mcis.toml."),
    ] = None,
    preset: opt.Preset = None,
    backbone: opt.Backbone = None,
    weights: opt.Weights = None,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="basic, co-attention or full (paper, Table 4).",
            autocompletion=completion.values("train-cls", "loss"),
        ),
    ] = None,
    equivariant: Annotated[
        bool | None,
        typer.Option("--equivariant/--no-equivariant", help="With SEAM's second view and losses (LID20)."),
    ] = None,
    epochs: opt.Epochs = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Which list of the data set to train on.", autocompletion=completion.split),
    ] = None,
    tags: Annotated[str | None, typer.Option("--tags", help="File of tags, relative to DATA.")] = None,
    tags_from_masks: opt.TagsFromMasks = None,
    saliency: Annotated[Path | None, typer.Option("--saliency", help="Folder of saliency maps.")] = None,
    single_label: src.SingleLabel = None,
    web: src.Web = None,
    list_tags: src.ListTags = None,
    affinity_weights: Annotated[
        str | None,
        typer.Option(
            "--affinity-weights",
            help="shared, or per-domain-pair: three W_P, the default with single-label images.",
        ),
    ] = None,
    seed: opt.Seed = None,
    precision: opt.Precision = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train the co-attention classifier on images with tags.

    Example: mcis train-cls photos/ --preset quick
    """
    flags: Flags = {
        "train-cls": {
            "backbone": backbone,
            "weights": weights_reference(weights),
            "loss": loss,
            "equivariant": equivariant,
            "affinity_weights": affinity_weights,
            "epochs": epochs,
            "seed": seed,
            "precision": precision,
        },
        "data": {
            "train": split,
            "tags": tags,
            "tags_from_masks": tags_from_masks,
            "saliency": str(saliency.resolve()) if saliency else None,
            "sources": src.named_sources(single_label, web, list_tags),
        },
    }
    call = Call(
        "train-cls", flags, config, preset, assignments, store, device, workers, as_json, quiet, dry_run=dry_run
    )
    workspace = call.open()
    images = workspace.data(data)
    if images is None:
        raise UsageError(
            "no images are named: expected a folder, as in `mcis train-cls photos/`; or run `mcis init photos/`"
        )
    if dry_run:
        call.tell(workspace, None, images)
        return

    def work(settings: Settings, options: RunOptions) -> Artifact:
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.train_cls import run as stage

        warn_without_effect("train-cls", settings.train_cls, workspace, options.reporter)
        return stage.run(settings.train_cls, Inputs(data=images), workspace.store, options)

    call.run(workspace, None, work)


def train_seg(
    masks: opt.Upstream = None,
    supervision: Annotated[
        str | None,
        typer.Option(
            "--supervision",
            help="pseudo masks, or full: ground truth, the upper bound.",
            autocompletion=completion.values("train-seg", "supervision"),
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network", help="deeplab-largefov or deeplabv3.", autocompletion=completion.values("train-seg", "network")
        ),
    ] = None,
    backbone: opt.Backbone = None,
    weights: opt.Weights = None,
    epochs: opt.Epochs = None,
    preset: opt.Preset = None,
    seed: opt.Seed = None,
    precision: opt.Precision = None,
    data: opt.DataOption = None,
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    assignments: opt.Assignments = None,
    config: opt.ConfigFile = None,
    store: opt.StoreFolder = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a segmentation network on pseudo masks.

    Example: mcis train-seg --backbone resnet101
    """
    flags: Flags = {
        "train-seg": {
            "supervision": supervision,
            "network": network,
            "backbone": backbone,
            "weights": weights_reference(weights),
            "epochs": epochs,
            "seed": seed,
            "precision": precision,
        }
    }
    call = Call(
        "train-seg", flags, config, preset, assignments, store, device, workers, as_json, quiet, dry_run=dry_run
    )
    reference, workspace = None, call.open()
    full = workspace.settings().train_seg.supervision == "full"
    if not full or masks is not None:
        reference, workspace = call.follow(masks, "pseudo")
    upstream = None if full and reference is None else expected_artifact(workspace, reference, "pseudo")
    images = workspace.data_for(upstream, data, reference) if upstream else workspace.data(data)
    if dry_run:
        call.tell(workspace, upstream, images)
        return

    def work(settings: Settings, options: RunOptions) -> Artifact:
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.train_seg import run as stage

        warn_without_effect("train-seg", settings.train_seg, workspace, options.reporter)
        return stage.run(settings.train_seg, Inputs(upstream=upstream, data=images), workspace.store, options)

    call.run(workspace, upstream, work)
