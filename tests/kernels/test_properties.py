"""The C++ kernels against their oracles on whatever hypothesis comes up with: shapes, strides, NaN and infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tolerances import KERNELS

from engine import _core
from engine.kernels import reference

# The same examples in every run, so that a failure is the change's and not the day's.
repeatable = settings(deadline=None, derandomize=True, max_examples=100)

THREADS = st.sampled_from([0, 1, 2, 5])
# Halves, so that sums tie, any number between them, and the smallest there are.
FINITE = st.one_of(
    st.integers(-4, 4).map(lambda n: n / 2), st.floats(-2, 2, width=32), st.sampled_from([-0.0, 1e-45, -1e-42])
)
# Infinity, and NaN of either sign, quiet and signalling, with any payload.
STRANGE_BITS = st.one_of(
    st.sampled_from([0x7F800000, 0xFF800000]),
    st.integers(0x7F800001, 0x7FFFFFFF),
    st.integers(0xFF800001, 0xFFFFFFFF),
)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """float32, contiguous, at any address that floats may have; some values are strange."""
    size = int(np.prod(shape))
    memory = draw(npst.arrays(np.float32, size + 3, elements=FINITE))
    offset = draw(st.integers(0, 3))
    return draw(damaged(memory[offset : offset + size])).reshape(shape)


@st.composite
def damaged(draw: Any, array: np.ndarray) -> np.ndarray:
    """The array of one axis itself, with some values made strange."""
    if array.size and draw(st.booleans()):
        for index in draw(st.lists(st.integers(0, array.size - 1), max_size=4)):
            array.view(np.uint32)[index] = draw(STRANGE_BITS)
    return array


@st.composite
def views(draw: Any, shape: tuple[int, int, int, int]) -> np.ndarray:
    """float32 [B, H, W, C] of which only the last axis is contiguous: steps, gaps, backwards, repeated rows."""
    steps = [draw(st.sampled_from([1, 2, -1, -3, 0])) for _ in range(3)]
    gap = draw(st.integers(0, 2))
    sides = [side * abs(step) or 1 for side, step in zip(shape, steps, strict=False)]
    view = draw(arrays((*sides, shape[3] + gap)))[..., : shape[3]]
    view = view[tuple(slice(None, None, step or 1) for step in steps)]
    return np.broadcast_to(view, shape)


@st.composite
def attention_inputs(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = tuple(draw(st.integers(0, most)) for most in (2, 5, 7))
    depth, channels = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    q, k = draw(views((*pixels, depth))), draw(views((*pixels, depth)))
    return q, k, draw(views((*pixels, channels)))


def _assert_same_damage(ours: np.ndarray, expected: np.ndarray, absolute: float, relative: float) -> None:
    """Close where the oracle is finite; where it is not, an infinity of ours may be its NaN and the reverse."""
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(ours), finite)
    np.testing.assert_allclose(ours[finite], expected[finite], atol=absolute, rtol=relative)


@repeatable
@given(attention_inputs(), THREADS)
def test_criss_cross_attention(inputs: tuple[np.ndarray, np.ndarray, np.ndarray], threads: int) -> None:
    tolerance = KERNELS["criss_cross_attention"]
    out = np.full(inputs[2].shape, np.nan, np.float32)
    _core.criss_cross_attention(*inputs, out, threads)
    with np.errstate(all="ignore"):
        expected = reference.criss_cross_attention(*inputs)
    _assert_same_damage(out, expected, tolerance.absolute, tolerance.relative)


@st.composite
def ddim_inputs(draw: Any) -> tuple[list[np.ndarray], tuple[float, ...]]:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9))
    # Steps of 1/64: what underflows in float32 alone makes NaN of 0 * inf where float64 has inf.
    unit = st.integers(0, 64).map(lambda n: n / 64)
    # No noise is left at t = 0: both scales are zero there.
    sigma, sigma_next = draw(st.one_of(st.just((0.0, 0.0)), st.tuples(st.integers(4, 64).map(lambda n: n / 64), unit)))
    coefficients = (draw(unit), sigma, draw(unit), sigma_next, 2 * draw(unit), draw(unit))
    return [draw(arrays(shape)) for _ in range(4)], coefficients


@repeatable
@given(ddim_inputs(), THREADS)
def test_ddim_update(inputs: tuple[list[np.ndarray], tuple[float, ...]], threads: int) -> None:
    (x_t, x_0, estimate, change), coefficients = inputs
    tolerance = KERNELS["ddim_update"]
    with np.errstate(all="ignore"):
        expected = reference.ddim_update(x_t, x_0, estimate, change, coefficients)
    _core.ddim_update(x_t, x_0, estimate, change, coefficients, threads)
    # Noise is divided by sigma, and so are its roundings.
    scale = 1 / max(coefficients[1], 0.05)
    for ours, theirs in zip((x_t, estimate, change), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance.absolute * scale, rtol=tolerance.relative * scale)


@repeatable
@given(st.tuples(st.integers(0, 9), st.integers(0, 9)).flatmap(arrays), st.floats(allow_nan=False, width=32), THREADS)
def test_find_peaks(heatmap: np.ndarray, threshold: float, threads: int) -> None:
    with np.errstate(all="ignore"):
        expected = reference.find_peaks(heatmap, threshold)
    for ours, theirs in zip(_core.find_peaks(heatmap, threshold, threads), expected, strict=True):
        assert np.array_equal(ours, theirs)


@st.composite
def preprocess_inputs(draw: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    height, width = draw(st.integers(0, 5)), draw(st.integers(0, 7))
    steps = tuple(slice(None, None, draw(st.sampled_from([1, 2, -1, -2]))) for _ in range(2))
    channels = slice(*draw(st.sampled_from([(0, 3), (1, 4), (None, None, -1)])))
    pixels = draw(npst.arrays(np.uint8, (2 * height, 2 * width, 3 if channels.step else 4)))
    image = pixels[steps][:height, :width, channels]
    padded = image.shape[0] + draw(st.integers(0, 3)), image.shape[1] + draw(st.integers(0, 3))
    return image, draw(damaged(np.linspace(-2, 2, 256, dtype=np.float32))), padded


@repeatable
@given(preprocess_inputs(), st.booleans(), THREADS)
def test_preprocess(inputs: tuple[np.ndarray, np.ndarray, tuple[int, int]], channels_last: bool, threads: int) -> None:
    image, table, padded = inputs
    expected = np.zeros((1, *padded, 3), np.float32)
    expected[0, : image.shape[0], : image.shape[1]] = table[image]
    if not channels_last:
        expected = expected.transpose(0, 3, 1, 2)
    out = np.full(expected.shape, np.nan, np.float32)
    _core.preprocess(image, table, out, channels_last, threads)
    np.testing.assert_array_equal(out, expected)
