"""Convolutional networks of timm as dense feature extractors: any that timm lists and builds with an output stride.

Only names in timm's list are accepted, not addresses of a hub or folders.
"""

import difflib
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models import is_model, split_model_name_tag
from torch import nn

from mcis_cli.errors import UsageError

PREFIX = "timm:"
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class TimmNetwork:
    """A network without its classifier, and the facts that its users need.

    Attributes:
        network: From images to unpooled features.
        num_features: Channels of the features.
        stages: The parameters by timm's level of resolution.
        taps: The layers that end the last two levels but one, lower first, with their channels.
        dropped: Names of the published layers that are left out.
        mean, std: What images are normalised by, on the scale 0..1, as in the training of the published weights.
    """

    network: nn.Module
    num_features: int
    stages: list[list[nn.Parameter]]
    taps: list[tuple[nn.Module, int]]
    dropped: tuple[str, ...]
    mean: Triple
    std: Triple


def is_listed(name: str) -> bool:
    """Whether timm lists a network of that name, and, if the name has a tag, weights of that tag."""
    architecture, tag = split_model_name_tag(name)
    return is_model(architecture) and (not tag or name in timm.list_pretrained(f"{architecture}.*"))


def require_listed(name: str) -> None:
    """Check that timm lists a network.

    Raises:
        UsageError: it does not.
    """
    if is_listed(name):
        return
    architecture = split_model_name_tag(name)[0]
    near = difflib.get_close_matches(name, [*timm.list_pretrained(f"{architecture}.*"), *timm.list_models()], n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "timm.list_models() lists them"
    raise UsageError(f"timm {timm.__version__} has no network {name!r:.80}; {hint} (--backbone {PREFIX}NAME)")


def build_timm_network(name: str, *, output_stride: int) -> TimmNetwork:
    """A network with random weights; nothing is downloaded.

    Args:
        name: As timm lists it, with or without the tag of its weights.
        output_stride: 8 or 16 pixels for each cell.

    Raises:
        UsageError: timm does not list it, or cannot give features of that stride.
    """
    require_listed(name)
    _refuse_without_stride(name, output_stride)
    # timm's attributes of its networks have no types.
    network: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", output_stride=output_stride)
    with torch.device("meta"):
        published = timm.create_model(name, pretrained=False).state_dict()
    levels = network.feature_info
    config = network.pretrained_cfg
    return TimmNetwork(
        network=network,
        num_features=int(network.num_features),
        stages=_stages(network),
        taps=[(network.get_submodule(level["module"]), level["num_chs"]) for level in levels[-3:-1]],
        dropped=tuple(sorted(published.keys() - network.state_dict().keys())),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _refuse_without_stride(name: str, output_stride: int) -> None:
    """Check whether a network gives maps of features at a stride, without computing any."""
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(
                name, pretrained=False, num_classes=0, global_pool="", output_stride=output_stride
            ).eval()
            features = network(torch.zeros(1, 3, 64, 96))
        expected = (1, network.num_features, 64 // output_stride, 96 // output_stride)
        fault = None if tuple(features.shape) == expected else f"features of the shape {tuple(features.shape)}"
    except (TypeError, AssertionError, NotImplementedError, RuntimeError) as error:  # timm raises various errors
        fault = " ".join(f"{type(error).__name__}: {error}".split())[:120].rstrip(": ")
    if fault:
        raise UsageError(
            f"timm's {name} gives no maps of features with output stride {output_stride}: found {fault}; take a "
            "network that dilates, as those in docs/reference/backbones.md"
        )


def _stages(network: Any) -> list[list[nn.Parameter]]:
    """The parameters by level, in the order in which timm registers them; those after the last level belong to it."""
    places = {name: place for place, name in enumerate(dict(network.named_modules()))}
    levels = [level["module"] for level in network.feature_info]
    ends = [max(place for name, place in places.items() if f"{name}.".startswith(f"{level}.")) for level in levels[:-1]]
    stages: list[list[nn.Parameter]] = [[] for _ in levels]
    for name, parameter in network.named_parameters():
        stages[bisect_left(ends, places[name.rpartition(".")[0]])].append(parameter)
    return stages
