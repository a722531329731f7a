"""Depthwise convolution with a fast backward pass on CPUs, where it takes most of the time of training lite0.

On CPUs, PyTorch's backward pass of a depthwise convolution is ten and more times slower than its forward pass, except
for kernels of 3×3 without dilation. Three identities help: the gradient of the input is a depthwise convolution itself,
with the kernel turned by half a circle; a dilated convolution is a plain one of each of the grids that its taps step
on; and the gradient of a large kernel consists of those of its parts of 3×3. The last two do not pay in float32.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight


class DepthwiseConv(nn.Module):
    """Replaces a depthwise `nn.Conv2d` at stride 1 without bias: same result, same name and shape of the weight."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Copy the weight of a convolution.

        Args:
            conv: One of those that `can_replace` names.
        """
        assert self.can_replace(conv)
        super().__init__()
        self.weight = conv.weight
        self.kernel_size, self.dilation = conv.kernel_size, conv.dilation
        self.padding = (int(conv.padding[0]), int(conv.padding[1]))

    @staticmethod
    def can_replace(conv: nn.Conv2d) -> bool:
        """Whether a convolution is depthwise, at stride 1, without bias, with zeros around, padding in numbers."""
        depthwise = conv.groups == conv.in_channels == conv.out_channels
        plain = conv.stride == (1, 1) and conv.bias is None
        return depthwise and plain and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h_out w_out"]:
        """Convolve every channel with its own kernel."""
        weight = self.weight
        if inputs.device.type != "cpu":
            return functional.conv2d(inputs, weight, None, 1, self.padding, self.dilation, len(weight))
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            inputs, weight = inputs.to(dtype), weight.to(dtype)
        return _DepthwiseFunction.apply(inputs, weight, self.padding, self.dilation)  # type: ignore[no-any-return]


class _DepthwiseFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, padding: tuple[int, int], dilation: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return functional.conv2d(inputs, weight, None, 1, padding, dilation, len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        input_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            padding = [
                dilation * (size - 1) - before
                for dilation, size, before in zip(ctx.dilation, weight.shape[2:], ctx.padding, strict=True)
            ]
            turned = weight.flip(2, 3)
            input_gradient = functional.conv2d(gradient, turned, None, 1, padding, ctx.dilation, len(weight))
        if ctx.needs_input_grad[1]:
            weight_gradient = _weight_gradient(inputs, gradient, weight, ctx.padding, ctx.dilation)
        return input_gradient, weight_gradient, None, None


def _weight_gradient(
    inputs: Tensor, gradient: Tensor, weight: Tensor, padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """The gradient of the kernels; in bfloat16 in parts of 3×3, on the grids of the dilation."""
    groups, kernel = len(weight), weight.shape[2:]
    if weight.dtype != torch.bfloat16:
        found: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            inputs, weight.shape, gradient, padding=padding, dilation=dilation, groups=groups
        )
        return found
    # Both cover the same whole number of steps; the inputs also cover the kernel's reach.
    steps = [-(-size // step) for size, step in zip(gradient.shape[2:], dilation, strict=True)]
    apart = _grids(gradient, (0, 0), steps, dilation)
    around = _grids(inputs, padding, [n + size - 1 for n, size in zip(steps, kernel, strict=True)], dilation)
    height, width = (min(3, size) for size in kernel)
    parts = torch.empty_like(weight)
    for top in {*range(0, kernel[0] - height, 2), kernel[0] - height}:
        for left in {*range(0, kernel[1] - width, 2), kernel[1] - width}:
            seen = around[:, :, top : top + steps[0] + height - 1, left : left + steps[1] + width - 1]
            parts[:, :, top : top + height, left : left + width] = conv2d_weight(  # type: ignore[no-untyped-call]
                seen.contiguous(memory_format=torch.channels_last),
                (groups, 1, height, width),
                apart,
                groups=groups,
            )
    return parts


def _grids(
    tensor: Float[Tensor, "batch channel h w"],
    before: tuple[int, int],
    steps: list[int],
    dilation: tuple[int, int],
) -> Float[Tensor, "grids_batch channel steps_y steps_x"]:
    """The grids of every `dilation`-th row and column, as a larger batch of a given size; padded with zeros."""
    (top, left), (down, across) = before, dilation
    below, right = steps[0] * down - top - tensor.shape[2], steps[1] * across - left - tensor.shape[3]
    if any((top, below, left, right)):
        tensor = functional.pad(tensor, (left, right, top, below))
    if dilation == (1, 1):
        return tensor.contiguous(memory_format=torch.channels_last)
    parted = tensor.permute(0, 2, 3, 1).reshape(len(tensor), steps[0], down, steps[1], across, tensor.shape[1])
    return parted.permute(2, 4, 0, 1, 3, 5).reshape(-1, *steps, tensor.shape[1]).permute(0, 3, 1, 2)
