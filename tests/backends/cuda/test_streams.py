"""The CUDA layer over the stand-in for the driver, and over the real one where there is a device."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from backends.cuda.fake_driver import FakeDriver
from backends.cuda.simulated_device import PRIMARY

from engine.backends.cuda.context import Context
from engine.backends.cuda.driver import CudaError, CudaOutOfMemoryError
from engine.backends.cuda.graphs import record
from engine.backends.cuda.kernel import Kernel, Module
from engine.backends.cuda.memory import DeviceBuffer, PinnedBuffer
from engine.backends.cuda.streams import Event, Stream
from engine.errors import BackendError


def _driver(**options) -> FakeDriver:
    driver = FakeDriver(**options)
    driver.kernels["scale"] = ([], lambda *values: None)
    return driver


def test_frees_the_newest_first_after_waiting_for_the_streams() -> None:
    driver = _driver()
    context = Context()
    stream = Stream(context)
    DeviceBuffer(context, 8, stream)
    PinnedBuffer(context, 8)
    Event(context)
    Module(context, b"cubin")
    before = len(driver.names())
    context.close()
    assert driver.names()[before:] == [
        "cuThreadExchangeStreamCaptureMode",
        "cuStreamSynchronize",
        "cuModuleUnload",
        "cuEventDestroy",
        "cuMemFreeHost",
        "cuMemFreeAsync",
        "cuStreamDestroy",
        "cuMemPoolDestroy",
        "cuThreadExchangeStreamCaptureMode",
    ]
    context.close()
    assert len(driver.names()) == before + 9
    driver.assert_clean()


def test_closed_things_say_so() -> None:
    driver = _driver()
    with Context() as context:
        stream = Stream(context)
        buffer = DeviceBuffer(context, 8, stream)
        buffer.close()
        buffer.close()
        with pytest.raises(BackendError, match="this DeviceBuffer is closed"):
            stream.fill(buffer)
        held = DeviceBuffer(context, 8, stream)
        with pytest.raises(BackendError, match="cannot close a stream in whose order 1 device buffers"):
            stream.close()
        held.close()
    with pytest.raises(BackendError, match="this Stream is closed"):
        stream.synchronize()
    with pytest.raises(BackendError, match="context is closed"):
        Event(context)
    stream.close()
    driver.assert_clean()


def test_a_forgotten_context_is_freed_with_its_last_user() -> None:
    driver = _driver()
    view = PinnedBuffer(Context(), 8).array(np.uint8, (8,))
    gc.collect()
    assert sorted(driver.live.values()) == ["pinned", "pool"]
    view[:] = 7
    del view
    gc.collect()
    driver.assert_clean()


def test_a_forgotten_context_does_not_spoil_a_capture() -> None:
    driver = _driver()
    forgotten = [PinnedBuffer(Context(), 8)]
    with Context() as context:
        stream = Stream(context)
        record(stream, forgotten.clear).launch(stream)
        assert sorted(driver.live.values()) == ["executable", "pool", "stream"]
        assert driver._mode == 0


def test_a_forgotten_context_that_cannot_be_freed_is_logged(caplog) -> None:
    driver = _driver()
    context = Context()
    driver._failing = len(driver.calls)
    del context
    gc.collect()
    assert "could not be freed: cuThreadExchangeStreamCaptureMode failed" in caplog.text


def test_each_thread_gets_the_context_and_keeps_its_own() -> None:
    driver = _driver()
    with Context() as context:
        stream = Stream(context)
        stacks = []

        def work() -> None:
            driver.do_cuCtxPushCurrent(0xAB)
            with context.current():
                stream.synchronize()
                stacks.append(list(driver._stack))
            stacks.append(list(driver._stack))
            driver.do_cuCtxPopCurrent()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert stacks == [[0xAB, PRIMARY], [0xAB]]


def test_errors_name_the_call_and_the_driver_s_reason() -> None:
    _driver(memory=1000)
    with Context() as context:
        with pytest.raises(CudaOutOfMemoryError, match=r"asked for 1001 bytes.*use smaller pictures") as caught:
            DeviceBuffer(context, 1001, Stream(context))
        error = caught.value
        assert (error.call, error.name, error.asked) == ("cuMemAllocFromPoolAsync", "CUDA_ERROR_OUT_OF_MEMORY", 1001)
        with pytest.raises(CudaError, match=r"cuModuleLoadData failed with CUDA_ERROR_INVALID_IMAGE \(error 200\)"):
            Module(context, b"nothing")
        with pytest.raises(CudaError, match="cuModuleGetFunction failed with CUDA_ERROR_NOT_FOUND"):
            Kernel(Module(context, b"cubin"), "absent", 4, 0)


def test_wrong_use_is_refused_before_the_driver_sees_it() -> None:
    driver = _driver()
    with pytest.raises(BackendError, match="'cuda:1' was asked for, but the devices are cuda:0 to cuda:0"):
        Context(1)
    _driver(pools=False)
    with pytest.raises(BackendError, match="no stream-ordered memory"):
        Context()
    driver = _driver()
    with Context() as context:
        stream = Stream(context)
        buffer, module = DeviceBuffer(context, 8, stream), Module(context, b"cubin")
        kernel = Kernel(module, "scale", 1, 0)
        pinned = PinnedBuffer(context, 8)
        before = len(driver.calls)
        for refused, match in [
            (lambda: DeviceBuffer(context, 0, stream), "at least 1 byte"),
            (lambda: PinnedBuffer(context, 0), "at least 1 byte"),
            (lambda: stream.upload(buffer, np.zeros(9, np.uint8)), "outside a device buffer of 8 bytes"),
            (lambda: stream.download(buffer, np.zeros(8, np.uint8), 1), "outside a device buffer of 8 bytes"),
            (lambda: stream.copy(buffer, 0, 4, offset=-1), "outside a device buffer"),
            (lambda: stream.upload(buffer, np.zeros((4, 4), np.uint8)[:, :2]), "not C-contiguous"),
            (lambda: stream.download(buffer, np.broadcast_to(np.zeros(1, np.uint8), (1,))), "read-only"),
            (lambda: pinned.array(np.float32, (3,)), "outside a pinned buffer of 8 bytes"),
            (lambda: kernel.launch((1, 0, 1), stream, []), "grid must be"),
            (lambda: kernel.launch((1, 65536, 1), stream, []), "grid must be"),
            (lambda: Kernel(module, "scale", 1, 1 << 20), "needs 1048576 bytes of shared memory per block"),
        ]:
            with pytest.raises(BackendError, match=match):
                refused()
        assert len(driver.calls) == before


def test_the_caller_s_stream_is_waited_for_and_never_destroyed() -> None:
    driver = _driver()
    driver.callers_streams |= {0x99: PRIMARY, 0x98: 0xBAD}
    driver.streams[0x99] = type(driver.streams[1])(eager=False)
    with Context() as context:
        stream, caller = Stream(context), Stream.wrap(context, 0x99)
        buffer = DeviceBuffer(context, 8, stream)
        pinned = PinnedBuffer(context, 8).array(np.uint8, (8,))
        stream.fill(buffer, 1)
        stream.synchronize()
        caller.fill(buffer, 2)
        stream.wait_for(caller)
        stream.download(buffer, pinned)
        stream.synchronize()
        assert pinned.tolist() == [2] * 8
        with pytest.raises(BackendError, match=r"not of the primary CUDA context.*pycuda\.autoprimaryctx"):
            Stream.wrap(context, 0x98)
        with pytest.raises(BackendError, match="the caller may destroy"):
            DeviceBuffer(context, 8, caller)
        caller.close()
    assert ("cuStreamDestroy", 0x99) not in driver.calls
    assert 0x99 in driver.streams


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 129)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_round_trip(shape, dtype) -> None:
    driver = _driver()
    _round_trip(Context(), shape, dtype)
    driver.assert_clean()


def _round_trip(context: Context, shape, dtype) -> None:
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    with context:
        stream = Stream(context)
        there, copy = (DeviceBuffer(context, array.nbytes + 16, stream) for _ in range(2))
        staged = PinnedBuffer(context, array.nbytes + 4).array(dtype, shape, offset=4)
        stream.fill(copy, 0)
        stream.upload(there, array, offset=16)
        stream.copy(copy, there.at(16, array.nbytes), array.nbytes)
        stream.download(copy, staged)
        plain = np.empty_like(array)
        stream.download(copy, plain)
        stream.synchronize()
        np.testing.assert_array_equal(staged, array)
        np.testing.assert_array_equal(plain, array)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 1024, 768)])
def test_round_trip_on_the_device(shape) -> None:
    _round_trip(Context(), shape, np.float32)


@pytest.mark.gpu
def test_the_device_s_own_errors() -> None:
    with Context() as context:
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_IMAGE"):
            Module(context, b"no cubin")
        with pytest.raises(CudaOutOfMemoryError, match="asked for"):
            DeviceBuffer(context, 1 << 44, Stream(context))
