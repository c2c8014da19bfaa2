"""The differentiable attention op against the float64 oracle, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kernels import reference

torch = pytest.importorskip("torch")

from engine.model.attention import CrissCrossAttention, criss_cross_attention  # noqa: E402

SHAPES = [(1, 1, 1, 1, 1), (1, 1, 7, 4, 3), (2, 9, 1, 5, 8), (1, 5, 8, 3, 17), (2, 13, 6, 16, 33)]


def _inputs(shape: tuple[int, ...], dtype=torch.float64) -> list[torch.Tensor]:
    batch, height, width, dim, channels = shape
    generator = torch.Generator().manual_seed(0)
    sizes = (dim, dim, channels)
    return [torch.randn(batch, height, width, n, generator=generator, dtype=dtype) for n in sizes]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_op_agrees_with_the_oracle(shape) -> None:
    q, k, v = _inputs(shape)
    out = criss_cross_attention(q, k, v)
    # The op's softmax is float32.
    assert np.allclose(out.numpy(), reference.criss_cross_attention(q, k, v), atol=1e-5)


def test_gradients_agree_with_finite_differences() -> None:
    q, k, v = (x.requires_grad_() for x in _inputs((1, 3, 4, 2, 3)))
    weight = torch.randn(1, 3, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (criss_cross_attention(q, k, v) * weight).sum().backward()
    for x in (q, k, v):
        step = 1e-3
        for index in [(0, 0, 0, 0), (0, 2, 3, 1), (0, 1, 2, 0)]:
            arrays = [y.detach().numpy().copy() for y in (q, k, v)]
            which = [y is x for y in (q, k, v)].index(True)
            values = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[which][index] += sign * step
                values.append(float((reference.criss_cross_attention(*moved) * weight.numpy()).sum()))
            assert float(x.grad[index]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-4)


def test_the_layer_starts_as_the_identity_and_scales_logits_by_log_length() -> None:
    torch.manual_seed(0)
    layer = CrissCrossAttention(8, 4, reference_length=31).double().eval()
    x = torch.randn(1, 8, 5, 7, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(0.5)
        packed = layer.query_key_value(x).permute(0, 2, 3, 1).numpy()
        q = packed[..., :4] * np.log(5 + 7 - 1) / np.log(31) / np.sqrt(4)
        expected = reference.criss_cross_attention(q, packed[..., 4:8], packed[..., 8:])
        assert np.allclose(layer(x).numpy(), x.numpy() + 0.5 * expected.transpose(0, 3, 1, 2), atol=1e-5)
