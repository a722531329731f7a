"""Stages that train a network: go on from the newest checkpoint, log every report, seal the weights."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mcis_cli.config import RunOptions
from mcis_cli.errors import DamagedError
from mcis_cli.stages.networks import tensors_of
from mcis_cli.stages.segmented import provenance_of
from mcis_cli.store import Artifact, Partial, Recipe, Store
from mcis_cli.training.checkpoints import pack, unpack
from mcis_cli.training.loop import fit
from mcis_cli.training.precision import Precision, describe_machine
from mcis_cli.training.schedules import Schedule

Batch = TypeVar("Batch")
LOG_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Training(Generic[Batch]):
    """Everything that a training needs but the weights' way to disk; see `training.loop.fit`."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    batches: Callable[[int, int], Iterable[Batch]]
    step_loss: Callable[[Batch], Mapping[str, Tensor]]
    num_steps: int
    steps_per_epoch: int
    lr: float
    seed: int
    device: torch.device
    precision: Precision


def train(
    recipe: Recipe,
    prepare: Callable[[], Training[Batch]],
    meta: Callable[[], Mapping[str, Any]],
    store: Store,
    options: RunOptions,
) -> Artifact:
    """Train, or go on with an interrupted training, and seal the weights.

    Args:
        recipe: what is trained.
        prepare: builds the training; not called where another process was quicker.
        meta: what downstream stages read; asked for after the training.
        store: where to.
        options: how to run here.

    Raises:
        UsageError: the training diverged.
    """
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := store.find(recipe):
            return done
        training = prepare()
        start_step = _resume(partial, training)
        options.reporter.start(recipe.stage, training.num_steps, start_step)
        reported = start_step

        def on_step(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal reported
            epoch = (step - 1) // training.steps_per_epoch + 1
            partial.log({"step": step, "epoch": epoch, **metrics})
            shown = {name: value for name, value in metrics.items() if name != "grad_norm"}
            options.reporter.advance(step - reported, **shown)
            reported = step

        with provenance_of(options, describe_machine(training.device, training.precision)) as provenance:
            fit(
                training.model,
                optimizer=training.optimizer,
                lr=training.lr,
                schedule=training.schedule,
                batches=training.batches,
                step_loss=training.step_loss,
                num_steps=training.num_steps,
                steps_per_epoch=training.steps_per_epoch,
                seed=training.seed,
                section=recipe.stage,
                log_every=LOG_EVERY,
                on_step=on_step,
                checkpoint_steps=max(training.steps_per_epoch, 1),
                checkpoint_seconds=options.checkpoint_seconds,
                on_checkpoint=lambda step: partial.save_checkpoint(
                    step, pack(training.model, training.optimizer, step=step)
                ),
                start_step=start_step,
            )
        return partial.seal_tensors(tensors_of(training.model), meta(), provenance)


def _resume(partial: Partial, training: Training[Batch]) -> int:
    """Load the newest intact checkpoint, if there is one; returns the number of finished steps."""
    found = partial.load_checkpoint()
    if found is None:
        partial.truncate_log(0)
        return 0
    step, payload = found
    unpacked = unpack(payload, training.model, training.optimizer)
    if unpacked != step:
        raise DamagedError(f"checkpoint of step {step} says that it is of step {unpacked}; delete {partial.folder}")
    partial.truncate_log(step)
    return step
