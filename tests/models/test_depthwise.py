"""The quick depthwise convolution against PyTorch's own, forward and backward."""

import pytest
import torch
from torch import Tensor, nn

from mcis_cli.models.depthwise import DepthwiseConv


def make_conv(kernel_size: int = 5, dilation: int = 2, padding: int | None = None, stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    padding = dilation * (kernel_size // 2) if padding is None else padding
    return nn.Conv2d(3, 3, kernel_size, stride, padding, dilation, groups=3, bias=False)


def make_inputs() -> Tensor:
    return torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "padding"),
    [(3, 1, 1), (5, 2, 4), (5, 4, 8), (3, 2, 0), (3, 1, 2), (7, 1, 3), (4, 2, 3), (1, 1, 0), (5, 1, 2), (2, 1, 0)],
)
def test_result_and_gradients_equal_those_of_conv2d(kernel_size: int, dilation: int, padding: int) -> None:
    conv = make_conv(kernel_size, dilation, padding).double()
    inputs = make_inputs().double().requires_grad_()
    results = []
    for layer in (conv, DepthwiseConv(conv)):
        output = layer(inputs)
        upstream = torch.rand(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(2))
        results.append((output, *torch.autograd.grad(output, [inputs, conv.weight], upstream)))
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "padding"),
    [(3, 1, 1), (3, 2, 2), (5, 1, 2), (5, 2, 4), (5, 4, 8), (7, 1, 3), (4, 2, 3)],
)
def test_the_gradient_in_bfloat16_is_the_exact_one_of_rounded_numbers(kernel_size, dilation, padding) -> None:
    conv = make_conv(kernel_size, dilation, padding).bfloat16()
    inputs, upstream = make_inputs().bfloat16(), None
    found = []
    for layer in (DepthwiseConv(conv), conv.double()):
        output = layer(inputs.to(layer.weight.dtype))
        upstream = torch.ones_like(output) if upstream is None else upstream
        found += torch.autograd.grad(output, layer.weight, upstream.to(output.dtype))
    torch.testing.assert_close(found[0].double(), found[1].double(), rtol=0.005, atol=0.02)


def test_gradients_agree_with_finite_differences() -> None:
    layer = DepthwiseConv(make_conv(3, 2).double())
    inputs = torch.rand(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, _: layer(x), (inputs, layer.weight))


def test_autocast_computes_in_bfloat16_and_keeps_the_weights_gradient_in_float32() -> None:
    conv = make_conv()
    layer = DepthwiseConv(conv)
    inputs = make_inputs()
    (exact,) = torch.autograd.grad(conv(inputs).sum(), conv.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(inputs)
    output.sum().backward()
    assert output.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, exact, rtol=0.02, atol=0.02)


def test_frozen_weights_get_no_gradient_and_inputs_still_do() -> None:
    layer = DepthwiseConv(make_conv()).requires_grad_(False)
    inputs = make_inputs().requires_grad_()
    layer(inputs).sum().backward()
    assert inputs.grad is not None
    assert layer.weight.grad is None


def test_state_is_that_of_the_convolution() -> None:
    conv = make_conv()
    state = DepthwiseConv(conv).state_dict()
    assert list(state) == ["weight"]
    assert torch.equal(state["weight"], conv.weight)


@pytest.mark.parametrize("conv", [make_conv(stride=2), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, groups=3)])
def test_other_convolutions_are_refused(conv: nn.Conv2d) -> None:
    with pytest.raises(AssertionError):
        DepthwiseConv(conv)
