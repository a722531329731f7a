"""The pairs of a training in batches: which images, which views of them, and their labels (paper §3.1).

An image that several pairs of a step need is read and seen by the backbone once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from mcis_cli.config import RunOptions, TrainClsConfig
from mcis_cli.data.augment import classification_view, draws_mirror, normalise, warp
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.pairs import sample_pairs, sample_rings
from mcis_cli.data.seeds import generator
from mcis_cli.models.backbones import Backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.engine.networks import backbone_of
from mcis_cli.stages.train_cls.published_features import PublishedFeatures, View
from mcis_cli.training.ranks import ALONE, Ranks
from mcis_cli.training.transfer import sent

Member = tuple[int, str]

SELF_SCALES = (0.75, 2.0)


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step, as far as they are this process's: views, each once, and for both sides which view it is,
    and its labels.

    Attributes:
        images: the views as pixels; as features before the new layers, where those are kept.
        single_m, single_n: which images of either side are of a single-label source.
        self_views: of the first images, for self-pairs: mirror, 0.75× and 2× view; none without self-pairs.
        num_pairs: how many count; 0 where one stands in so that this process has something to do.
        labels_of_step: labels of both sides of all processes' pairs; None where all are here.
    """

    images: Tensor
    index_m: Tensor
    index_n: Tensor
    labels_m: Tensor
    labels_n: Tensor
    single_m: Tensor
    single_n: Tensor
    epoch: int
    num_pairs: int = 0
    self_views: tuple[Tensor, ...] = ()
    labels_of_step: tuple[Tensor, Tensor] | None = None


def pair_batches(
    model: CoAttentionClassifier,
    config: TrainClsConfig,
    images: Catalogue,
    tagged: Sequence[str],
    epoch: int,
    first: int,
    device: torch.device,
    options: RunOptions,
    ranks: Ranks = ALONE,
    features: PublishedFeatures | None = None,
) -> Iterator[PairBatch]:
    """The pairs of one epoch in steps, from step `first` on; what is drawn depends on seed, epoch and id only.

    All ranks together have the pairs that one process would have with a batch as large as theirs together. For a rank
    that is left without any, the first of them stands in.

    Args:
        model: whose backbone says how images are normalised.
        config: settings.
        images: the training split, with what sources there are.
        tagged: ids of the images that have a tag.
        epoch: number, from 0.
        first: step of the epoch, from 0.
        device: where the batches go.
        options: how to run on this machine.
        ranks: the processes that train together.
        features: of a frozen backbone, in place of pixels.
    """
    labels = [images[image_id].labels for image_id in tagged]
    draw = sample_rings if config.pairing == "rings" else sample_pairs
    size = ranks.count * config.batch_pairs
    pairs = draw(labels, tagged, seed=config.seed, epoch=epoch)[first * size :]
    steps = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    parts = [ranks.part(step) for step in steps]
    chunks = [part or step[:1] for part, step in zip(parts, steps, strict=True)]
    views = _Views(backbone_of(model), config, images, tagged, epoch, features)

    def labels_of(some: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        m, n = (
            torch.stack([_multi_hot(labels[pair[side]], images.num_foreground) for pair in some]) for side in (0, 1)
        )
        return sent(m, device), sent(n, device)

    def singles(some: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        m, n = (torch.tensor([images[tagged[pair[side]]].domain == "single-label" for pair in some]) for side in (0, 1))
        return sent(m, device), sent(n, device)

    needed = (member for chunk in chunks for member in _members(chunk, config))
    ahead = ordered_map(views.read_ahead, needed, workers=options.workers, ahead=4 * config.batch_pairs)
    for step, part, chunk in zip(steps, parts, chunks, strict=True):
        members = {member: place for place, member in enumerate(_members(chunk, config))}
        shown = [views.shown(member, next(ahead)) for member in members]
        stacked = torch.stack([one[0] for one in shown])
        of_first = [shown[members[_member(pair[0], 0, config)]][1:] for pair in chunk]
        of_itself = tuple(
            sent(torch.stack(one), device, memory_format=torch.channels_last) for one in zip(*of_first, strict=True)
        )
        index_m, index_n = (
            sent(torch.tensor([members[_member(pair[side], side, config)] for pair in chunk]), device)
            for side in (0, 1)
        )
        of_step = None if ranks.count == 1 else labels_of(step)
        placed = sent(stacked, device, memory_format=torch.channels_last)
        yield PairBatch(
            placed, index_m, index_n, *labels_of(chunk), *singles(chunk), epoch, len(part), of_itself, of_step
        )


def self_views(image: UInt8[np.ndarray, "height width 3"], image_size: int) -> list[NDArray[np.uint8]]:
    """What the released code pairs an image with: its mirror, its 0.75× and its 2× view, warped from the photograph
    itself, with colours as they are (difference 3)."""
    plain, *scaled = (warp(image, round(image_size * factor)) for factor in (1.0, *SELF_SCALES))
    return [plain[:, ::-1], *scaled]


@dataclass(frozen=True)
class _Views:
    """The views of the images of an epoch: as pixels, or as features where those are kept."""

    backbone: Backbone
    config: TrainClsConfig
    images: Catalogue
    tagged: Sequence[str]
    epoch: int
    features: PublishedFeatures | None

    def read_ahead(self, member: Member) -> list[Tensor] | None:
        """The pixels of a member's views; None where their features are kept."""
        return None if self.features is not None and self.features.has(self._names(member)) else self._pixels(member)

    def shown(self, member: Member, pixels: list[Tensor] | None) -> list[Tensor]:
        """What the classifier is shown of a member, given what was read ahead."""

        def read() -> list[Tensor]:
            return pixels or self._pixels(member)

        return read() if self.features is None else self.features(self._names(member), read)

    def _pixels(self, member: Member) -> list[Tensor]:
        config, mean, std = self.config, self.backbone.mean, self.backbone.std
        image = self.images.read_image(self.tagged[member[0]])
        shown = classification_view(
            image,
            image_size=config.image_size,
            color_jitter=config.color_jitter,
            mirror=config.mirror,
            generator=self._choices(member),
            mean=mean,
            std=std,
            long_side=config.long_side,
        )
        of_itself = self_views(image, config.image_size) if self._has_self_views(member) else ()
        return [shown, *(normalise(pixels, mean, std) for pixels in of_itself)]

    def _names(self, member: Member) -> list[View]:
        """The views of a member, whose colours stay: the one that is drawn, and the self-views."""
        digest, size = self.images[self.tagged[member[0]]].digest, self.config.image_size
        shown = View(digest, size, self.config.mirror and draws_mirror(self._choices(member)))
        if not self._has_self_views(member):
            return [shown]
        return [shown, View(digest, size, True), *(View(digest, round(size * scale), False) for scale in SELF_SCALES)]

    def _choices(self, member: Member) -> np.random.Generator:
        return generator(self.config.seed, "view", self.epoch, self.tagged[member[0]], member[1])

    def _has_self_views(self, member: Member) -> bool:
        return self.config.self_pairs and member[1] != "n"


def _member(position: int, side: int, config: TrainClsConfig) -> Member:
    """An image and which of its views: in a ring it has one, and serves on both sides."""
    return position, "" if config.pairing == "rings" else "mn"[side]


def _members(chunk: Sequence[tuple[int, int]], config: TrainClsConfig) -> list[Member]:
    """The views that pairs need, each once."""
    return list(dict.fromkeys(_member(pair[side], side, config) for pair in chunk for side in (0, 1)))


def _multi_hot(labels: Sequence[int], num_foreground: int) -> Tensor:
    hot = torch.zeros(num_foreground)
    hot[list(labels)] = 1
    return hot
