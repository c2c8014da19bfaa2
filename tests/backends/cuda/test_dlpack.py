"""The capsules that NumPy and PyTorch make."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from engine.backends.cuda import dlpack


class OnHost:
    """Real capsules of host memory, by the newest protocol or the one before."""

    def __init__(self, array, versioned: bool):
        self._array, self._versioned = array, versioned

    def __dlpack__(self, *, stream=None, **versions):
        if versions and not self._versioned:
            raise TypeError
        return self._array.__dlpack__(**versions)


@pytest.mark.parametrize("versioned", [True, False])
def test_a_tensor_s_own_capsule(versioned) -> None:
    torch = pytest.importorskip("torch", reason="parses the capsules of PyTorch (the train extra)")
    tensor = torch.arange(60, dtype=torch.uint8).reshape(4, 5, 3)[1:, ::2]
    managed = dlpack.take(OnHost(tensor, versioned), "<tensor>", 5)
    assert (managed.pointer, managed.shape, managed.strides) == (tensor.data_ptr(), (3, 3, 3), tensor.stride())
    assert managed.dtype == dlpack.UINT8
    managed.close()


@pytest.mark.parametrize("versioned", [True, False])
def test_an_array_s_own_capsule_is_given_back(versioned) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    before = sys.getrefcount(array)
    managed = dlpack.take(OnHost(array, versioned), "<array>", 5)
    assert (managed.pointer, managed.shape, managed.strides) == (array.ctypes.data, (3, 4), (4, 1))
    gc.collect()
    # The capsule itself is gone by now.
    held = sys.getrefcount(array)
    managed.close()
    managed.close()
    assert (held, sys.getrefcount(array)) == (before + 1, before)
