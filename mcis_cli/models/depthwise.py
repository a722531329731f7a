"""Depthwise convolution with a quick backward pass on CPUs, where it takes most of the time of training lite0.

There, PyTorch differentiates a dilated depthwise convolution ten and more times slower than it computes it, and more
so in bfloat16. Two identities help: the gradient of the input is a depthwise convolution itself, with the kernel
turned by half a circle; and the gradient of the weight is quicker in float32, conversion included.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from mcis_cli.models.layers import at_least_float32


class DepthwiseConv(nn.Module):
    """Stands for a depthwise `nn.Conv2d` at stride 1 without bias: same result, same name and shape of the weight."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take over the weight of a convolution.

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
            weight_gradient = conv2d_weight(  # type: ignore[no-untyped-call]
                at_least_float32(inputs),
                weight.shape,
                at_least_float32(gradient),
                padding=ctx.padding,
                dilation=ctx.dilation,
                groups=len(weight),
            ).to(weight.dtype)
        return input_gradient, weight_gradient, None, None
