"""Features of images, computed once and kept while they fit, so that many references are cheap.

An image always passes the backbone by itself, so its features are a function of the image alone, and keeping, dropping
or recomputing them cannot change a bit.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mcis_cli.data.augment import normalise, warp
from mcis_cli.data.loading import ordered_map
from mcis_cli.models.accumulation import accumulated
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.engine.kept import Kept
from mcis_cli.stages.engine.networks import backbone_of
from mcis_cli.stages.engine.scratch import Scratch
from mcis_cli.training.precision import Precision, autocast


@dataclass(frozen=True, slots=True)
class View:
    """A view of an image: factor on the side of the square that it is warped to, and whether it is mirrored."""

    scale: float = 1.0
    mirrored: bool = False


Key = tuple[str, View]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """The output of the network for one view.

    Attributes:
        features: (C, h, w), as the backbone returns them: bfloat16 if it computes so; channels last in memory.
        activations: (K, h, w), φ of the features, for single-round maps.
        co_activations: (K, h, w), the co-attentive head's φ; the same tensor if heads are shared.
        embedding: (E, h, w), appearance of positions; None without refinement.
    """

    features: Float[Tensor, "channel h w"]
    activations: Float[Tensor, "class h w"]
    co_activations: Float[Tensor, "class h w"]
    embedding: Float[Tensor, "embedded h w"] | None = None

    def distinct(self) -> list[Tensor]:
        """The tensors, each once."""
        kept = [self.features, self.activations]
        if self.co_activations is not self.activations:
            kept.append(self.co_activations)
        return kept if self.embedding is None else [*kept, self.embedding]

    def num_bytes(self) -> int:
        """Bytes of memory."""
        return sum(tensor.nbytes for tensor in self.distinct())


Held = Kept | Features  # in memory outside the heap, or on a device, which has its own allocator


class FeatureCache:
    """Features by image id and view; above `budget` bytes, those unused for the longest time go to a scratch file."""

    def __init__(
        self,
        model: CoAttentionClassifier,
        read_image: Callable[[str], Pixels],
        *,
        image_size: int,
        device: torch.device,
        precision: Precision,
        budget: int,
        scratch: Scratch | None = None,
        embeds: bool = False,
        num_labels: Callable[[str], int] | None = None,
    ) -> None:
        """Create an empty cache; with `num_labels`, of an image, activations are accumulated over epochs."""
        self._model, self._read_image = model, read_image
        self._image_size, self._device, self._precision = image_size, device, precision
        self._budget, self._held, self._scratch = budget, 0, scratch or Scratch(Path(), 0)
        self._embeds, self._separate = embeds, model.co_class_head is not None
        self._num_labels = num_labels
        self._kept: OrderedDict[Key, Held] = OrderedDict()
        self._coming: Iterator[tuple[Key, Pixels]] = iter(())
        self._next: tuple[Key, Pixels] | None = None
        self.num_forwards = 0

    @contextmanager
    def reading_ahead(self, wanted: Iterable[Key], workers: int) -> Iterator[None]:
        """While the context lasts, read views ahead in threads, in the order of `wanted`.

        A wrong guess only costs
        time: other views are read when they are needed.
        """
        missing = [key for key in dict.fromkeys(wanted) if key not in self._kept and key not in self._scratch]
        coming = ordered_map(lambda key: (key, self._pixels(*key)), missing, workers=workers)
        self._coming = coming
        try:
            yield
        finally:
            self._coming, self._next = iter(()), None
            coming.close()

    def __call__(self, image_id: str, view: View) -> Features:
        """The features of one view of one image."""
        key = (image_id, view)
        held = self._kept.pop(key, None)
        if held is None:
            held = self._found(key)
            self._held += held.num_bytes()
        self._kept[key] = held
        while self._held > self._budget and len(self._kept) > 1:
            dropped, oldest = self._kept.popitem(last=False)
            self._held -= oldest.num_bytes()
            self._scratch.put(dropped, oldest if isinstance(oldest, Kept) else oldest.distinct())
        return self._of(held.distinct())

    def _found(self, key: Key) -> Held:
        """Features from disk, or computed."""
        is_on_cpu = self._device.type == "cpu"
        if kept := self._scratch.get(key):
            return kept if is_on_cpu else self._of(tensor.to(self._device) for tensor in kept.distinct())
        features = self._compute(key[0], self._read(key))
        kept = Kept.of(features.distinct()) if is_on_cpu else None
        if self._scratch.is_shared:
            self._scratch.put(key, kept or features.distinct())  # other shards can read them now
        return kept or features

    def _of(self, distinct: Iterable[Tensor]) -> Features:
        """Features from their distinct tensors."""
        features, activations, *others = distinct
        co_activations = others[0] if self._separate else activations
        return Features(features, activations, co_activations, others[-1] if self._embeds else None)

    def _read(self, key: Key) -> Pixels:
        """The pixels of a view: those that were read ahead, if they are the next ones not yet computed."""
        self._next = self._next or next(self._coming, None)
        while self._next is not None and self._next[0] != key and self._next[0] in self._scratch:
            self._next = next(self._coming, None)
        if self._next is None or self._next[0] != key:
            return self._pixels(*key)
        pixels, self._next = self._next[1], None
        return pixels

    def _pixels(self, image_id: str, view: View) -> Pixels:
        pixels = warp(self._read_image(image_id), round(self._image_size * view.scale))
        return pixels[:, ::-1] if view.mirrored else pixels

    def _compute(self, image_id: str, pixels: Pixels) -> Features:
        self.num_forwards += 1
        backbone = backbone_of(self._model)
        image = normalise(pixels, backbone.mean, backbone.std)[None]
        image = image.to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self._device, self._precision):
            embedding = None
            if self._embeds:
                features, embedding = self._model.features_and_embedding(image)
            else:
                features = self._model.features(image)
            features = features.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            wide = features.float()  # φ in float32, because the maps are its sums over hundreds of channels
            heads = (False, True) if self._separate else (False,)
            maps = [self._model.activation_maps(wide, co=co)[0].contiguous() for co in heads]
        if self._num_labels is not None:
            with torch.inference_mode(), autocast(self._device, self._precision):
                after = (one[0] for one in self._model.maps_after_epochs(image))
                maps[0] = accumulated(after, self._num_labels(image_id)).contiguous()
        return Features(features[0], maps[0], maps[-1], None if embedding is None else embedding[0])
