"""`mcis demo`: the paper's losses and maps beside a plain classifier's, on a synthetic set; a figure, and a page."""

import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.location import CONFIG_FILE
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, announce, console
from mcis_cli.config import DataConfig, RunOptions, Settings, merge, resolve
from mcis_cli.errors import percent
from mcis_cli.store import Artifact, Store, open_store

if TYPE_CHECKING:
    from mcis_cli.stages.stage import Kind

DEMO_TOML = """# The settings of `mcis demo`; change them and run `mcis run`, or any stage, in this folder.
preset = "best"

[data]
root = "shapes"

# One new layer above the frozen backbone is what the losses shape; its input is computed once.
[train-cls]
loss = "full"
new_layers = 1
keep_features = true
mirror = false
pairing = "rings"
contrastive_from_epoch = 3
contrastive_rule = "unshared"
lr = 0.02
affinity_lr = 0.1
epochs = 6
lr_milestones = [5]
image_size = 192

[cams]
refs = 3
reference_choice = "random"
image_size = 256

[train-seg]
crop = 161
epochs = 16
"""
# The loss of the classifier, and the references of its maps. Masks and a network follow for the first and the last.
LOSSES, NUM_REFERENCES = ("basic", "co-attention", "full"), (0, 3)
WAYS = [f"{loss}, {count or 'no'} references" for loss in LOSSES for count in NUM_REFERENCES]
PLAIN, *_, PAPER = WAYS
NUM_DEMO_TRAIN, NUM_DEMO_VAL, NUM_DEMO_SHOWN, NUM_DEMO_IMAGES = 120, 40, 4, 40


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; created if it does not exist.")] = Path("demo"),
    device: opt.Device = "auto",
    workers: opt.Workers = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the whole chain on drawn images, in minutes on a CPU.

    Classifiers of the paper's three losses are compared, and their maps without and with references.

    Example: mcis demo
    """
    reporter = TerminalReporter(quiet=quiet)
    options = opt.run_options(device=device, workers=workers, preset="best", reporter=reporter)
    output = OutputFolder(folder, "FOLDER")
    output.require()
    data = _drawn(folder / "shapes", reporter, options.workers)
    if not (folder / CONFIG_FILE).exists():
        output.write(Path(CONFIG_FILE), DEMO_TOML.encode())
    store = open_store(folder / ".mcis")
    started = time.monotonic()
    try:
        runs = demo_runs(data, store, options)
        worked = reporter.worked  # what is drawn from here on is drawn every time
        picture = output.write(Path("demo.png"), demo_picture(runs, data, store, options))
        page = output.write(Path("report.html"), demo_page(runs[PAPER], store, options))
    finally:
        reporter.stop()
    scores = {name: run.scores() for name, run in runs.items()}
    if not quiet:
        print_demo(scores)
        reporter.note(f"pictures: {picture}; everything about the last row, for a browser: {page}")
        reporter.note(f"continue in {folder}/ with `mcis ls`, `mcis show`, `mcis predict`")
    last = runs[PAPER].scored["network"]
    announce(
        last,
        cached=not worked,
        seconds=time.monotonic() - started,
        as_json=as_json,
        quiet=quiet,
        extra={"scores": scores},
    )


def _drawn(images: Path, reporter: TerminalReporter, workers: int) -> DataConfig:
    """The synthetic set in a folder, drawn if there is none."""
    from mcis_cli.data.synthetic.image_set import write_synthetic

    if not images.exists():
        reporter.note(f"drawing {NUM_DEMO_TRAIN + NUM_DEMO_VAL} images into {images}")
        write_synthetic(images, num_train=NUM_DEMO_TRAIN, num_val=NUM_DEMO_VAL, seed=0, workers=workers)
    return DataConfig(root=str(images.resolve()))


@dataclass(frozen=True)
class DemoRun:
    """One way through the chain: its artifacts, and scores by kind."""

    made: Mapping["Kind", Artifact]
    scored: Mapping["Kind", Artifact]

    def scores(self) -> dict[str, float | None]:
        """Mean IoU of what each stage made."""
        from mcis_cli.stages.evaluate.run import metrics

        return {self.made[kind].stage: metrics(scored)["mean_iou"] for kind, scored in self.scored.items()}


def demo_runs(data: DataConfig, store: Store, options: RunOptions) -> dict[str, DemoRun]:
    """A classifier for each loss, its maps with each number of references in one pass, and the results of each."""
    from mcis_cli.stages.cams import run as cams
    from mcis_cli.stages.engine.inputs import Inputs
    from mcis_cli.stages.train_cls import run as train_cls

    settings = resolve(merge(tomllib.loads(DEMO_TOML), {"data": data.model_dump()}))
    configs = [settings.cams.model_copy(update={"refs": count}) for count in NUM_REFERENCES]
    maps: list[Artifact] = []
    for loss in LOSSES:
        config = settings.train_cls.model_copy(update={"loss": loss})
        classifier = train_cls.run(config, Inputs(data=data), store, options)
        maps += cams.run_all(configs, Inputs(upstream=classifier), store, options)
    return {
        name: demo_run(settings, some, store, options, has_network=name in (PLAIN, PAPER))
        for name, some in zip(WAYS, maps, strict=True)
    }


def demo_run(settings: Settings, maps: Artifact, store: Store, options: RunOptions, *, has_network: bool) -> DemoRun:
    """The maps, masks and a network if there are to be any, and the scores of all."""
    from mcis_cli.stages import names_of, stages
    from mcis_cli.stages.engine.inputs import Inputs
    from mcis_cli.stages.evaluate import run as evaluate
    from mcis_cli.stages.plan.chain import run_stages
    from mcis_cli.stages.stage import SCORED

    made: dict[Kind, Artifact] = {"maps": maps}
    further = names_of("pseudo masks", "network") if has_network else ()
    for artifact in run_stages(further, settings, None, store, options, {maps.stage: maps}):
        made[stages()[artifact.stage].content.kind] = artifact
    scored = {kind: Inputs(upstream=made[kind]) for kind in SCORED if kind in made}
    return DemoRun(made, {kind: evaluate.run(settings.eval, one, store, options) for kind, one in scored.items()})


def demo_picture(runs: Mapping[str, DemoRun], data: DataConfig, store: Store, options: RunOptions) -> bytes:
    """Maps of the first and the last way, and what came of the last."""
    from mcis_cli.config import EvalConfig
    from mcis_cli.report.gallery import stage_gallery
    from mcis_cli.stages.engine.inputs import list_images
    from mcis_cli.stages.predict import run as predict

    images = list_images(data, store)
    full = runs[PAPER].made
    ids = full["pseudo masks"].ids[:NUM_DEMO_SHOWN]
    paths = [images.root / images[image_id].image for image_id in ids]
    found = predict.run(EvalConfig(), full["network"], paths, options)
    predictions = {image_id: one.mask for image_id, one in zip(ids, found, strict=True) if one.mask is not None}
    return stage_gallery(
        images,
        ids,
        maps={name: runs[name].made["maps"] for name in (PLAIN, PAPER)},
        masks={"pseudo mask": full["pseudo masks"]},
        predictions={"network": predictions},
    )


def demo_page(run: DemoRun, store: Store, options: RunOptions) -> bytes:
    """The page of `mcis report` about one run."""
    from mcis_cli.report.content import Wanted, gather
    from mcis_cli.report.page import render
    from mcis_cli.stages.plan.lineage import trace

    wanted = Wanted(images=NUM_DEMO_IMAGES, references=NUM_DEMO_SHOWN)
    return render(gather(trace([run.scored["network"]], store), store, None, wanted, options)).encode()


def print_demo(scores: Mapping[str, Mapping[str, float | None]]) -> None:
    """All ways beside each other; maps alone of those that nothing was made from."""
    table = Table(title="mean IoU in percent; maps and pseudo masks on train, the network on val", title_justify="left")
    table.add_column("")
    for heading in ("maps", "pseudo masks", "network"):
        table.add_column(heading, justify="right")
    for name, found in scores.items():
        table.add_row(Text(name), *map(percent, found.values()), *[""] * (3 - len(found)))
    console().print(table)
