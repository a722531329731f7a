"""Networks of timm that do not dilate, as dense feature extractors: vision transformers, whose patches become positions
of a map, and pyramids such as Swin, which are cut after the level that has the output stride.

Both keep timm's names of layers, so that published weights fit.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import timm
from jaxtyping import Float
from torch import Tensor, nn

from mcis_cli.errors import UsageError

PATCH_SIZES = (8, 14, 16)
NUM_STAGES = 5


class Extractor(NamedTuple):
    """A network that gives maps.

    Attributes:
        network: From images to features (B, C, H', W').
        num_features: C.
        stages: Its parameters by the order in which they can be frozen.
        taps: Two modules whose outputs are lower features, with their channels.
    """

    network: Any
    num_features: int
    stages: list[list[nn.Parameter]]
    taps: list[tuple[nn.Module, int]]


class _PatchMaps:
    """Mixed into a transformer's class: the tokens of patches after the last norm, as a map."""

    def forward(self: Any, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch channel h_out w_out"]:
        """Features without class and register tokens; images are padded to whole patches, with the mean colour."""
        tokens, lower = self.forward_intermediates(images, indices=self.tapped)
        for tap, features in zip(self.taps, lower, strict=True):
            tap(features)
        height, width = self.patch_embed.dynamic_feat_size(images.shape[2:])
        patches = self.fc_norm(tokens)[:, self.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, (height, width))  # type: ignore[no-any-return]


class _LevelMaps:
    """Mixed into a pyramid's class: the features of the last level that is left."""

    def forward(self: Any, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch channel h_out w_out"]:
        """Features of the last level, without the norm that the published network has after its last one."""
        *lower, end = self.forward_intermediates(images, indices=self.tapped, intermediates_only=True)
        for tap, features in zip(self.taps, (lower[0], lower[-1]), strict=True):
            tap(features)
        return end  # type: ignore[no-any-return]


def patch_transformer(name: str, output_stride: int) -> Extractor:
    """A vision transformer for images of any size: timm interpolates its position embeddings.

    Raises:
        UsageError: The output stride is not the size of its patches.
        TypeError, AttributeError: It is no such transformer.
    """
    network: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True)
    blocks, patch = list(network.blocks), network.feature_info[0]["reduction"]
    if patch != output_stride:
        fix = (
            f"set it with --set SECTION.output_stride={patch}" if patch in PATCH_SIZES else "choose another --backbone"
        )
        raise UsageError(
            f"timm:{name} does not support output stride {output_stride}: expected {patch}, the size of its patches; "
            f"{fix}"
        )
    network.reset_classifier(0, "")
    stages: list[list[nn.Parameter]] = [[] for _ in range(NUM_STAGES)]
    for parameter_name, parameter in network.named_parameters():
        room, number = (*parameter_name.split("."), "")[:2]
        if room == "blocks":
            stages[1 + int(number) * (NUM_STAGES - 1) // len(blocks)].append(parameter)
        else:
            stages[-1 if room in ("norm", "fc_norm") else 0].append(parameter)
    _mix(network, _PatchMaps, [len(blocks) // 3, 2 * len(blocks) // 3])
    width = int(network.num_features)
    return Extractor(network, width, stages, [(tap, width) for tap in network.taps])


def cut_pyramid(name: str, output_stride: int) -> Extractor:
    """A network up to its level of an output stride; what follows is left out.

    Raises:
        TypeError, AttributeError, ValueError: timm cannot cut it, or it has no such level.
    """
    try:
        network: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    except TypeError:  # a network of convolutions takes any size
        network = timm.create_model(name, num_classes=0)
    levels = list(network.feature_info)
    last = max(place for place, level in enumerate(levels) if level["reduction"] == output_stride)
    tapped = sorted({max(0, last - 2), max(0, last - 1), last})
    network.prune_intermediate_layers(tapped, prune_norm=True, prune_head=True)
    if hasattr(network, "patch_embed"):
        network.patch_embed.dynamic_img_pad = True
    _mix(network, _LevelMaps, tapped)
    channels = [level["num_chs"] for level in levels]
    taps = zip(network.taps, (channels[tapped[0]], channels[tapped[-2]]), strict=True)
    return Extractor(network, channels[last], stages_of(network, levels[: last + 1]), list(taps))


def stages_of(network: Any, levels: Sequence[Mapping[str, Any]]) -> list[list[nn.Parameter]]:
    """The parameters by level, in the order in which timm registers them; those after the last level belong to it."""
    places = {name: place for place, name in enumerate(dict(network.named_modules()))}
    ends = [
        max(place for name, place in places.items() if f"{name}.".startswith(f"{level['module']}."))
        for level in levels[:-1]
    ]
    stages: list[list[nn.Parameter]] = [[] for _ in levels]
    for name, parameter in network.named_parameters():
        stages[bisect_left(ends, places[name.rpartition(".")[0]])].append(parameter)
    return stages


def _mix(network: Any, forward: type, tapped: list[int]) -> None:
    """Give a network another `forward`, and modules without weights through which its lower features pass."""
    network.__class__ = type(type(network).__name__, (forward, type(network)), {})
    network.tapped, network.taps = tapped, nn.ModuleList([nn.Identity(), nn.Identity()])
