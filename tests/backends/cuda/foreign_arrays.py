"""Arrays that claim to lie on the device, as other libraries' do: NumPy arrays behind either protocol."""

from __future__ import annotations

import ctypes

from backends.cuda.simulated_device import PRIMARY

from engine.backends.cuda import dlpack


class Interface:
    """As PyCUDA's GPUArray and CuPy's ndarray: the interface dictionary over a NumPy array."""

    def __init__(self, driver, array, ordinal=0, context=PRIMARY, **changes):
        self._array = array
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, True),
            "strides": None if array.flags.c_contiguous else array.strides,
            **changes,
        }
        driver.foreign[array.ctypes.data] = (ordinal, context)


class Capsule:
    """As a tensor on the device: the DLPack capsule of a NumPy array, which says that it lies there."""

    def __init__(self, driver, array, ordinal=0, context=PRIMARY, versioned=True, major=1, device=dlpack.CUDA):
        self._array, self._versioned, self._major = array, versioned, major
        self._device = (device, ordinal)
        self.streams: list[object] = []
        self.deleted = 0
        driver.foreign[array.ctypes.data] = (ordinal, context)

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, *, stream=None, **versions):
        if versions and not self._versioned:
            raise TypeError("max_version is unknown")
        self.streams.append(stream)
        # The array starts 2 bytes after the data, so that the offset counts.
        array = self._array
        item = array.itemsize
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        strides = (ctypes.c_int64 * array.ndim)(*[stride // item for stride in array.strides])
        contiguous = array.flags.c_contiguous and not self._versioned
        code = {"u": 1, "f": 2}[array.dtype.kind]
        tensor = dlpack._Tensor(
            array.ctypes.data - 2,
            *self._device,
            array.ndim,
            code,
            8 * item,
            1,
            shape,
            None if contiguous else strides,
            2,
        )

        def delete(pointer):
            assert pointer == ctypes.addressof(self.managed)
            self.deleted += 1

        self._keep = shape, strides, dlpack._Deleter(delete)
        if self._versioned:
            self.managed = dlpack._ManagedVersioned(self._major, 0, None, self._keep[2], 1, tensor)
            return _capsule(ctypes.addressof(self.managed), b"dltensor_versioned", None)
        self.managed = dlpack._Managed(tensor, None, self._keep[2])
        return _capsule(ctypes.addressof(self.managed), b"dltensor", None)


_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
KINDS = {
    "interface": Interface,
    "capsule": Capsule,
    "old capsule": lambda *arguments, **options: Capsule(*arguments, versioned=False, **options),
}
