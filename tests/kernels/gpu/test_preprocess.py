"""The Triton kernel of the input: near the oracle, and bit for bit what the CPU path rounds to half."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import GPU_KERNELS

from engine.config import ModelConfig
from engine.image.tiles import to_input
from engine.kernels import reference
from engine.kernels.preprocess import preprocess

MODEL = ModelConfig()
DTYPES = [torch.float16, torch.bfloat16]
# One pixel, lines, whole multiples of the padding, odd sizes, rows longer than a block.
SHAPES = [(1, 1), (1, 40), (33, 1), (32, 64), (7, 31), (3, 300)]


def _picture(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def _expected(picture: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(to_input(picture, MODEL)).to(dtype)


def _ours(image: torch.Tensor, dtype: torch.dtype, bgr: bool = False) -> torch.Tensor:
    return preprocess(image, MODEL.pixel_mean, MODEL.pixel_std, dtype, bgr=bgr).cpu()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_cpu_path_rounded(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    picture = _picture(shape)
    ours = _ours(torch.from_numpy(picture).to(device), dtype)
    assert torch.equal(ours, _expected(picture, dtype))
    tolerance = GPU_KERNELS["preprocess", str(dtype)]
    expected = reference.preprocess(picture, MODEL.pixel_mean, MODEL.pixel_std)
    np.testing.assert_allclose(ours.double().numpy(), expected, atol=tolerance.absolute, rtol=tolerance.relative)


def test_every_value_of_a_pixel(device: str) -> None:
    picture = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    for dtype in DTYPES:
        assert torch.equal(_ours(torch.from_numpy(picture).to(device), dtype), _expected(picture, dtype))


def test_bgr(device: str) -> None:
    picture = _picture((5, 9))
    reversed_channels = torch.from_numpy(picture[..., ::-1].copy()).to(device)
    assert torch.equal(_ours(reversed_channels, torch.float16, bgr=True), _expected(picture, torch.float16))


def test_any_strides(device: str) -> None:
    picture = _picture((6, 10))
    expected = _expected(picture[:, :7], torch.float16)
    image = torch.from_numpy(picture).to(device)
    with_alpha = torch.cat([image, image[..., :1]], dim=2)[..., :3]
    channels_first = image.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for view in (image[:, :7], with_alpha[:, :7], channels_first[:, :7]):
        assert not view.is_contiguous()
        assert torch.equal(_ours(view, torch.float16), expected)


def test_rejects(device: str) -> None:
    image = torch.zeros((4, 6, 3), dtype=torch.uint8, device=device)
    for wrong in (image.float(), image[..., :2], image[..., 0], image[:0]):
        with pytest.raises(ValueError, match=r"image must be uint8 \[H, W, 3\] and not empty"):
            _ours(wrong, torch.float16)
