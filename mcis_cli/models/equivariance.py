"""Equivariant attention (SEAM, Wang et al., CVPR 2020), which the paper's LID20 setting adds to co-attention (§4.4).

An image is seen twice, the second time smaller. The maps of both views must agree, and a pixel correlation module lets
each position take over the scores of similar positions. Losses are for each image of a batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.models.layers import at_least_float32, average, new_conv, product

SECOND_SCALE = 0.3
LOWEST = 4  # a quarter of the positions is pressed towards zero
HARDEST = 0.2  # this share of the differences counts
EPSILON = 1e-5
LOWER, MIDDLE, EMBEDDING = 64, 128, 192  # channels


class PixelCorrelation(nn.Module):
    """Scores spread over positions of similar colour and texture. Layers are named as in the weights that SEAM
    publishes.

    Attributes:
        f8_3, f8_4: 1×1 convolutions of the two lower taps, whose gradients stop before them.
        f9: 1×1 convolution of both and the image to the embedding.
    """

    def __init__(self, tap_channels: Sequence[int], *, generator: torch.Generator | None = None) -> None:
        """Lay out the module, with random weights.

        Args:
            tap_channels: Channels of the two lower taps.
            generator: Source of the weights; torch's own where None.
        """
        super().__init__()
        lower, middle = tap_channels
        self.f8_3 = new_conv(lower, LOWER, bias=False, generator=generator)
        self.f8_4 = new_conv(middle, MIDDLE, bias=False, generator=generator)
        self.f9 = new_conv(3 + LOWER + MIDDLE, EMBEDDING, bias=False, generator=generator)

    def embed(
        self,
        images: Float[Tensor, "batch 3 h_image w_image"],
        lower: Float[Tensor, "batch channel_lower h_lower w_lower"],
        middle: Float[Tensor, "batch channel_middle h_middle w_middle"],
        size: tuple[int, int],
    ) -> Float[Tensor, "batch channel h w"]:
        """Appearance of positions: vectors of length one.

        Args:
            images: Normalised images.
            lower, middle: The lower taps of the backbone.
            size: Height and width of the maps that will be refined.
        """
        parts = [
            images,
            functional.relu(self.f8_3(lower.detach())),
            functional.relu(self.f8_4(middle.detach())),
        ]
        joined = torch.cat([resized(at_least_float32(part), size) for part in parts], dim=1)
        embedding = at_least_float32(self.f9(joined))
        length: Tensor = torch.linalg.vector_norm(embedding, dim=1, keepdim=True)
        return embedding / (length + EPSILON)

    forward = embed

    def initialise(self, state: Mapping[str, Tensor]) -> bool:
        """Load the weights that SEAM publishes, if all of them are present with these shapes.

        Returns:
            Whether they were.
        """
        own = self.state_dict()
        found = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
        if len(found) < len(own):
            return False
        self.load_state_dict(found)
        return True


def refine(
    cues: Float[Tensor, "batch label h w"], embedding: Float[Tensor, "batch channel h w"]
) -> Float[Tensor, "batch label h w"]:
    """Scores of each position as a mean over all positions, weighted by the similarity of their embeddings.

    Args:
        cues: See `cues_of`.
        embedding: See `PixelCorrelation.embed`.
    """
    flat = embedding.flatten(2)
    similarity = functional.relu(product(flat.transpose(1, 2), flat))
    weights = similarity / (similarity.sum(dim=1, keepdim=True) + EPSILON)
    return product(at_least_float32(cues).flatten(2), weights).reshape(cues.shape)


@torch.no_grad()
def cues_of(activation_maps: Float[Tensor, "batch class h w"]) -> Float[Tensor, "batch label h w"]:
    """The input of refinement: maps in [0, 1], of which a position keeps the largest; before them background, 1 − the
    largest. No gradient passes.
    """
    positive = at_least_float32(activation_maps).relu()
    scaled = (positive - EPSILON).relu() / (positive.amax(dim=(2, 3), keepdim=True) + EPSILON)
    return _largest_alone(scaled)


def scaled_maps(maps: Float[Tensor, "batch label h w"]) -> Float[Tensor, "batch label h w"]:
    """Maps with negative values set to 0, each stretched from its minimum to its maximum over [0, 1]."""
    positive = at_least_float32(maps).relu()
    minimum, maximum = (extreme(dim=(2, 3), keepdim=True) for extreme in (positive.amin, positive.amax))
    return (positive - minimum - EPSILON).relu() / (maximum - minimum + EPSILON)


def second_view(images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h_small w_small"]:
    """Images at 0.3 of their size."""
    return functional.interpolate(images, scale_factor=SECOND_SCALE, mode="bilinear", align_corners=True)


def resized(maps: Float[Tensor, "batch label h w"], size: tuple[int, int]) -> Float[Tensor, "batch label h_out w_out"]:
    """Maps on another grid, corners on corners."""
    if maps.shape[2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


@dataclass(frozen=True)
class EquivariantLoss:
    """The terms of SEAM's objective, for each image of a batch."""

    classification: Float[Tensor, " batch"]
    suppression: Float[Tensor, " batch"]
    equivariance: Float[Tensor, " batch"]
    cross_refinement: Float[Tensor, " batch"]

    @property
    def total(self) -> Float[Tensor, " batch"]:
        """The sum of the four, all coefficients 1."""
        return self.classification + self.suppression + self.equivariance + self.cross_refinement


@dataclass(frozen=True)
class ViewMaps:
    """The output of the network for one view.

    Attributes:
        activation_maps: φ of the features, over the classes.
        refined: See `refine`; background first.
    """

    activation_maps: Float[Tensor, "batch class h w"]
    refined: Float[Tensor, "batch label h w"]


def equivariant_loss(first: ViewMaps, second: ViewMaps, labels: Shaped[Tensor, "batch class"]) -> EquivariantLoss:
    """The losses on two views of the same images, compared on the grid of the second, smaller one.

    Args:
        first: The images as they are.
        second: The smaller view of them.
        labels: Multi-hot labels.
    """
    present = labels.to(first.refined.dtype)[:, :, None, None]
    present_or_background = functional.pad(present, (0, 0, 0, 0, 1, 0), value=1.0)
    size = (second.refined.shape[2], second.refined.shape[3])
    maps = [resized(scaled_maps(view.activation_maps), size) * present for view in (first, second)]
    refined = [resized(scaled_maps(view.refined), size) * present_or_background for view in (first, second)]
    return EquivariantLoss(
        classification=_mean(_classification(view.activation_maps, labels) for view in (first, second)),
        suppression=_mean(_suppression(view.refined[:, 1:] * present) for view in (first, second)),
        equivariance=(maps[0] - maps[1]).abs().flatten(1).mean(1),
        cross_refinement=_hardest(_largest_alone(maps[1].detach()), refined[0])
        + _hardest(_largest_alone(maps[0].detach()), refined[1]),
    )


def _mean(of_views: Iterable[Float[Tensor, " batch"]]) -> Float[Tensor, " batch"]:
    return torch.stack(list(of_views)).mean(0)


def _classification(
    activation_maps: Float[Tensor, "batch class h w"], labels: Shaped[Tensor, "batch class"]
) -> Float[Tensor, " batch"]:
    scores = average(activation_maps)
    return functional.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none").mean(1)


def _suppression(refined: Float[Tensor, "batch class h w"]) -> Float[Tensor, " batch"]:
    """Mean of the lowest quarter of positions, by the largest score that each has among the present classes."""
    largest = refined.amax(dim=1).flatten(1)
    lowest = largest.topk(max(1, largest.shape[1] // LOWEST), dim=1, largest=False).values
    return lowest.relu().mean(1)


def _hardest(
    cues: Float[Tensor, "batch label h w"], refined: Float[Tensor, "batch label h w"]
) -> Float[Tensor, " batch"]:
    """Mean of the largest fifth of the differences over all labels and positions."""
    apart = (cues - refined).abs().flatten(1)
    return apart.topk(max(1, int(HARDEST * apart.shape[1])), dim=1).values.mean(1)


def _largest_alone(maps: Float[Tensor, "batch class h w"]) -> Float[Tensor, "batch label h w"]:
    """The largest class of each position (or all equal ones); before the classes, background."""
    largest = maps.amax(dim=1, keepdim=True)
    return torch.cat([1 - largest, torch.where(maps < largest, 0, maps)], dim=1)
