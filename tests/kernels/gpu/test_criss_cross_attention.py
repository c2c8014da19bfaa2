"""The Triton kernel of criss-cross attention against the oracle, in both half types."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import GPU_KERNELS

from engine.kernels import criss_cross_attention as module
from engine.kernels import reference
from engine.kernels.criss_cross_attention import channel_block, criss_cross_attention

DTYPES = [torch.float16, torch.bfloat16]
# (B, H, W, D, C): single pixels and lines, odd and non-square maps, lines around the blocks of 64, channels in one
# block and in several, of 64 and of less, batches.
SHAPES = [
    (1, 1, 1, 16, 16),
    (1, 1, 9, 32, 64),
    (2, 11, 1, 16, 48),
    (3, 5, 3, 64, 80),
    (2, 7, 13, 32, 192),
    (1, 3, 64, 32, 64),
    (1, 65, 2, 32, 64),
    (1, 2, 130, 16, 32),
]


def _packed(shape: tuple[int, ...], dtype: torch.dtype, device: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """q, k, v as views of one packed tensor, as the graphs hand them over."""
    b, h, w, d, c = shape
    values = np.random.default_rng(seed).standard_normal((b, h, w, 2 * d + c))
    return torch.from_numpy(values).to(device, dtype).split([d, d, c], dim=-1)


def _assert_oracle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    ours = criss_cross_attention(q, k, v)
    assert ours.dtype == v.dtype
    assert ours.is_contiguous()
    expected = reference.criss_cross_attention(*(x.double().cpu().numpy() for x in (q, k, v)))
    tolerance = GPU_KERNELS["criss_cross_attention", str(v.dtype)]
    np.testing.assert_allclose(ours.double().cpu().numpy(), expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    _assert_oracle(*_packed(shape, dtype, device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_separate_tensors(dtype: torch.dtype, device: str) -> None:
    q, k, v = (x.contiguous() for x in _packed((2, 4, 6, 32, 64), dtype, device))
    _assert_oracle(q, k, v)
    # One of them packed with something else.
    _assert_oracle(q, torch.cat([k, k], dim=-1)[..., :32], v)


@pytest.mark.parametrize("blocks", [{"BLOCK_M": 16, "BLOCK_N": 32}, {"BLOCK_M": 32, "BLOCK_N": 16}], ids=str)
def test_block_sizes_do_not_matter(blocks: dict[str, int], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in blocks.items():
        monkeypatch.setitem(module.BLOCKS, name, size)
    _assert_oracle(*_packed((1, 35, 50, 16, 16), torch.float16, device))


def test_each_pixel_counts_once(device: str) -> None:
    # Equal logits: the mean over the cross, in which the own pixel is one of H + W - 1.
    q = torch.zeros((1, 2, 2, 16), dtype=torch.float16, device=device)
    v = torch.tensor([[1.0, 2.0], [6.0, 9.0]], dtype=torch.float16, device=device)[None, :, :, None].repeat(1, 1, 1, 16)
    ours = criss_cross_attention(q, q, v)
    expected = torch.tensor([[3, 4], [16 / 3, 17 / 3]], dtype=torch.float16, device=device)
    assert (ours == expected[None, :, :, None]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_logits_do_not_overflow(dtype: torch.dtype, device: str) -> None:
    # Small integers, so that logits in the thousands are exact; 2 to their power is not finite even in float64.
    rng = np.random.default_rng(0)
    q, k, v = (torch.from_numpy(rng.integers(-30, 31, (1, 9, 11, 16))).to(device, dtype) for _ in range(3))
    _assert_oracle(q, k, v)


def test_images_of_a_batch_are_independent(device: str) -> None:
    q, k, v = _packed((3, 6, 5, 16, 32), torch.float16, device)
    alone = torch.cat([criss_cross_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1]) for i in range(3)])
    assert torch.equal(criss_cross_attention(q, k, v), alone)


def test_empty(device: str) -> None:
    q, k, v = _packed((1, 0, 5, 16, 32), torch.float16, device)
    assert criss_cross_attention(q, k, v).shape == (1, 0, 5, 32)


@pytest.mark.parametrize(("channels", "block"), [(16, 16), (48, 16), (64, 64), (96, 32), (192, 64), (256, 64)])
def test_channel_block(channels: int, block: int) -> None:
    assert channel_block(channels) == block


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 2, 2, 24, 16), torch.float16, "D must be 16, 32, 64 or 128"),
        ((1, 2, 2, 16, 8), torch.float16, "C a multiple of 16"),
        ((1, 2, 2, 16, 16), torch.float32, "must all be float16 or bfloat16"),
    ],
)
def test_rejects(shape: tuple[int, ...], dtype: torch.dtype, message: str, device: str) -> None:
    with pytest.raises(ValueError, match=message):
        criss_cross_attention(*_packed(shape, dtype, device))


def test_rejects_layouts(device: str) -> None:
    q, k, v = _packed((1, 4, 6, 16, 16), torch.float16, device)
    with pytest.raises(ValueError, match="pixels of k must be evenly spaced"):
        criss_cross_attention(q, k.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3), v)
    with pytest.raises(ValueError, match="pixels of v must be evenly spaced"):
        criss_cross_attention(q, k, v[:, :, :1].expand(1, 4, 6, 16))
    with pytest.raises(ValueError, match="q, k, v must be"):
        criss_cross_attention(q, k[:, :3], v)
