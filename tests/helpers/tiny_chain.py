"""A tiny chain for tests: a synthetic set, settings that run it in seconds, and the artifact of each stage."""

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcis_cli.config import DataConfig, RunOptions, Settings, merge, read_toml, resolve
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import Artifact, Partial, Store, notes, open_store

CLASSES = ("disc", "star", "square")
NUM_TRAIN, NUM_VAL = 16, 6

TOML = """\
preset = "quick"

[data]
root = "shapes"

[train-cls]
image_size = 64
epochs = 1
batch_pairs = 4
precision = "fp32"

[cams]
refs = 2
image_size = 64
precision = "fp32"

[train-seg]
crop = 65
epochs = 1
batch_size = 4
head_channels = 16
precision = "fp32"

[eval]
precision = "fp32"
"""

# The same, as arguments of each command of a pipe.
SMALL: Mapping[str, tuple[str, ...]] = {
    "train-cls": ("--epochs", "1", "--set", "train-cls.image_size=64", "--set", "train-cls.batch_pairs=4"),
    "cams": ("--image-size", "64"),
    "train-seg": ("--epochs", "1", "--set", "train-seg.crop=65", "--set", "train-seg.head_channels=16"),
}


@dataclass
class Heard:
    """A reporter that keeps what it receives."""

    started: list[tuple[str, int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    advanced: int = 0

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        self.started.append((title, total, done))

    def advance(self, count: int = 1, **facts: float) -> None:
        self.advanced += count

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def options(**given: Any) -> RunOptions:
    """Run options that keep to one thread."""
    return RunOptions(**{"workers": 0, "device": "cpu", **given})


def write_shapes(folder: Path) -> Path:
    """Write the synthetic set of `NUM_TRAIN` and `NUM_VAL` images."""
    write_synthetic(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, num_classes=len(CLASSES), size=(48, 72), seed=1)
    return folder


@dataclass(frozen=True)
class Chain:
    """A folder with a set, a configuration and a store in which the five stages are done.

    Attributes:
        folder: has `shapes/`, `mcis.toml` and `.mcis/`.
        made: the artifact of each stage.
    """

    folder: Path
    made: Mapping[str, Artifact]

    @property
    def store(self) -> Store:
        return open_store(self.folder / ".mcis", create=False)

    @property
    def data(self) -> DataConfig:
        return DataConfig(root=str(self.folder / "shapes"))

    def settings(self, **sections: Mapping[str, Any]) -> Settings:
        """The settings of the chain, with others merged over; section names with underlines."""
        over = {name.replace("_", "-"): values for name, values in sections.items()}
        return resolve(merge(read_toml(self.folder / "mcis.toml"), over))

    def images(self) -> Catalogue:
        return list_images(self.data, self.store)


def run_chain(folder: Path) -> Chain:
    """Write the set and the configuration, and run the five stages in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    write_shapes(folder / "shapes")
    (folder / "mcis.toml").write_text(TOML)
    open_store(folder / ".mcis")
    made: dict[str, Artifact] = {}
    chain = Chain(folder, made)
    settings, store, data = chain.settings(), chain.store, chain.data
    made["train-cls"] = train_cls.run(settings.train_cls, Inputs(data=data), store, options(preset="quick"))
    for stage, run, config in (
        ("cams", cams.run, settings.cams),
        ("pseudo", pseudo.run, settings.pseudo),
        ("train-seg", train_seg.run, settings.train_seg),
        ("eval", evaluate.run, settings.eval),
    ):
        upstream = list(made.values())[-1]
        made[stage] = run(config, Inputs(upstream=upstream), store, options(preset="quick"))
    return chain


def copy_chain(chain: Chain, folder: Path) -> Chain:
    """Copy the folder of a chain, and list the copy's own images."""
    shutil.copytree(chain.folder, folder)
    store = open_store(folder / ".mcis")
    copy = replace(chain, folder=folder, made={stage: store.get(a.id) for stage, a in chain.made.items()})
    shutil.rmtree(store.root / "locations")
    (store.root / "locations").mkdir()
    copy.images()
    return copy


def done(store: Store, stage: str) -> set[str]:
    """The keys of the recipes of a stage that are done."""
    return {path.stem for path in (store.root / "keys" / stage).glob("*.json")}


def sealed(store: Path) -> set[str]:
    """Names of everything in `artifacts/` and `keys/` but the list of the images, which every first stage makes."""
    found = [path for folder in ("artifacts", "keys") for path in (store / folder).rglob("*") if path.is_file()]
    return {path.relative_to(store).as_posix() for path in found if "dataset" not in path.as_posix()}


def training_log(artifact: Artifact) -> list[dict[str, Any]]:
    """Read the lines that a training reported."""
    return [json.loads(line) for line in artifact.log_path.read_text().splitlines()]


def begin_with(chain: Chain, stage: str, **changes: Any) -> AbstractContextManager[Partial]:
    """Begin a stage of the chain with some settings changed, as a run that is stopped at once leaves it."""
    parts = chain.store.done(stage, chain.made[stage].key).recipe.as_dict()
    return chain.store.begin(notes.parse_recipe({**parts, "config": {**parts["config"], **changes}}))
