"""The step loop that both trainings share: descend, report, checkpoint.

A step depends on the weights, the optimiser's state, the step's number and the seed, and on nothing else: random draws
of torch (dropout) start from a seed made of (seed, step). So a run that resumes from a checkpoint gives the same bits
as an uninterrupted one, with the same device, number of threads and number of processes.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcis_cli.data.seeds import generator
from mcis_cli.errors import UsageError
from mcis_cli.training.precision import Precision
from mcis_cli.training.ranks import ALONE, Ranks
from mcis_cli.training.schedules import Schedule

Batch = TypeVar("Batch")


LOG_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Training(Generic[Batch]):
    """A training: the network and its steps.

    Attributes:
        model: set to training mode; its parameters are updated.
        optimizer: over the model's parameters; a group's learning rate is `lr` times the schedule's factor times the
            group's `lr_factor` (1 if it has none).
        schedule: factor on the learning rate after a number of finished steps.
        batches: called with (epoch, first step inside the epoch), both from 0; iterates over the rest of that epoch in
            an order that depends on the seed and the epoch only. It is closed, if possible, also after an error.
        step_loss: batch to named scalar losses; "total" is minimised, all are reported. It does the autocasting.
        num_steps: steps of the whole training.
        steps_per_epoch: batches of one epoch.
        lr: base learning rate.
        seed: of the training.
        device: where it computes.
        precision: of its matrix products.
        images_of_step: photographs of a step in all processes, for the displayed speed.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    batches: Callable[[int, int], Iterable[Batch]]
    step_loss: Callable[[Batch], Mapping[str, Float[Tensor, ""]]]
    num_steps: int
    steps_per_epoch: int
    lr: float
    seed: int
    device: torch.device
    precision: Precision
    images_of_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Callbacks of a training, and their intervals.

    Attributes:
        section: of the configuration, for the advice in errors.
        on_step: called with the number of finished steps, and: the mean of each loss since the report before (over the
            steps that had it), "lr" times the schedule's factor and "grad_norm", both of this step.
        on_checkpoint: called with the number of finished steps, between steps.
        log_every: steps between reports.
        checkpoint_steps: minimum steps between checkpoints; None for those of an epoch.
        checkpoint_seconds: minimum seconds between checkpoints; whichever of both comes first.
        clock: seconds; replaced in tests.
    """

    section: str
    on_step: Callable[[int, dict[str, float]], None] = lambda step, metrics: None
    on_checkpoint: Callable[[int], None] = lambda step: None
    log_every: int = LOG_EVERY
    checkpoint_steps: int | None = None
    checkpoint_seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic


def fit(training: Training[Batch], watch: Watch, start_step: int = 0, ranks: Ranks = ALONE) -> None:
    """Train a model in place.

    The loop waits for the device only at reports: every `log_every` steps, and at the last one. Code that makes batches
    and losses may wait in between; see `training.transfer.sent`. A checkpoint is made right after a report, when
    enough steps or seconds have passed, so that no mean spans an interruption, and a resumed log equals an
    uninterrupted one. There is none after the last step, since the weights themselves follow.

    Args:
        training: what is trained.
        watch: its callbacks.
        start_step: finished steps of the checkpoint that model and optimizer were loaded from.
        ranks: the processes that train together; each one's losses are its share (`Ranks.shared`). Reports cover all of
            them, and are the same on all; with each report, running statistics become the same too, because its steps,
            unlike those of checkpoints, are known beforehand.

    Raises:
        UsageError: a loss or a gradient is not finite.
    """
    model, optimizer = training.model, training.optimizer
    model.train()
    sums = LossSums()
    checkpoint_steps = watch.checkpoint_steps or max(training.steps_per_epoch, 1)
    saved_step, saved_at = start_step, watch.clock()
    todo = _steps(training, start_step)
    # The caller's random state is put back at the end.
    with torch.random.fork_rng(devices=_cuda_devices(model)), closing(todo):
        for step, batch in enumerate(todo, start=start_step):
            rate = training.lr * training.schedule(step)
            _set_learning_rate(optimizer, rate)
            torch.manual_seed(_seed_of_step(training.seed, step, ranks))
            sums.add(_descend(optimizer, training.step_loss(batch), ranks))
            done = step + 1
            if done % watch.log_every != 0 and done != training.num_steps:
                continue
            ranks.take_statistics(model)
            metrics = sums.take(ranks) | {"lr": rate, "grad_norm": _gradient_norm(optimizer)}
            _refuse_non_finite(metrics, step=done, watch=watch, lr=training.lr)
            watch.on_step(done, metrics)
            due = done - saved_step >= checkpoint_steps or watch.clock() - saved_at >= watch.checkpoint_seconds
            if due and done != training.num_steps:
                watch.on_checkpoint(done)
                saved_step, saved_at = done, watch.clock()


@dataclass
class LossSums:
    """Sums of losses that stay on the device until they are read."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, losses: Mapping[str, Float[Tensor, ""]]) -> None:
        """Add one step's losses, without waiting for the device."""
        for name, loss in losses.items():
            value = loss.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, ranks: Ranks = ALONE) -> dict[str, float]:
        """The mean of each loss over the steps that had it, summed over the ranks' shares; resets the sums."""
        values = ranks.sum(torch.stack(list(self.sums.values()))).tolist()
        means = {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}
        self.sums, self.counts = {}, {}
        return means


def _steps(training: Training[Batch], start_step: int) -> Generator[Batch]:
    step = start_step
    while step < training.num_steps:
        epoch, first = divmod(step, training.steps_per_epoch)
        wanted = min(training.steps_per_epoch - first, training.num_steps - step)
        source = training.batches(epoch, first)
        try:
            for batch in islice(source, wanted):
                yield batch
                step += 1
                wanted -= 1
        finally:
            # A generator with workers must be closed after an error.
            close = getattr(source, "close", None)
            if close is not None:
                close()
        assert wanted == 0, f"epoch {epoch} ended {wanted} batches early"


def _seed_of_step(seed: int, step: int, ranks: Ranks) -> int:
    """The seed of torch's generator for a step: ranks draw different numbers, the first those of one process."""
    names = ("step", step) if ranks.is_first else ("step", step, "rank", ranks.number)
    return int(generator(seed, *names).integers(2**62))


def _descend(optimizer: torch.optim.Optimizer, losses: Mapping[str, Tensor], ranks: Ranks) -> Mapping[str, Tensor]:
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()  # type: ignore[no-untyped-call]
    ranks.sum_gradients(_parameters(optimizer))
    optimizer.step()
    return losses


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)


def _gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    gradients = [parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None]
    return float(nn.utils.get_total_norm(gradients))


def _refuse_non_finite(metrics: Mapping[str, float], *, step: int, watch: Watch, lr: float) -> None:
    bad = [f"{name} = {value}" for name, value in metrics.items() if not math.isfinite(value)]
    if not bad:
        return
    first = (step - 1) // watch.log_every * watch.log_every + 1
    raise UsageError(
        f"{watch.section} diverged between steps {first} and {step}: found {', '.join(bad)}, expected finite numbers; "
        f"lower --set {watch.section}.lr={lr / 10:g}"
    )


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    devices = {parameter.device for parameter in model.parameters()}
    return [device for device in devices if device.type == "cuda"]
