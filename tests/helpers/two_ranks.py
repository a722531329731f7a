"""Two processes that train together, started by torchrun as a user would, and what their steps' gradients are.

Run as a script by torchrun, it writes the gradients that all ranks come to; imported, it computes those of one process.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import recipes
import torch
from run_commands import Answer, environment, programs
from tiny_chain import Chain, options

from mcis_cli.config import TrainClsConfig, TrainSegConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages.engine import by_step as trained
from mcis_cli.stages.engine.networks import build_classifier, build_segmenter, describe_classifier, describe_segmenter
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.training.checkpoints import pack, unpack
from mcis_cli.training.loop import LOG_EVERY, Watch, fit
from mcis_cli.training.ranks import ALONE, Ranks, joined

CPU = torch.device("cpu")
NUM_IMAGES = 5  # a step of four, and one that leaves a rank of two without any
UNEVEN = 7  # the last step has two for one rank, and one for the other
NUM_RESUMED = 13  # four steps each epoch
TINY_CLS: dict[str, Any] = {"image_size": 32, "frozen_stages": 3}
TINY_SEG: dict[str, Any] = {"crop": 33, "frozen_stages": 3}
SEVERAL_VIEWS: dict[str, Any] = {**TINY_CLS, "frozen_stages": 5}  # of each image, some large: only new layers learn
CASES: dict[str, dict[str, Any]] = {
    "full": TINY_CLS,
    "rings": {**TINY_CLS, "pairing": "rings"},
    "released": {
        **SEVERAL_VIEWS,
        "heads": "separate",
        "self_pairs": True,
        "contrastive_rule": "unshared",
        "loss_weighting": "mean",
    },
    "basic": {**TINY_CLS, "loss": "basic"},
    "uneven": TINY_CLS,
    "equivariant": {**SEVERAL_VIEWS, "image_size": 107, "equivariant": True},  # the second view is 32 pixels wide
    "domains": {**SEVERAL_VIEWS, "affinity_weights": "per-domain-pair", "self_pairs": True},
    "masks": {**TINY_SEG, "loss_resolution": "full"},
    "small masks": {**TINY_SEG, "loss_resolution": "network"},
}
Steps = list[list[torch.Tensor]]


def gradients(chain: Chain, case: str, batch: int, ranks: Ranks = ALONE) -> Steps:
    """The losses and gradients of each step of an epoch, in float64, always from the same weights."""
    torch.manual_seed(0)
    make = _of_masks if "masks" in case else _of_pairs
    training = make(chain, CASES[case], UNEVEN if case == "uneven" else NUM_IMAGES, batch, ranks)
    training.model.double().train()
    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    steps: Steps = []
    for batch_of_step in training.batches(0, 0):
        losses = training.step_loss(_in_float64(batch_of_step))
        training.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        ranks.sum_gradients(parameters)
        summed = [ranks.sum(loss.detach().double()) for loss in losses.values()]
        steps.append([*summed, *(p.grad.clone() for p in parameters if p.grad is not None)])
    return steps


def _in_float64(batch: Any) -> Any:
    images = {"images": batch.images.double()}
    if getattr(batch, "self_views", ()):
        images["self_views"] = tuple(view.double() for view in batch.self_views)
    return replace(batch, **images)


def _of_pairs(chain: Chain, changes: dict[str, Any], count: int, batch: int, ranks: Ranks) -> Any:
    config: TrainClsConfig = chain.settings(train_cls={**changes, "batch_pairs": batch}).train_cls
    images = chain.images().split("train")
    if config.affinity_weights is not None:
        images = with_single_label(images)
    tagged = [entry.id for entry in images.entries if entry.labels][:count]
    weights = recipes.affinity_weights(config, images)
    model = build_classifier(describe_classifier(config, images.num_foreground, weights))
    return train_cls._training(model, config, images, tagged, CPU, options(), ranks)


def with_single_label(images: Catalogue) -> Catalogue:
    """The same images, every other one as if of a single-label source."""
    entries = enumerate(images.entries)
    return replace(images, entries=tuple(replace(e, domain="single-label") if i % 2 else e for i, e in entries))


def _of_masks(chain: Chain, changes: dict[str, Any], count: int, batch: int, ranks: Ranks) -> Any:
    config: TrainSegConfig = chain.settings(train_seg={**changes, "batch_size": batch}).train_seg
    images = chain.images().split("train")
    images = images.only(images.ids[:count])
    places = {image_id: place for place, image_id in enumerate(images.ids)}

    def read(image_id: str) -> Any:
        mask = images.read_mask(image_id).copy()
        mask[:, : mask.shape[1] * places[image_id] // count] = 255  # of some little counts, of others nearly all
        return mask

    supervision = train_seg.Supervision(images, "train", "masks", read, "dataset")
    model = build_segmenter(describe_segmenter(config, images.num_classes))
    return train_seg._training(model, config, supervision, CPU, options(), ranks)


def uninterrupted_and_resumed(chain: Chain, ranks: Ranks) -> list[dict[str, torch.Tensor]]:
    """DeepLab-V3 after twelve steps, and after the last two of them once more, from what the first rank had kept.

    The last step leaves a single crop, of one rank: there running statistics count, and are those of all.
    """
    changes = {**TINY_SEG, "network": "deeplabv3", "epochs": 3, "seed": 1}  # whose last crop has pixels to learn from
    kept: dict[int, bytes] = {}

    def keep(step: int) -> None:
        kept[step] = pack(training.model, training.optimizer, step=step)

    found = []
    for start in (0, LOG_EVERY):
        torch.manual_seed(start)
        training = _of_masks(chain, changes, NUM_RESUMED, 2, ranks)
        if start and ranks.is_first:
            unpack(kept[start], training.model, training.optimizer)
        start = trained._begin_alike(training, start, ranks)
        fit(training, Watch(section="train-seg", on_checkpoint=keep), start, ranks)
        found.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})
    return found


class Torchrun:
    """A command in several processes."""

    def __init__(self, *words: str | Path, cwd: Path, count: int = 2, **variables: str) -> None:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *map(str, words)]
        self._files = [tempfile.TemporaryFile("w+") for _ in ("stdout", "stderr")]  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *launch],
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
        )

    def written(self) -> tuple[str, str]:
        """What is on stdout and stderr so far."""
        for file in self._files:
            file.seek(0)
        return self._files[0].read(), self._files[1].read()

    def rank(self, number: int) -> int:
        """The process id of a rank, once it is there."""
        while self._process.poll() is None:
            for child in _children(self._process.pid):
                with suppress(OSError):
                    if f"RANK={number}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                        return child
            time.sleep(0.01)
        raise AssertionError(f"ended: {self.finish().err}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to torchrun itself."""
        self._process.send_signal(number)

    def kill(self, rank: int) -> None:
        """End a rank as a power cut would."""
        os.kill(self.rank(rank), signal.SIGKILL)

    def is_at_work(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def finish(self) -> Answer:
        """Wait for the end of all."""
        try:
            code = self._process.wait(timeout=300)
        finally:
            self._process.kill()
        answer = Answer(code, *self.written())
        for file in self._files:
            file.close()
        return answer


def _children(pid: int) -> Sequence[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def torchrun(*arguments: str | Path, cwd: Path, count: int = 2, real: bool = False, **variables: str) -> Answer:
    """Run a command of mcis in several processes; `real` as for `run_commands.mcis`."""
    program = ("-m", "mcis_cli") if real else ("--no-python", programs() / "mcis")
    return Torchrun(*program, *arguments, cwd=cwd, count=count, **variables).finish()


def main(folder: Path, result: Path) -> None:
    """The gradients of two ranks with a batch of two each, and what they come to without and with an interruption."""
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with joined(number, count, 0, CPU) as ranks:
        found: dict[str, Any] = {case: gradients(Chain(folder, {}), case, 2, ranks) for case in CASES}
        found["again"] = uninterrupted_and_resumed(Chain(folder, {}), ranks)
    torch.save(found, result / f"{number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
