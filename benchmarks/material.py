"""What the rows measure on: drawn image sets and networks with random weights, which cost what trained ones cost."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mcis_cli.config import CamsConfig, DataConfig, RunOptions, TrainClsConfig, resolve
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.engine.networks import build_classifier, describe_classifier, tensors_of
from mcis_cli.store import Artifact, Recipe, Store, open_store
from mcis_cli.training.precision import Precision, choose_device, choose_precision

DEVICE = choose_device("auto")  # what commands choose, and so the baselines
_fresh = count()


@dataclass(frozen=True)
class Bench:
    """A folder with a set and a store.

    Attributes:
        folder: holds `shapes/` and the stores.
        data: where the set is.
        num_images: of its split `train`.
    """

    folder: Path
    data: DataConfig
    num_images: int

    def store(self, name: str = "store") -> Store:
        """A store of that name."""
        return open_store(self.folder / name)

    def images(self) -> Catalogue:
        """The training images."""
        return list_images(self.data, self.store()).split("train")

    def options(self, **given: Any) -> RunOptions:
        """How stages run: silently, on all cores."""
        return RunOptions(**given)

    def classifier(
        self, backbone: str, preset: str = "paper", **settings: Any
    ) -> tuple[CoAttentionClassifier, Artifact]:
        """A classifier with random weights, and the artifact that stages load it from."""
        section = {"backbone": backbone, **settings}
        config: TrainClsConfig = resolve({"train-cls": section}, preset).train_cls  # type: ignore[arg-type]
        images = self.images()
        description = describe_classifier(config, images.num_foreground)
        torch.manual_seed(0)
        model = build_classifier(description).eval()
        meta = {
            "dataset": list_images(self.data, self.store()).id,
            "split": "train",
            "class_names": list(images.class_names),
            "model": description,
            "image_size": config.image_size,
            "loss": config.loss,
            "initialisation": "random",
        }
        recipe = Recipe("train-cls", 1, {"random": 0, **description}, {"images": images.digest("images", "labels")})
        with self.store().begin(recipe) as partial:
            artifact = partial.sealed() or partial.seal_tensors(tensors_of(model), meta, {"preset": preset})
        return model, artifact


@contextmanager
def shapes(num_images: int, size: tuple[int, int] = (200, 320), num_classes: int = 4) -> Iterator[Bench]:
    """The synthetic set with that many training images, in a folder that goes in the end."""
    with tempfile.TemporaryDirectory(prefix="mcis-bench-") as name:
        folder = Path(name)
        write_synthetic(folder / "shapes", num_train=num_images, num_val=1, num_classes=num_classes, size=size, seed=0)
        yield Bench(folder, DataConfig(root=str(folder / "shapes")), num_images)


@contextmanager
def dots(num_images: int) -> Iterator[Bench]:
    """Many tiny images with two classes: where the number counts, not the pixels."""
    with tempfile.TemporaryDirectory(prefix="mcis-bench-") as name:
        root = Path(name) / "dots"
        draw = np.random.default_rng(0)
        for kind in ("left", "right"):
            (root / kind).mkdir(parents=True)
        for number in range(num_images):
            pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / ("left", "right")[number % 2] / f"{number:06d}.png")
        yield Bench(Path(name), DataConfig(root=str(root)), num_images)


@contextmanager
def tagged(num_images: int, num_classes: int) -> Iterator[Bench]:
    """Tiny images with a table of one to three tags for each, some classes a hundred times as frequent as others."""
    with tempfile.TemporaryDirectory(prefix="mcis-bench-") as name:
        root = Path(name) / "tagged"
        draw = np.random.default_rng(0)
        frequency = 1 / (1 + np.arange(num_classes) / 2)
        numbers = draw.integers(1, 4, num_images)
        classes = draw.choice(num_classes, (num_images, 3), p=frequency / frequency.sum())
        lines = ["image,tags"]
        for number in range(num_images):
            file = f"images/{number // 1000:03d}/{number:06d}.png"
            if number % 1000 == 0:
                (root / file).parent.mkdir(parents=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / file)
            tags = sorted({f"class {k:03d}" for k in classes[number, : numbers[number]]})
            lines.append(f"{file},{';'.join(tags)}")
        (root / "tags.csv").write_text("\n".join(lines) + "\n")
        yield Bench(Path(name), DataConfig(root=str(root)), num_images)


def run_cams(bench: Bench, classifier: Artifact, config: CamsConfig, store: str | None) -> Artifact:
    """The whole stage, in a store of that name, or in a new one."""
    inputs = Inputs(upstream=classifier, data=bench.data)
    return cams.run(config, inputs, bench.store(store) if store else fresh_store(bench), bench.options())


def fresh_store(bench: Bench) -> Store:
    """A store in which nothing is done."""
    return bench.store(f"store-{next(_fresh)}")


def best_precision() -> Precision:
    """What `auto` is on this machine's device."""
    return choose_precision("auto", DEVICE)


def wait() -> None:
    """Until the device has done all that it was given, so that its time counts."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
