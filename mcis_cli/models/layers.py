"""New layers without published weights; pooling to scores; and checks of published weights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


def new_conv(
    num_inputs: int,
    num_outputs: int,
    *,
    kernel_size: int = 1,
    dilation: int = 1,
    bias: bool = True,
    std: float | None = None,
    bound: float | None = None,
    generator: torch.Generator | None = None,
) -> nn.Conv2d:
    """A convolution at stride 1 that keeps height and width, with random weights and zero bias.

    Args:
        num_inputs: Channels in.
        num_outputs: Channels out.
        kernel_size: Odd width of the kernel.
        dilation: Distance of the kernel's taps.
        bias: Whether there is a bias.
        std: Deviation of Gaussian weights; where None, √(2 / fan-in), which keeps the scale through a ReLU.
        bound: Where given, weights are uniform between its negative and it.
        generator: Source of the random numbers; torch's own where None.

    Returns:
        The layer, in float32 on the CPU.
    """
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(num_inputs, num_outputs, kernel_size, padding=padding, dilation=dilation, bias=bias)
    with torch.no_grad():
        if bound is None:
            conv.weight.normal_(0, std or math.sqrt(2 / (num_inputs * kernel_size**2)), generator=generator)
        else:
            conv.weight.uniform_(-bound, bound, generator=generator)
        if conv.bias is not None:
            conv.bias.zero_()
    return conv


def num_features_of(backbone: nn.Module) -> int:
    """Channels of a backbone's features: as it declares, or those of a blank image."""
    if isinstance(stated := getattr(backbone, "num_features", None), int):
        return stated
    with torch.no_grad():
        return int(backbone(torch.zeros(1, 3, 64, 64)).shape[1])


def average(maps: Float[Tensor, "batch class h w"]) -> Float[Tensor, "batch class"]:
    """GAP, the plain mean over positions, in float32 at least: from activation maps to logits."""
    return at_least_float32(maps).mean(dim=(2, 3))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision; leave float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def product(
    a: Float[Tensor, "*#batch row inner"], b: Float[Tensor, "*#batch inner column"]
) -> Float[Tensor, "*out row column"]:
    """a @ b, summed and returned in float32 at least, also inside autocast.

    The product of two bfloat16 numbers is exact in float32. So if both operands are bfloat16, hardware that multiplies
    them into float32 sums (AMX, tensor cores) is used, and only the order of the sum changes.

    Args:
        a: Matrices.
        b: Matrices, of the same type.
    """
    narrow = a.dtype == b.dtype == torch.bfloat16
    with torch.autocast(a.device.type, enabled=False), _products_of_bfloat16(narrow):
        return at_least_float32(a) @ at_least_float32(b)


@contextmanager
def _products_of_bfloat16(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


NUM_LISTED = 12  # weights of another network differ in hundreds


def misfits(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """The reasons why a state does not fit, one for each tensor; empty if it fits.

    Args:
        own: the network's state.
        found: the state of a file, under the network's names.
    """
    missing = [f"{name} is missing" for name in own if name not in found]
    unknown = [f"{name} is unknown" for name in found if name not in own]
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    return missing + unknown + shapes


def listed(wrong: Sequence[str]) -> str:
    """The first ones, and the number of the others."""
    more = f"; and {len(wrong) - NUM_LISTED} more" if len(wrong) > NUM_LISTED else ""
    return "; ".join(wrong[:NUM_LISTED]) + more
