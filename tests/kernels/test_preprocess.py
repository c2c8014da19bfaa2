"""The C++ kernel of the input against the oracle, and bit for bit against the table it is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import KERNELS

from engine import _core
from engine.config import ModelConfig
from engine.image.tiles import input_table, padded_shape, to_input
from engine.kernels import reference

MODEL = ModelConfig()
TABLE = input_table(MODEL)
# One pixel, lines, whole multiples of the padding, odd sizes, more rows than one task takes.
SHAPES = [(1, 1), (1, 40), (33, 1), (32, 64), (7, 31), (3, 300), (70, 5)]


def _picture(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def _run(image: np.ndarray, table: np.ndarray = TABLE, channels_last: bool = False, threads: int = 1) -> np.ndarray:
    """The kernel's output, [1, 3, H', W'] in both layouts."""
    shape = padded_shape(*image.shape[:2])
    if channels_last:
        shape = shape[0], shape[2], shape[3], shape[1]
    out = np.full(shape, np.nan if table.dtype == np.float32 else 0x7FC0, table.dtype)
    _core.preprocess(image, table, out, channels_last=channels_last, threads=threads)
    return out.transpose(0, 3, 1, 2) if channels_last else out


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, int], channels_last: bool, threads: int) -> None:
    picture = _picture(shape)
    ours = _run(picture, channels_last=channels_last, threads=threads)
    tolerance = KERNELS["preprocess"]
    expected = reference.preprocess(picture, MODEL.pixel_mean, MODEL.pixel_std)
    np.testing.assert_allclose(ours, expected, atol=tolerance.absolute, rtol=tolerance.relative)
    # The GPU's kernel and the reference backend read these very bits.
    assert np.array_equal(ours, to_input(picture, MODEL))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_a_table_of_other_elements(shape: tuple[int, int], channels_last: bool) -> None:
    picture, table = _picture(shape), np.arange(256, dtype=np.uint16) * 257
    ours = _run(picture, table, channels_last)
    expected = np.zeros(padded_shape(*shape), np.uint16)
    expected[0, :, : shape[0], : shape[1]] = table[picture].transpose(2, 0, 1)
    assert np.array_equal(ours, expected)


def test_every_value_of_a_pixel() -> None:
    picture = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    assert np.array_equal(_run(picture)[0, 0, 0], TABLE)


@pytest.mark.parametrize("shape", [(1, 3, 2**58, 0), (1, 2**58, 0, 3)], ids=str)
def test_rows_of_no_pixels_take_no_time(shape: tuple[int, ...]) -> None:
    _core.preprocess(np.empty((2**58, 0, 3), np.uint8), TABLE, np.empty(shape, np.float32), shape[3] == 3)


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), rows=st.sampled_from([1, 2, -1]),
    columns=st.sampled_from([1, 3, -1]), channels=st.sampled_from([1, -1]), planar=st.booleans(), last=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_strides(height, width, rows, columns, channels, planar, last) -> None:
    source = np.random.default_rng(height * 41 + width).integers(0, 256, (3, 80, 120), dtype=np.uint8)
    image = source.transpose(1, 2, 0) if planar else np.ascontiguousarray(source.transpose(1, 2, 0))
    view = image[::rows, ::columns, ::channels][:height, :width]
    assert np.array_equal(_run(view, channels_last=last), to_input(view, MODEL))


def test_threads_and_concurrent_calls_do_not_change_the_result() -> None:
    pictures = [_picture((150 + i, 90)) for i in range(6)]
    expected = [to_input(picture, MODEL) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        for threads in (0, 1, 3, 5):
            results = pool.map(lambda x, n=threads: _run(x, threads=n), pictures)
            assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((4, 6, 3), np.float32)}, r"image must be uint8 \[H, W, 3\], got float32 \(4, 6, 3\)"),
        ({"image": np.zeros((4, 6, 4), np.uint8)}, r"image must be uint8 \[H, W, 3\], got uint8 \(4, 6, 4\)"),
        ({"table": TABLE[:255]}, r"table must have shape \(256,\), got \(255,\)"),
        ({"table": TABLE.astype(np.float64)}, "table must be float32 or bfloat16"),
        ({"table": np.zeros(256, np.uint16)}, "table must have the type of out, got uint16"),
        ({"table": np.zeros(512, np.float32)[::2]}, "table must be C-contiguous"),
        ({"out": np.zeros((1, 3, 3, 8), np.float32)}, r"out must have shape \(1, 3, 4, 8\), got \(1, 3, 3, 8\)"),
        ({"out": np.zeros((1, 4, 8, 3), np.float32)}, r"out must have shape \(1, 3, 8, 6\), got \(1, 4, 8, 3\)"),
        ({"out": np.zeros((1, 3, 8, 16), np.float32)[..., ::2]}, "out must be C-contiguous"),
        ({"threads": -1}, "threads must be 0"),
    ],
    ids=str,
)
def test_rejects(changes: dict[str, object], message: str) -> None:
    good = {"image": _picture((4, 6)), "table": TABLE, "out": np.zeros((1, 3, 4, 8), np.float32)}
    _core.preprocess(**good)
    with pytest.raises(ValueError, match=message):
        _core.preprocess(**good | changes)


def test_rejects_a_read_only_output_and_overlap() -> None:
    out = np.zeros((1, 3, 4, 8), np.float32)
    image = out.reshape(-1).view(np.uint8)[:72].reshape(4, 6, 3)
    with pytest.raises(ValueError, match="out must not share memory with image"):
        _core.preprocess(image, TABLE, out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is written to, but got a read-only array"):
        _core.preprocess(_picture((4, 6)), TABLE, out)
