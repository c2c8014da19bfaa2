"""Gradients of depthwise convolutions against float64 ones of PyTorch, and their place in training."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from engine.model.depthwise import depthwise_convolution  # noqa: E402
from engine.model.layers import ConvNorm, channels_last  # noqa: E402

# Largest difference in shares of the largest value: rounding of inputs' products, and in bfloat16 of each result.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding"),
    [
        ((2, 24, 9, 7), 5, 1, 2),
        ((1, 3, 1, 1), 5, 1, 2),
        ((2, 17, 19, 15), 5, 2, 0),  # As a SAME padding leaves it.
        ((2, 17, 18, 14), 5, 2, 0),  # The last row and column are under no filter's edge.
        ((2, 17, 8, 11), 5, 2, 2),
        ((2, 24, 9, 7), 3, 1, 1),
        ((3, 8, 16, 17), 3, 2, 0),
        ((2, 5, 4, 6), 1, 1, 0),
    ],
)
def test_result_and_gradients_are_those_of_a_convolution(shape, kernel, stride, padding, dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *sizes: torch.randn(sizes, generator=generator).to(dtype)  # noqa: E731
    inputs = draw(*shape), draw(shape[1], 1, kernel, kernel), draw(shape[1])
    exact = [x.double().requires_grad_() for x in inputs]
    inputs = [x.requires_grad_() for x in inputs]
    found = depthwise_convolution(*inputs, stride, padding)
    expected = F.conv2d(*exact, stride, padding, groups=shape[1])
    grad = draw(*expected.shape)
    ours_all = found, *torch.autograd.grad(found, inputs, grad)
    theirs_all = expected, *torch.autograd.grad(expected, exact, grad.double())
    for ours, theirs in zip(ours_all, theirs_all, strict=True):
        assert ours.dtype == dtype
        atol = TOLERANCES[dtype] * float(theirs.detach().abs().max())
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_in_bfloat16_has_the_gradients_of_one_in_float32(stride) -> None:
    torch.manual_seed(0)
    layer = channels_last(ConvNorm(16, 16, 5, stride, groups=16, activation="relu6", same=True)).train()
    layer.norm.eval()  # As a trunk is trained, with the statistics that it came with.
    x = torch.randn(2, 16, 12, 10, requires_grad=True)
    wanted = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x).square().sum(), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(x)
    assert result.dtype == torch.bfloat16
    for ours, theirs in zip(torch.autograd.grad(result.float().square().sum(), wanted), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-2 * float(theirs.abs().max()))
