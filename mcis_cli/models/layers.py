"""New layers, which no published weights fill: their shape, padding and initial values in one place."""

import math

import torch
from torch import nn


def new_conv(
    num_inputs: int,
    num_outputs: int,
    *,
    kernel_size: int = 1,
    dilation: int = 1,
    bias: bool = True,
    std: float | None = None,
    generator: torch.Generator | None = None,
) -> nn.Conv2d:
    """A convolution at stride 1 that keeps height and width, with Gaussian weights and zero bias.

    Args:
        num_inputs: Channels in.
        num_outputs: Channels out.
        kernel_size: Odd width of the kernel.
        dilation: Distance of the kernel's taps.
        bias: Whether there is a bias.
        std: Deviation of the weights; where None, √(2 / fan-in), which keeps the scale through a ReLU.
        generator: Source of the random numbers; torch's own where None.

    Returns:
        The layer, in float32 on the CPU.
    """
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(num_inputs, num_outputs, kernel_size, padding=padding, dilation=dilation, bias=bias)
    with torch.no_grad():
        conv.weight.normal_(0, std or math.sqrt(2 / (num_inputs * kernel_size**2)), generator=generator)
        if conv.bias is not None:
            conv.bias.zero_()
    return conv
