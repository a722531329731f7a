"""AffinityNet (Ahn & Kwak, CVPR 2018): how similar neighbours in an image are, learned from confident regions of maps.

Affinities are kept by offset: plane o holds, at each position, its affinity with the position `offsets[o]` away. The
walk over them is `maps.random_walk`'s.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.models.backbones import Backbone
from mcis_cli.models.layers import at_least_float32, new_conv

Offset = tuple[int, int]
BACKGROUND, IGNORE_INDEX = 0, 255
TAP_WIDTHS = (64, 128, 256)
TAP_GROUPS = (8, 16, 32)
LOG_FLOOR = 1e-5  # minimum of an affinity, and of one minus it, before the logarithm


def pair_offsets(radius: int) -> tuple[Offset, ...]:
    """Offsets (down, right) from a position to those nearer than `radius`, one of each two opposite ones.

    Args:
        radius: cells; 5 gives 34 offsets, as AffinityNet has.
    """
    reach = range(-radius + 1, radius)
    return tuple(
        (down, right)
        for down in range(radius)
        for right in reach
        if (down > 0 or right > 0) and down**2 + right**2 < radius**2
    )


class PairwiseAffinity(nn.Module):
    """Three levels of a backbone, each reduced by a 1×1 convolution and ELU, joined, and one more 1×1 with ELU.

    The new layers have the names of the authors' public checkpoints. On a backbone without batch norm (VGG-16) the
    levels differ in scale by orders of magnitude; so group norm is added before the first ELU, as by the authors.
    """

    def __init__(self, backbone: Backbone, *, generator: torch.Generator | None = None) -> None:
        """Put the new layers on a backbone.

        Args:
            backbone: with its taps.
            generator: source of the new weights; torch's own where None.
        """
        super().__init__()
        self.backbone = backbone
        convs = (
            new_conv(channels, width, bias=False, generator=generator)
            for channels, width in zip((*backbone.tap_channels, backbone.num_features), TAP_WIDTHS, strict=True)
        )
        self.f8_3, self.f8_4, self.f8_5 = convs
        joined = sum(TAP_WIDTHS)
        # The affinity is a mean over channels, so differences must be large to show in it.
        self.f9 = new_conv(joined, joined, bias=False, std=4 / joined**0.5, generator=generator)
        has_norm = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
        norms: list[nn.Module] = [
            nn.Identity() if has_norm else nn.GroupNorm(*sizes) for sizes in zip(TAP_GROUPS, TAP_WIDTHS, strict=True)
        ]
        self.gn8_3, self.gn8_4, self.gn8_5 = norms

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 448 h_out w_out"]:
        """The features by which positions are compared, on the grid of the backbone's last level."""
        taps = self.backbone.taps(images)
        size = taps[-1].shape[-2:]
        convs, norms = (self.f8_3, self.f8_4, self.f8_5), (self.gn8_3, self.gn8_4, self.gn8_5)
        reduced = [
            functional.elu(norm(conv(_on_grid(tap, size)))) for tap, conv, norm in zip(taps, convs, norms, strict=True)
        ]
        return functional.elu(self.f9(torch.cat(reduced, 1)))

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters without published weights."""
        of_trunk = {id(parameter) for parameter in self.backbone.trunk.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in of_trunk]


def _on_grid(tap: Tensor, size: torch.Size) -> Tensor:
    """A level on the grid of the last one: the mean of the cells that it covers."""
    return tap if tap.shape[-2:] == size else functional.adaptive_avg_pool2d(tap, (size[0], size[1]))


def affinities(
    embedding: Float[Tensor, "batch channel h w"], offsets: Sequence[Offset]
) -> Float[Tensor, "batch offset h w"]:
    """Affinity of each position with those at some offsets: exp(− mean over the channels of |difference|).

    Args:
        embedding: from `PairwiseAffinity`.
        offsets: from `pair_offsets`.

    Returns:
        In (0, 1], and 0 where the other position is outside.
    """
    planes = []
    for offset, (here, there) in zip(offsets, _windows(embedding, offsets), strict=True):
        distance = at_least_float32((here - there).abs()).mean(1)
        planes.append(_placed(torch.exp(-distance), offset, embedding.shape[-2:]))
    return torch.stack(planes, 1)


def _windows(grid: Tensor, offsets: Sequence[Offset]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each offset, the positions with a neighbour there, and these neighbours, in the same order."""
    height, width = grid.shape[-2:]
    for down, right in offsets:
        left, first = max(0, -right), max(0, right)
        span = max(0, width - abs(right))
        rows = max(0, height - down)
        here = grid[..., :rows, left : left + span]
        there = grid[..., down : down + rows, first : first + span]
        yield here, there


def _placed(values: Tensor, offset: Offset, size: torch.Size) -> Tensor:
    """Values of the positions with a neighbour at an offset, on the whole grid; 0 elsewhere."""
    down, right = offset
    missing_rows, missing_columns = size[0] - values.shape[-2], size[1] - values.shape[-1]
    sides = (missing_columns, 0) if right < 0 else (0, missing_columns)
    assert missing_rows == min(down, size[0])
    return functional.pad(values, (*sides, 0, missing_rows))


class PairLabels(NamedTuple):
    """The pairs that are known to belong together, and those known not to; in the order of `affinities`.

    Attributes:
        background: both positions are background.
        foreground: both are of the same class.
        negative: they are of different ones.
    """

    background: Bool[Tensor, "batch offset h w"]
    foreground: Bool[Tensor, "batch offset h w"]
    negative: Bool[Tensor, "batch offset h w"]


def pair_labels(labels: UInt8[Tensor, "batch h w"], offsets: Sequence[Offset]) -> PairLabels:
    """Labels of pairs from labels of positions; a pair counts if neither is ignored (255)."""
    planes: tuple[list[Tensor], ...] = ([], [], [])
    for offset, (here, there) in zip(offsets, _windows(labels, offsets), strict=True):
        known = (here != IGNORE_INDEX) & (there != IGNORE_INDEX)
        same = known & (here == there)
        found = (same & (here == BACKGROUND), same & (here != BACKGROUND), known & (here != there))
        for plane, one in zip(planes, found, strict=True):
            plane.append(_placed(one, offset, labels.shape[-2:]))
    return PairLabels(*(torch.stack(plane, 1) for plane in planes))


def affinity_loss(found: Float[Tensor, "batch offset h w"], labels: PairLabels) -> dict[str, Float[Tensor, ""]]:
    """The three terms of AffinityNet and their sum, `total`: ¼ background + ¼ foreground + ½ negative.

    Each is a mean over its pairs in the whole batch, of −log a where they belong together and of −log(1 − a) where they
    do not; 0 if there are none.
    """
    together, apart = -torch.log(found + LOG_FLOOR), -torch.log(1 + LOG_FLOOR - found)
    terms = {
        "background": _mean(together, labels.background),
        "foreground": _mean(together, labels.foreground),
        "negative": _mean(apart, labels.negative),
    }
    return {"total": terms["background"] / 4 + terms["foreground"] / 4 + terms["negative"] / 2, **terms}


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum() / counts.sum().clamp(min=1)


def reduced_labels(labels: UInt8[Tensor, "batch height width"], size: tuple[int, int]) -> UInt8[Tensor, "batch h w"]:
    """Labels on a coarser grid: the most frequent one of a cell's pixels, a class or 255.

    Args:
        labels: of pixels.
        size: of the grid; where it does not divide the labels' size, cells share rows or columns.
    """
    present: Tensor = torch.unique(labels)
    shares = torch.stack([functional.adaptive_avg_pool2d((labels == value).float(), size) for value in present])
    return present[shares.argmax(0)]
