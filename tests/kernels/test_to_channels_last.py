"""The C++ kernel that moves channels to the end, bit for bit against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from engine import _core

# Nothing (of more pixels than could be looped over), one element, whole and broken groups of channels, more pixels than
# one task takes.
NOTHING = [(1, 0, 3, 3), (0, 4, 2, 2), (1, 0, 2**30, 2**30)]
SHAPES = [*NOTHING, (1, 1, 1, 1), (1, 8, 4, 8), (2, 13, 7, 11), (1, 7, 3, 500), (1, 192, 48, 64)]


def _map(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    # All bits, those of NaN too.
    bits = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return bits.view(dtype)[..., 0].copy()


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_bit_comes_to_its_place(shape: tuple[int, ...], dtype: type, threads: int) -> None:
    source = _map(shape, dtype)
    out = np.zeros((shape[0], shape[2], shape[3], shape[1]), dtype)
    _core.to_channels_last(source, out, threads)
    assert out.tobytes() == np.ascontiguousarray(source.transpose(0, 2, 3, 1)).tobytes()


def test_wrong_arrays_are_refused_by_name() -> None:
    source, out = np.zeros((1, 4, 3, 5), np.float32), np.zeros((1, 3, 5, 4), np.float32)
    with pytest.raises(ValueError, match=r"^out .*shape"):
        _core.to_channels_last(source, source.copy())
    with pytest.raises(ValueError, match=r"^out must have the type of map"):
        _core.to_channels_last(source, out.astype(np.uint16))
    with pytest.raises(ValueError, match=r"^map "):
        _core.to_channels_last(source.astype(np.float64), out)
    with pytest.raises(ValueError, match=r"^map .*contiguous"):
        _core.to_channels_last(source.transpose(0, 1, 3, 2), np.zeros((1, 5, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"^out .*contiguous"):
        _core.to_channels_last(source, out.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3))
    shared = np.zeros((1, 4, 3, 5), np.float32)
    with pytest.raises(ValueError, match="memory"):
        _core.to_channels_last(shared, shared.reshape(1, 3, 5, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out .*writ"):
        _core.to_channels_last(source, out)
    with pytest.raises(ValueError, match="threads"):
        _core.to_channels_last(source, np.zeros((1, 3, 5, 4), np.float32), -1)
