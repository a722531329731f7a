"""Networks of timm as dense feature extractors: dilated to an output stride, or as `timm_maps` makes them.

Only names in timm's list are accepted, not addresses of a hub or folders.
"""

import difflib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from timm.models import is_model, split_model_name_tag
from torch import nn

from mcis_cli.errors import UsageError
from mcis_cli.models.backbones import PREFIX
from mcis_cli.models.timm_maps import Extractor, cut_pyramid, patch_transformer, stages_of

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class TimmNetwork:
    """A network without its classifier, and the facts that its users need.

    Attributes:
        network: From images to unpooled features.
        num_features: Channels of the features.
        stages: The parameters by timm's level of resolution; in a transformer, those before its
            blocks, and four groups of blocks.
        taps: The layers that end the last two levels but one, lower first, with their channels; in a transformer, maps
            after a third and two thirds of its blocks.
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
        output_stride: Pixels for each cell: 8 or 16; in a transformer, the size of its patches.

    Raises:
        UsageError: timm does not list it, or cannot give features of that stride.
    """
    require_listed(name)
    build, dropped, hidden = _way(name, output_stride)
    # Buffers that no file of weights holds need their values, also if the caller builds on "meta".
    with torch.device("cpu") if hidden else nullcontext():
        found = build(name, output_stride)
    config = found.network.pretrained_cfg
    return TimmNetwork(
        **found._asdict(),
        dropped=dropped,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


@cache
def _way(name: str, output_stride: int) -> tuple[Callable[[str, int], Extractor], tuple[str, ...], bool]:
    """The first way in which a network gives maps of features at a stride, the names of the published layers that are
    then left out, and whether the network has buffers that no file holds; found on "meta".
    """
    with torch.device("meta"):
        published = timm.create_model(name, pretrained=False).state_dict().keys()
    faults = []
    for build, size in ((_dilated, (64, 96)), (patch_transformer, (75, 45)), (cut_pyramid, (75, 45))):
        try:
            with torch.device("meta"):
                network, num_features, *_ = build(name, output_stride)
                shape = tuple(network.eval()(torch.zeros(1, 3, *size)).shape)
            if shape == (1, num_features, *(-(-side // output_stride) for side in size)):
                own = network.state_dict().keys()
                return build, tuple(sorted(published - own)), bool(dict(network.named_buffers()).keys() - own)
            faults.append(f"features of the shape {shape}")
        except UsageError:
            raise
        except Exception as error:  # timm raises various errors
            faults.append(" ".join(f"{type(error).__name__}: {error}".split())[:120].rstrip(": "))
    raise UsageError(
        f"timm's {name} gives no maps of features with output stride {output_stride}: found {faults[0]}; take another "
        "network, such as those in docs/reference/backbones.md"
    )


def _dilated(name: str, output_stride: int) -> Extractor:
    """A network of convolutions whose last strides are dropped, and the layers after them dilated."""
    # timm's attributes of its networks have no types.
    network: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", output_stride=output_stride)
    levels = network.feature_info
    taps = [(network.get_submodule(level["module"]), level["num_chs"]) for level in levels[-3:-1]]
    return Extractor(network, int(network.num_features), stages_of(network, levels), taps)
