"""Processes that train together: each computes on a part of every step's batch, and all make the same step.

What is averaged is what one process would have averaged: every loss counts with its rank's share of the step, so that
the sum over ranks is the mean over the whole batch. Two things are not: batch norm that learns normalises by its rank's
part, and dropout draws other numbers on each. The caller says who started them and how many they are; where to
meet is in the environment, as torchrun leaves it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from mcis_cli.errors import McisError, UnfinishedError, UsageError

Item = TypeVar("Item")
PATIENCE = timedelta(minutes=30)  # with a rank that does not come to the next step: it may be writing a checkpoint
FOREVER = timedelta(days=3650)  # with a first rank that waits for a process of someone else; its death is noticed


@dataclass(frozen=True)
class Ranks:
    """The processes of a training; by default this one is alone, and everything below does nothing.

    Attributes:
        number: of this process, from 0. The first one reports, and writes.
        count: of processes.
        device: where this one computes.
        waiting: the group that decides; None where there is one process.
    """

    number: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    waiting: "dist.ProcessGroup | None" = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports, and writes."""
        return self.number == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those of a step's items that are this rank's: consecutive, as many as another's or one less or more."""
        start, end = (len(items) * number // self.count for number in (self.number, self.number + 1))
        return items[start:end]

    def shared(self, losses: Mapping[str, Tensor], weight: Float[Tensor, ""]) -> Mapping[str, Tensor]:
        """Losses times this rank's share of the step: their sum over all ranks is the mean over the whole step.

        Args:
            losses: means over this rank's part.
            weight: over how many items they are means, 0 or more.
        """
        if self.count == 1:
            return losses
        share = weight / self.sum(weight).clamp(min=1)
        return {name: loss * share for name, loss in losses.items()}

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in a new tensor."""
        if self.count == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        self._sum_in_place(total)
        return total

    def _sum_in_place(self, values: Tensor) -> None:
        with _together(self.number):
            dist.all_reduce(values)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the sum of all ranks' gradients in the place of each; the same parameters have one on all of them."""
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            _as_one(gradients, self._sum_in_place)

    def take_statistics(self, model: nn.Module) -> None:
        """Put the first rank's running statistics in the place of all ranks'; each has followed its own part."""
        statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self.count > 1 and statistics:
            with _together(self.number):
                _as_one(statistics, partial(dist.broadcast, src=0))

    def from_first(self, payload: bytes) -> bytes:
        """The bytes that the first rank gives; those of the others are not looked at."""
        if self.count == 1:
            return payload
        size = torch.tensor([len(payload)])
        with _together(self.number):
            dist.broadcast(size, 0, group=self.waiting)
            content = torch.empty(int(size), dtype=torch.uint8)
            if self.is_first:
                content = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else content
            dist.broadcast(content, 0, group=self.waiting)
        return content.numpy().tobytes()

    def decided(self, flag: bool) -> bool:
        """What the first rank says. The others wait for it as long as it takes."""
        return self.from_first(b"1" if flag else b"0") == b"1"

    def expect_same(self, what: str, own: str) -> None:
        """See to it that all ranks are about to do the same.

        Raises:
            UsageError: this rank is about to do something else than the first.
        """
        first = self.from_first(own.encode()).decode()
        if first != own:
            raise UsageError(
                f"rank {self.number} would train something else than rank 0: found the {what} {own[:12]}, expected "
                f"{first[:12]}; give all of them the same images, tags, weights and settings (and --precision fp32 or "
                "bf16, where machines differ)"
            )

    def leave(self) -> None:
        """Part from the others; may be called again."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


ALONE = Ranks()


def _as_one(tensors: Sequence[Tensor], change: Callable[[Tensor], object]) -> None:
    """Change tensors in place by one call, on all of them in a row."""
    whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
    change(whole)
    parts = torch.split(whole, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def joined(number: int, count: int, local: int, device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes of a training, as torchrun has told where.

    Args:
        number: of this process, from 0.
        count: of processes.
        local: number of this process on its machine, from 0.
        device: where it computes.

    Raises:
        UsageError: two processes would share a GPU.
        McisError: the others did not come.
    """
    if device.type == "cuda":
        if device.index != local or local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local} of this machine would compute on {device}: found {torch.cuda.device_count()} GPUs, "
                "expected one for each process; lower --nproc-per-node, or give --device cuda or cpu"
            )
        torch.cuda.set_device(device)
    nccl = device.type == "cuda"
    with _together(number):
        dist.init_process_group(
            "nccl" if nccl else "gloo",
            rank=number,
            world_size=count,
            timeout=PATIENCE,
            device_id=device if nccl else None,
        )
        waiting = dist.new_group(backend="gloo", timeout=FOREVER)
    assert isinstance(waiting, dist.ProcessGroup)
    ranks = Ranks(number, count, device, waiting)
    try:
        yield ranks
    except UnfinishedError:  # which is no failure
        ranks.leave()
        raise
    # After a failure nobody is waited for: the end of this process tells the others.
    ranks.leave()


@contextmanager
def _together(number: int) -> Iterator[None]:
    """Tell what torch says of a rank that is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:  # ValueError: the environment does not say where to meet
        raise McisError(
            f"rank {number} cannot go on without the others: one of them left, or did not come "
            f"({' '.join(str(error).split())[:120]}); see what it said, then run the same command again: what is done "
            "is kept"
        ) from error
