"""Processes that train together: each computes on a part of every step's batch, and all make the same step.

The result is that of one process with the whole batch: every loss counts with its rank's share of the step, so that the
sum over ranks is the mean over the whole batch. Two things differ: batch norm that learns normalises by its rank's
part, and dropout draws other numbers on each rank. The caller gives their number; the address is in the
environment, as torchrun sets it.
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
PATIENCE = timedelta(minutes=30)  # for a rank that is late for the next step: it may be writing a checkpoint
FOREVER = timedelta(days=3650)  # for a first rank that waits for another process; its death is noticed


@dataclass(frozen=True)
class Ranks:
    """The processes of a training; by default there is only this one, and all methods do nothing.

    Attributes:
        number: of this process, from 0. The first one reports, and writes.
        count: of processes.
        device: where this one computes.
        waiting: the group for decisions; None for one process.
    """

    number: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    waiting: "dist.ProcessGroup | None" = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.number == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """The consecutive items of a step that are this rank's; their number differs by at most one between ranks."""
        start, end = (len(items) * number // self.count for number in (self.number, self.number + 1))
        return items[start:end]

    def shared(self, losses: Mapping[str, Tensor], weight: Float[Tensor, ""]) -> Mapping[str, Tensor]:
        """Losses times this rank's share of the step: their sum over all ranks is the mean over the whole step.

        Args:
            losses: means over this rank's part.
            weight: number of items in these means, 0 or more.
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
        """Replace each gradient by the sum over all ranks; the same parameters must have one on all of them."""
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            _as_one(gradients, self._sum_in_place)

    def take_statistics(self, model: nn.Module) -> None:
        """Replace running statistics by those of the first rank, since each rank has followed its own part."""
        statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self.count > 1 and statistics:
            with _together(self.number):
                _as_one(statistics, partial(dist.broadcast, src=0))

    def from_first(self, payload: bytes) -> bytes:
        """The bytes of the first rank; those of the others are ignored."""
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
        """The first rank's result of a function. The others wait for it as long as it takes."""
        return self.from_first(b"1" if flag else b"0") == b"1"

    def expect_same(self, what: str, own: str) -> None:
        """Check that all ranks are about to do the same.

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
        """Leave the other processes; may be called again."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


ALONE = Ranks()


def _as_one(tensors: Sequence[Tensor], change: Callable[[Tensor], object]) -> None:
    """Change tensors in place by one call on all of them concatenated."""
    whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
    change(whole)
    parts = torch.split(whole, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def joined(number: int, count: int, local: int, device: torch.device) -> Iterator[Ranks]:
    """Join the other processes of a training at the address that torchrun has set.

    Args:
        number: of this process, from 0.
        count: of processes.
        local: number of this process on its machine, from 0.
        device: where it computes.

    Raises:
        UsageError: two processes would share a GPU.
        McisError: the others did not join.
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
    # After a failure this process waits for nobody: the others notice its end.
    ranks.leave()


@contextmanager
def _together(number: int) -> Iterator[None]:
    """Turn torch's errors about a lost rank into one of ours."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:  # ValueError: the environment does not say where to meet
        raise McisError(
            f"rank {number} cannot continue without the others: one of them ended, or never started "
            f"({' '.join(str(error).split())[:120]}); see its message, then run the same command again: finished "
            "work is kept"
        ) from error
