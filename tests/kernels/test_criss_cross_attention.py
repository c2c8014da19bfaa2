"""Criss-cross attention: the oracle against a masked dense softmax, the C++ kernel against the oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64, KERNELS, KERNELS_BFLOAT16

from engine import _core
from engine.kernels import reference

TOLERANCE = KERNELS["criss_cross_attention"]
TOLERANCE_BFLOAT16 = KERNELS_BFLOAT16["criss_cross_attention"]
TYPES = ["float32", "bfloat16"]
VERSIONS = [(dtype, version) for dtype in TYPES for version in _core.attention_versions(dtype)]
# (B, H, W, D, C): single pixels and lines, odd and non-square maps, lengths around the kernel's tiles of 4 and 6
# queries, block of 24 and panel of 64 keys, depths and channels that are no multiple of a vector or of 2, batches, and
# the map of 1/16 of a 1024 x 768 picture.
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 9, 4, 3),
    (2, 11, 1, 16, 32),
    (1, 2, 2, 3, 5),
    (1, 6, 7, 8, 16),
    (3, 5, 3, 7, 17),
    (1, 24, 25, 33, 65),
    (2, 13, 31, 32, 128),
    (1, 63, 65, 16, 64),
    (1, 130, 9, 20, 24),
    (1, 3, 777, 5, 40),
    (1, 48, 64, 32, 192),
]


def _to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16 numbers."""
    return x.astype(ml_dtypes.bfloat16).view(np.uint16)


def _inputs(shape: tuple[int, ...], seed: int = 0, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q, k, v as views of one packed tensor, as the graphs hand them over."""
    b, h, w, d, c = shape
    packed = np.random.default_rng(seed).standard_normal((b, h, w, 2 * d + c)).astype(np.float32)
    if dtype == "bfloat16":
        packed = _to_bfloat16(packed)
    return packed[..., :d], packed[..., d : 2 * d], packed[..., 2 * d :]


def _values(x: np.ndarray) -> np.ndarray:
    """The numbers that a float32 or bfloat16 array holds."""
    return x.view(ml_dtypes.bfloat16).astype(np.float32) if x.dtype == np.uint16 else x


def _attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, threads: int = 1, version: str | None = None) -> np.ndarray:
    nan = np.nan if v.dtype == np.float32 else 0x7FC0
    out = np.full(v.shape, nan, v.dtype)
    _core.criss_cross_attention(q, k, v, out, threads=threads, version=version)
    return out


def _oracle(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return reference.criss_cross_attention(_values(q), _values(k), _values(v))


def _dense(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The same attention as one softmax over all pixels, those off the cross masked out."""
    b, h, w = q.shape[:3]
    y, x = (axis.ravel() for axis in np.indices((h, w)))
    on_cross = (y[:, None] == y) | (x[:, None] == x)
    q, k, v = (a.astype(np.float64).reshape(b, h * w, -1) for a in (q, k, v))
    logits = np.where(on_cross, q @ k.transpose(0, 2, 1), -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True) @ v).reshape(b, h, w, -1)


def _assert_close(ours: np.ndarray, expected: np.ndarray) -> None:
    tolerance = TOLERANCE if ours.dtype == np.float32 else TOLERANCE_BFLOAT16
    np.testing.assert_allclose(_values(ours), expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("shape", SHAPES[:8], ids=str)
def test_oracle_is_a_masked_dense_softmax(shape: tuple[int, ...]) -> None:
    q, k, v = _inputs(shape)
    ours = reference.criss_cross_attention(q, k, v)
    np.testing.assert_allclose(ours, _dense(q, k, v), atol=FLOAT64.absolute, rtol=FLOAT64.relative)


def test_oracle_by_hand() -> None:
    # Logits log 1, log 2 and log 5 over (own, right, below), and no way to the fourth pixel.
    q = np.ones((1, 2, 2, 1))
    k = np.log([[[[1.0], [2.0]], [[5.0], [1000.0]]]])
    v = np.array([[[[8.0], [16.0]], [[24.0], [1e6]]]])
    assert reference.criss_cross_attention(q, k, v)[0, 0, 0, 0] == pytest.approx((8 + 2 * 16 + 5 * 24) / 8)


@pytest.mark.parametrize(("dtype", "version"), VERSIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, ...], dtype: str, version: str) -> None:
    inputs = _inputs(shape, dtype=dtype)
    one = _attend(*inputs, version=version)
    _assert_close(one, _oracle(*inputs))
    assert np.array_equal(_attend(*inputs, threads=2, version=version), one)


def test_the_first_version_is_used_and_the_last_runs_everywhere() -> None:
    for dtype in TYPES:
        versions = _core.attention_versions(dtype)
        inputs = _inputs((1, 14, 23, 9, 21), dtype=dtype)
        assert np.array_equal(_attend(*inputs), _attend(*inputs, version=versions[0]))
        assert versions[-1] == "portable"
    with pytest.raises(ValueError, match="type must be float32 or bfloat16, got float16"):
        _core.attention_versions("float16")


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 70)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(VERSIONS),
)
def test_kernel_is_the_oracle_on_any_shape(shape: tuple[int, ...], seed: int, version: tuple[str, str]) -> None:
    inputs = _inputs(shape, seed=seed, dtype=version[0])
    _assert_close(_attend(*inputs, threads=2, version=version[1]), _oracle(*inputs))


@pytest.mark.parametrize(("dtype", "version"), VERSIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_spreads_as_in_the_oracle(which: str, value: float, dtype: str, version: str) -> None:
    q, k, v = (_values(x).copy() for x in _inputs((1, 21, 35, 6, 18), seed=4, dtype=dtype))
    # Weights stay far from underflow, where zero times infinity would differ in float32 and float64.
    {"q": q, "k": k, "v": v}[which][0, 13, 29, 2] = value
    expected = reference.criss_cross_attention(q, k, v)
    inputs = (q, k, v) if dtype == "float32" else tuple(map(_to_bfloat16, (q, k, v)))
    ours = _attend(*inputs, version=version)
    assert not np.isfinite(expected).all()
    _assert_close(ours, expected)


@pytest.mark.parametrize(("dtype", "version"), VERSIONS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_no_logit_above_minus_infinity_is_nan(dtype: str, version: str) -> None:
    q, k = np.ones((1, 5, 19, 3), np.float32), np.full((1, 5, 19, 3), -np.inf, np.float32)
    v = np.ones((1, 5, 19, 2), np.float32)
    inputs = (q, k, v) if dtype == "float32" else tuple(map(_to_bfloat16, (q, k, v)))
    assert np.isnan(_oracle(*inputs)).all()
    assert np.isnan(_values(_attend(*inputs, version=version))).all()


def test_bfloat16_may_be_ml_dtypes() -> None:
    inputs = _inputs((1, 7, 9, 4, 6), dtype="bfloat16")
    expected = _attend(*inputs)
    out = np.zeros(expected.shape, ml_dtypes.bfloat16)
    _core.criss_cross_attention(*(x.view(ml_dtypes.bfloat16) for x in inputs), out)
    assert np.array_equal(out.view(np.uint16), expected)


def test_bfloat16_result_is_rounded_to_nearest() -> None:
    # One pixel attends to itself alone; of two, with equal logits, 1 and 1 + 2^-7 + 2^-7 meet half way, in range.
    one = _to_bfloat16(np.zeros((1, 1, 1, 3)))
    v = _to_bfloat16(np.array([1.0, -2.5, 3e38, 1e-30]).reshape(1, 1, 1, 4))
    assert np.array_equal(_attend(one, one, v), v)
    zeros = _to_bfloat16(np.zeros((1, 1, 2, 3)))
    pair = _to_bfloat16(np.array([1.0, 1.0 + 2**-6]).reshape(1, 1, 2, 1))
    assert _values(_attend(zeros, zeros, pair)).ravel().tolist() == [1.0 + 2**-7] * 2


def test_large_logits_do_not_overflow() -> None:
    # Integers, so that logits in the thousands are exact in float32; exp of them is not finite even in float64.
    rng = np.random.default_rng(1)
    q, k = rng.integers(-60, 61, (2, 1, 12, 70, 8)).astype(np.float32)
    v = rng.standard_normal((1, 12, 70, 16)).astype(np.float32)
    expected = reference.criss_cross_attention(q, k, v)
    ours = _attend(q, k, v)
    # The kernel rounds log2(e) times a difference of logits, of some 10^4, to 1e-3.
    np.testing.assert_allclose(ours, expected, atol=1e-2)
    assert np.isfinite(ours).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_equal_huge_logits_give_the_mean(sign: int) -> None:
    shape = (1, 5, 70, 2)
    q, k = np.full(shape, 1e4, np.float32), np.full(shape, sign * 1e4, np.float32)
    v = np.random.default_rng(2).standard_normal((1, 5, 70, 3)).astype(np.float32)
    _assert_close(_attend(q, k, v), reference.criss_cross_attention(np.zeros(shape), k, v))


def test_weight_on_one_pixel_returns_its_value() -> None:
    q = np.zeros((1, 9, 80, 4), np.float32)
    k = q.copy()
    v = np.random.default_rng(3).standard_normal((1, 9, 80, 6)).astype(np.float32)
    q[0, 4, 70, 0], k[0, 1, 70, 0], k[0, 4, 3, 0] = 1, 300, 150
    assert np.array_equal(_attend(q, k, v)[0, 4, 70], v[0, 1, 70])


@pytest.mark.parametrize("dtype", TYPES)
def test_threads_do_not_change_the_result(dtype: str) -> None:
    inputs = _inputs((2, 37, 50, 16, 40), dtype=dtype)
    one = _attend(*inputs, threads=1)
    for threads in (0, 2, 5):
        assert np.array_equal(_attend(*inputs, threads=threads), one)


def test_concurrent_calls_do_not_change_the_result() -> None:
    batches = [_inputs((1, 20 + i, 33, 8, 24), seed=i, dtype=TYPES[i % 2]) for i in range(8)]
    expected = [_attend(*inputs) for inputs in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = pool.map(lambda inputs: _attend(*inputs, threads=3), batches)
            assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("dtype", TYPES)
def test_views_of_any_stride(dtype: str) -> None:
    q, k, v = _inputs((4, 10, 12, 6, 7), dtype=dtype)
    q, k, v = (a[::2, ::-1, 1::3] for a in (q, k, v))
    _assert_close(_attend(q, k, v), _oracle(q, k, v))
    broadcast = np.broadcast_to(k[:1, :1], k.shape)
    _assert_close(_attend(q, broadcast, v), _oracle(q, broadcast, v))


@pytest.mark.parametrize("shape", [(0, 3, 4, 2, 5), (2, 0, 4, 2, 5), (2, 3, 0, 2, 5)], ids=str)
def test_no_pixels(shape: tuple[int, ...]) -> None:
    assert _attend(*_inputs(shape)).shape == (*shape[:3], 5)


def test_values_without_channels_take_no_memory() -> None:
    q = np.broadcast_to(np.zeros((1, 1, 1, 2), np.float32), (1, 1 << 28, 1 << 28, 2))
    v = np.empty((*q.shape[:3], 0), np.float32)
    assert _attend(q, q, v).shape == v.shape


def _bad_calls() -> dict[str, tuple[dict[str, object], str]]:
    q = np.zeros((1, 3, 4, 2), np.float32)
    v = np.zeros((1, 3, 4, 5), np.float32)
    packed = np.zeros((1, 3, 4, 10), np.float32)
    read_only = v.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(bytearray(q.nbytes + 1), np.uint8)[1:].view(np.float32).reshape(q.shape)
    half = q.astype(np.uint16)
    inside = packed.reshape(-1)[10:70].reshape(v.shape)
    return {
        "float64": ({"q": q.astype(np.float64)}, r"q must be float32 or bfloat16 \(as uint16\), got float64"),
        "float16": ({"q": q.astype(np.float16)}, r"q must be float32 or bfloat16 \(as uint16\), got float16"),
        "byte order": ({"k": q.astype(">f4")}, r"k must be float32 or bfloat16 \(as uint16\), got >f4"),
        "bfloat16 k": ({"k": half}, "k must be float32 like q, got bfloat16"),
        "float32 k": ({"q": half}, "k must be bfloat16 like q, got float32"),
        "bfloat16 out": ({"out": v.astype(np.uint16)}, "out must be float32 like q, got bfloat16"),
        "rank": ({"q": q[0]}, r"q must have 4 axes, got shape \(3, 4, 2\)"),
        "shape of k": ({"k": q[:, :2]}, r"k must have shape \(1, 3, 4, 2\), got \(1, 2, 4, 2\)"),
        "shape of v": ({"v": v[:, :, :3]}, r"v must have shape \(1, 3, 4, 5\), got \(1, 3, 3, 5\)"),
        "shape of out": ({"out": q.copy()}, r"out must have shape \(1, 3, 4, 5\), got \(1, 3, 4, 2\)"),
        "layout of out": ({"out": packed[..., :5]}, "out must be C-contiguous"),
        "layout of v": ({"v": packed[..., ::2]}, "v must have a contiguous last axis, got a stride of 8 bytes"),
        "read-only out": ({"out": read_only}, "out is written to, but got a read-only array"),
        "overlap": ({"v": packed[..., :5], "out": inside}, "out must not share memory with v"),
        "unaligned": ({"k": unaligned}, "k must be aligned"),
        "threads": ({"threads": -1}, "threads must be 0"),
        "version": ({"version": "sse9"}, "version must be one that this processor has, .*portable, got 'sse9'"),
    }


@pytest.mark.parametrize("name", _bad_calls())
def test_rejects(name: str) -> None:
    bad, message = _bad_calls()[name]
    q, v = np.zeros((1, 3, 4, 2), np.float32), np.zeros((1, 3, 4, 5), np.float32)
    with pytest.raises(ValueError, match=message):
        _core.criss_cross_attention(**{"q": q, "k": q, "v": v, "out": v.copy()} | bad)


def test_does_not_convert_silently() -> None:
    with pytest.raises(TypeError):
        _core.criss_cross_attention([[[[1.0]]]], *np.zeros((3, 1, 1, 1, 1), np.float32))
