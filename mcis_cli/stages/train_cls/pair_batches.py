"""The pairs of a training in batches: which images, which views of them, and their labels (paper §3.1).

An image that several pairs of a step need is read, and passes the backbone, once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from mcis_cli.config import TrainClsConfig
from mcis_cli.data.augment import classification_view, draws_mirror, normalise, warp
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.pairs import sample_pairs, sample_rings
from mcis_cli.data.seeds import generator
from mcis_cli.models.backbones import Backbone
from mcis_cli.stages.train_cls.published_features import PublishedFeatures, View
from mcis_cli.training.ranks import ALONE, Ranks
from mcis_cli.training.transfer import sent

Pair = tuple[int, int]
Member = tuple[int, str]

SELF_SCALES = (0.75, 2.0)


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step that are this process's: views, each once, and for both sides the index of the view, and
    its labels.

    Attributes:
        images: the views as pixels, or as features before the new layers, if those are kept.
        single_m, single_n: which images of either side are of a single-label source.
        self_views: of the first images, for self-pairs: mirror, 0.75× and 2× view; none without self-pairs.
        num_pairs: how many count; 0 for a substitute pair, so that this process has something to do.
        labels_of_step: labels of both sides of all processes' pairs; None if all are in this process.
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


@dataclass(frozen=True)
class Pairing:
    """What the pairs of a training are drawn from.

    Attributes:
        backbone: says how images are normalised.
        config: settings.
        images: the training split, with images of sources.
        tagged: ids of the images that have a tag.
        device: where the batches go.
        workers: threads that read.
        ranks: the processes that train together.
        features: of a frozen backbone, in place of pixels.
    """

    backbone: Backbone
    config: TrainClsConfig
    images: Catalogue
    tagged: Sequence[str]
    device: torch.device
    workers: int
    ranks: Ranks = ALONE
    features: PublishedFeatures | None = None

    def batches(self, epoch: int, first: int) -> Iterator[PairBatch]:
        """The pairs of one epoch in steps, from step `first` on; random choices depend on seed, epoch and id only.

        All ranks together have the pairs of one process with a batch as large as theirs together. A rank without pairs
        gets the first one as a substitute.

        Args:
            epoch: number, from 0.
            first: step of the epoch, from 0.
        """
        steps = self._steps(epoch, first)
        parts = [self.ranks.part(step) for step in steps]
        chunks = [part or step[:1] for part, step in zip(parts, steps, strict=True)]
        views = _Views(self, epoch)
        needed = (member for chunk in chunks for member in _members(chunk, self.config))
        ahead = ordered_map(views.read_ahead, needed, workers=self.workers, ahead=4 * self.config.batch_pairs)
        for step, part, chunk in zip(steps, parts, chunks, strict=True):
            shown = {member: views.shown(member, next(ahead)) for member in _members(chunk, self.config)}
            of_step = None if self.ranks.count == 1 else self._labels(step)
            yield self._batch(chunk, shown, epoch=epoch, num_pairs=len(part), labels_of_step=of_step)

    def _batch(self, chunk: Sequence[Pair], shown: Mapping[Member, list[Tensor]], **others: Any) -> PairBatch:
        places = {member: torch.tensor(place) for place, member in enumerate(shown)}
        of_first = [shown[_member(pair[0], 0, self.config)][1:] for pair in chunk]
        return PairBatch(
            self._stacked([one[0] for one in shown.values()]),
            *self._both_sides(chunk, lambda pair, side: places[_member(pair[side], side, self.config)]),
            *self._labels(chunk),
            *self._both_sides(chunk, self._is_single),
            self_views=tuple(self._stacked(views) for views in zip(*of_first, strict=True)),
            **others,
        )

    def _steps(self, epoch: int, first: int) -> list[Sequence[Pair]]:
        labels = [self.images[image_id].labels for image_id in self.tagged]
        draw = sample_rings if self.config.pairing == "rings" else sample_pairs
        size = self.ranks.count * self.config.batch_pairs
        pairs = draw(labels, self.tagged, seed=self.config.seed, epoch=epoch)[first * size :]
        return [pairs[start : start + size] for start in range(0, len(pairs), size)]

    def image(self, position: int) -> ImageEntry:
        """The image at a position among those with a tag."""
        return self.images[self.tagged[position]]

    def _labels(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        num_classes = self.images.num_foreground
        return self._both_sides(pairs, lambda pair, side: _multi_hot(self.image(pair[side]).labels, num_classes))

    def _both_sides(self, pairs: Sequence[Pair], fact: Callable[[Pair, int], Tensor]) -> tuple[Tensor, Tensor]:
        m, n = (sent(torch.stack([fact(pair, side) for pair in pairs]), self.device) for side in (0, 1))
        return m, n

    def _is_single(self, pair: Pair, side: int) -> Tensor:
        return torch.tensor(self.image(pair[side]).domain == "single-label")

    def _stacked(self, views: Sequence[Tensor]) -> Tensor:
        return sent(torch.stack([*views]), self.device, memory_format=torch.channels_last)


def self_views(image: UInt8[np.ndarray, "height width 3"], image_size: int) -> list[NDArray[np.uint8]]:
    """The views that the released code pairs an image with: its mirror, its 0.75× and its 2× view, warped from the
    photograph itself, without jitter (difference 3)."""
    plain, *scaled = (warp(image, round(image_size * factor)) for factor in (1.0, *SELF_SCALES))
    return [plain[:, ::-1], *scaled]


@dataclass(frozen=True)
class _Views:
    """The views of the images of an epoch: as pixels, or as features if those are kept."""

    pairing: Pairing
    epoch: int

    def read_ahead(self, member: Member) -> list[Tensor] | None:
        """The pixels of a member's views; None if their features are kept."""
        features = self.pairing.features
        return None if features is not None and features.has(self._names(member)) else self._pixels(member)

    def shown(self, member: Member, pixels: list[Tensor] | None) -> list[Tensor]:
        """The input of the classifier for a member, given its pixels."""

        def read() -> list[Tensor]:
            return pixels or self._pixels(member)

        features = self.pairing.features
        return read() if features is None else features(self._names(member), read)

    def _pixels(self, member: Member) -> list[Tensor]:
        config, mean, std = self.pairing.config, self.pairing.backbone.mean, self.pairing.backbone.std
        image = self.pairing.images.read_image(self.pairing.tagged[member[0]])
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
        """The views of a member, without jitter: the drawn one, and the self-views."""
        config, digest = self.pairing.config, self.pairing.image(member[0]).digest
        shown = View(digest, config.image_size, config.mirror and draws_mirror(self._choices(member)))
        if not self._has_self_views(member):
            return [shown]
        mirrored, sizes = View(digest, config.image_size, True), [round(config.image_size * one) for one in SELF_SCALES]
        return [shown, mirrored, *(View(digest, size, False) for size in sizes)]

    def _choices(self, member: Member) -> np.random.Generator:
        pairing = self.pairing
        return generator(pairing.config.seed, "view", self.epoch, pairing.tagged[member[0]], member[1])

    def _has_self_views(self, member: Member) -> bool:
        return self.pairing.config.self_pairs and member[1] != "n"


def _member(position: int, side: int, config: TrainClsConfig) -> Member:
    """An image and the number of its view: in a ring it has one view for both sides."""
    return position, "" if config.pairing == "rings" else "mn"[side]


def _members(chunk: Sequence[Pair], config: TrainClsConfig) -> list[Member]:
    """The views that pairs need, each once."""
    return list(dict.fromkeys(_member(pair[side], side, config) for pair in chunk for side in (0, 1)))


def _multi_hot(labels: Sequence[int], num_foreground: int) -> Tensor:
    hot = torch.zeros(num_foreground)
    hot[list(labels)] = 1
    return hot
