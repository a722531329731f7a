"""Trainings that learn from pixels: batches of crops with masks, and their steps."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mcis_cli.config import AffinityConfig, TrainSegConfig
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.seeds import generator
from mcis_cli.models.pairwise_affinity import PairwiseAffinity
from mcis_cli.stages.engine.by_step import settled_precision
from mcis_cli.stages.engine.networks import DeepLab
from mcis_cli.stages.stage import IGNORE_INDEX
from mcis_cli.training.loop import Training
from mcis_cli.training.parameter_groups import ParameterGroup, sgd
from mcis_cli.training.ranks import ALONE, Ranks
from mcis_cli.training.schedules import poly
from mcis_cli.training.transfer import sent

View = tuple[Float[Tensor, "3 crop crop"], UInt8[Tensor, "crop crop"]]


@dataclass(frozen=True)
class CropBatch:
    """The crops of one step, with their masks, that are this process's."""

    images: Float[Tensor, "batch 3 crop crop"]
    masks: UInt8[Tensor, "batch crop crop"]


@dataclass(frozen=True, kw_only=True)
class Crops:
    """The crops of a training in steps; random choices depend on seed, epoch, id and its place among equal ones only.

    All ranks together have the crops of one process with a batch as large as theirs together. A rank without a crop
    takes one and ignores all of it.

    Attributes:
        view: a crop of an image by id, with its mask, drawn by a generator.
        ids: the images that have something to learn from; one may be there several times, with a view each.
        config: seed, crops of each rank in a step, learning rate, momentum, weight decay and precision.
        workers: threads that read ahead.
        device: where the batches go.
        ranks: the processes that train together.
    """

    view: Callable[[str, np.random.Generator], View]
    ids: Sequence[str]
    config: AffinityConfig | TrainSegConfig
    workers: int
    device: torch.device
    ranks: Ranks = ALONE

    @cached_property
    def _turns(self) -> list[int]:
        """How often the image of each position is at an earlier one."""
        seen: Counter[str] = Counter()
        turns = []
        for image_id in self.ids:
            turns.append(seen[image_id])
            seen[image_id] += 1
        return turns

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.ids) // self.images_of_step)

    @property
    def images_of_step(self) -> int:
        """Crops of all ranks in a step."""
        return self.ranks.count * self.config.batch_size

    def training(
        self,
        model: DeepLab | PairwiseAffinity,
        groups: Sequence[ParameterGroup],
        num_steps: int,
        step_loss: Callable[[CropBatch], Mapping[str, Tensor]],
    ) -> Training[CropBatch]:
        """A training on these crops.

        Args:
            model: the network, on the device.
            groups: the parameters.
            num_steps: of all epochs.
            step_loss: see `Training`.
        """
        config = self.config
        return Training(
            model=model,
            optimizer=sgd(groups, momentum=config.momentum, nesterov=False, weight_decay=config.weight_decay),
            schedule=poly(num_steps, power=config.lr_power),
            batches=self.batches,
            step_loss=step_loss,
            num_steps=num_steps,
            steps_per_epoch=self.batches_per_epoch,
            lr=config.lr,
            seed=config.seed,
            device=self.device,
            precision=settled_precision(config),
            images_of_step=self.images_of_step,
        )

    def batches(self, epoch: int, first: int) -> Iterator[CropBatch]:
        """The batches of one epoch, from step `first` on."""
        seed, size = self.config.seed, self.images_of_step
        order = generator(seed, "order", epoch).permutation(len(self.ids))[first * size :].tolist()
        steps = [order[start : start + size] for start in range(0, len(order), size)]
        parts = [self.ranks.part(step) for step in steps]
        chunks = [part or step[:1] for part, step in zip(parts, steps, strict=True)]

        def view(position: int) -> View:
            image_id, turn = self.ids[position], self._turns[position]
            return self.view(image_id, generator(seed, "view", epoch, image_id, *([turn] if turn else [])))

        needed = (position for chunk in chunks for position in chunk)
        views = ordered_map(view, needed, workers=self.workers, ahead=2 * self.config.batch_size)
        for part, chunk in zip(parts, chunks, strict=True):
            images, masks = map(torch.stack, zip(*islice(views, len(chunk)), strict=True))
            if not part:
                masks = torch.full_like(masks, IGNORE_INDEX)
            yield CropBatch(sent(images, self.device, memory_format=torch.channels_last), sent(masks, self.device))
