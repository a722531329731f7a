"""Maps accumulated over the epochs of a training (Jiang et al., Integral Object Mining via Online Attention
Accumulation, ICCV 2019), from the weights that the network had after each.

The published code accumulates while it trains, from the views that the training shows. Here the weights are kept and
all maps are made afterwards, from the same view of an image.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class KeptEpochs(nn.Module):
    """The values of some parameters after each epoch but the last, whose values the network itself has."""

    def __init__(self, parameters: Mapping[str, Tensor], count: int) -> None:
        """Make room, which is zero.

        Args:
            parameters: what is kept, by name.
            count: the number of epochs.
        """
        super().__init__()
        self.count = count
        self._shapes = {name: tensor.shape for name, tensor in parameters.items()} if count else {}
        for name, shape in self._shapes.items():  # flat: torch gives memory formats by rank
            self.register_buffer(_buffer(name), parameters[name].new_zeros(count, shape.numel()))

    @torch.no_grad()
    def record(self, epoch: int, parameters: Mapping[str, Tensor]) -> None:
        """Keep the values after an epoch, counted from 0."""
        for name in self._shapes:
            self.get_buffer(_buffer(name))[epoch] = parameters[name].flatten()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The values after each epoch, by name."""
        for epoch in range(self.count):
            yield {name: self.get_buffer(_buffer(name))[epoch].view(shape) for name, shape in self._shapes.items()}


def _buffer(name: str) -> str:
    """The name of the buffer of a parameter; those of buffers have no dots."""
    return name.replace(".", "-")


def accumulated(epochs: Iterable[Float[Tensor, "class h w"]], num_labels: int) -> Float[Tensor, "class h w"]:
    """Maximum over the epochs of an image's positive maps, each divided by its maximum.

    A class counts in the epochs that predict it: where its score (the mean of its map) is among the `num_labels`
    highest, as in the published code. The map of a class that no epoch predicts is that of the last one.

    Args:
        epochs: Activation maps of all classes after each epoch, one at least.
        num_labels: How many classes the image is tagged with.

    Returns:
        Maps in [0, 1].
    """
    total, seen, last = None, None, None
    for maps in epochs:
        positive = maps.clamp(min=0)
        last = positive / (positive.amax((1, 2), keepdim=True) + 1e-8)
        ranks = maps.mean((1, 2)).argsort(descending=True, stable=True).argsort()
        predicted = (ranks < num_labels)[:, None, None]
        counted = torch.where(predicted, last, 0)
        total, seen = (
            (counted, predicted) if total is None or seen is None else (counted.maximum(total), predicted | seen)
        )
    assert total is not None, "one epoch at least"
    assert seen is not None
    assert last is not None
    return torch.where(seen, total, last)
