"""Recording, replaying and caching of graphs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backends.cuda.fake_driver import FakeDriver

from engine.backends.cuda.context import Context
from engine.backends.cuda.driver import CudaError, CudaOutOfMemoryError
from engine.backends.cuda.graphs import GraphCache, record
from engine.backends.cuda.kernel import Module
from engine.backends.cuda.memory import DeviceBuffer, PinnedBuffer
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError
from engine.system.recordings import RECORDING


def _replay(context: Context) -> None:
    """A graph of memset, copies and downloads, run 3 times with other input each time."""
    with context:
        stream = Stream(context)
        a, b = DeviceBuffer(context, 8, stream), DeviceBuffer(context, 16, stream)
        pinned = PinnedBuffer(context, 24)
        entered, result = pinned.array(np.uint8, (8,)), pinned.array(np.uint8, (16,), offset=8)

        def work() -> None:
            stream.fill(b, 9)
            stream.upload(a, entered)
            stream.copy(b, a.pointer, 8, offset=4)
            stream.download(b, result)

        work()
        stream.synchronize()
        result[:] = 77
        graph = record(stream, work)
        stream.synchronize()
        # Recording runs nothing.
        assert (result == 77).all()
        for n in range(3):
            entered[:] = n
            graph.launch(stream)
            stream.synchronize()
            assert result.tolist() == [9] * 4 + [n] * 8 + [9] * 4


def test_a_graph_replays_what_was_recorded() -> None:
    driver = FakeDriver()
    _replay(Context())
    driver.assert_clean()


@pytest.mark.gpu
def test_a_graph_replays_on_the_device() -> None:
    _replay(Context())


@pytest.mark.gpu
def test_pytorch_may_wait_for_the_device_while_a_graph_is_recorded() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch comes with the train extra")
    attempts = []
    torch.zeros(1, device="cuda")
    with Context() as context, ThreadPoolExecutor(1) as pool:
        stream = Stream(context)
        buffer, result = DeviceBuffer(context, 8, stream), PinnedBuffer(context, 8).array(np.uint8, (8,))

        def work() -> None:
            attempts.append(1)
            stream.fill(buffer, len(attempts))
            if len(attempts) == 1:
                # CUDA refuses it, and ends the recording.
                pool.submit(torch.cuda.synchronize).exception()
            stream.download(buffer, result)

        record(stream, work).launch(stream)
        stream.synchronize()
        assert result.tolist() == [len(attempts)] * 8


@pytest.mark.parametrize("action", ["allocate device memory", "allocate pinned memory", "load a module"])
def test_recording_refuses_what_a_graph_cannot_hold(action) -> None:
    driver = FakeDriver()
    with Context() as context:
        stream = Stream(context)
        actions = {
            "allocate device memory": lambda: DeviceBuffer(context, 8, stream),
            "allocate pinned memory": lambda: PinnedBuffer(context, 8),
            "load a module": lambda: Module(context, b"cubin"),
        }
        with pytest.raises(BackendError, match=f"cannot {action} while a graph is recorded"):
            record(stream, actions[action])
        # Afterwards all is as before.
        actions[action]()
        stream.synchronize()
        record(stream, lambda: None).close()
        assert "graph" not in driver.live.values()
    driver.assert_clean()


def test_waiting_while_recording_is_the_driver_s_error_and_the_stream_survives() -> None:
    driver = FakeDriver()
    with Context() as context:
        stream = Stream(context)
        with pytest.raises(CudaError, match="cuStreamSynchronize failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            record(stream, stream.synchronize)
        stream.synchronize()
        with pytest.raises(BackendError, match="cannot start another recording"):
            record(stream, lambda: record(stream, lambda: None))
        with pytest.raises(KeyboardInterrupt):
            record(stream, _interrupt)
        record(stream, lambda: None).launch(stream)
    driver.assert_clean()


def _interrupt() -> None:
    raise KeyboardInterrupt


def _spoil(driver: FakeDriver, stream: Stream) -> None:
    """As CUDA does with every recording on a device that another thread waits for, such as PyTorch's synchronize()."""
    driver.streams[stream.handle].spoiled = True


@pytest.mark.parametrize("how", ["at its end", "in a call of the driver", "in TensorRT"])
def test_a_recording_that_another_thread_spoiled_is_made_again(how) -> None:
    driver, attempts = FakeDriver(), []
    with Context() as context:
        stream = Stream(context)
        buffer, result = DeviceBuffer(context, 8, stream), PinnedBuffer(context, 8).array(np.uint8, (8,))

        def work() -> None:
            attempts.append(RECORDING.locked())
            stream.fill(buffer, 9)
            if len(attempts) < 3:
                _spoil(driver, stream)
                if how == "in TensorRT":
                    raise BackendError("TensorRT cannot run the segment")
                if how != "at its end":
                    raise CudaError("cuMemcpyDtoHAsync", 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "spoiled")
            stream.download(buffer, result)

        record(stream, work).launch(stream)
        stream.synchronize()
        assert result.tolist() == [9] * 8
        # PyTorch's own recordings would wait for the device.
        assert attempts == [True] * 3
        assert not RECORDING.locked()
    driver.assert_clean()


def test_a_recording_that_is_always_spoiled_is_given_up() -> None:
    driver = FakeDriver()
    with Context() as context:
        stream = Stream(context)
        with pytest.raises(CudaError, match="cuStreamEndCapture failed with CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
            record(stream, lambda: _spoil(driver, stream))
        assert driver.names().count("cuStreamBeginCapture") == 3
        # What is the work's own fault is not tried again.
        with pytest.raises(CudaError, match="cuStreamSynchronize failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            record(stream, stream.synchronize)
        with pytest.raises(BackendError, match="no such shape"):
            record(stream, _refuse)
        assert driver.names().count("cuStreamBeginCapture") == 5
    driver.assert_clean()


def _refuse() -> None:
    raise BackendError("no such shape")


class _Entry:
    def __init__(self, name, closed, fails=False):
        self.name, self._closed, self._fails = name, closed, fails

    def close(self) -> None:
        self._closed.append(self.name)
        if self._fails:
            raise ValueError(self.name)


def test_the_cache_keeps_the_most_recently_used() -> None:
    closed, built = [], []

    def use(cache, key):
        def build():
            built.append(key)
            return _Entry(key, closed)

        with cache.lease(key, build) as entry:
            assert entry.name == key

    cache = GraphCache(capacity=2)
    for key in "abacab":
        use(cache, key)
    assert "".join(built) == "abcb"
    assert closed == ["b", "c"]
    assert len(cache) == 2
    cache.close()
    assert sorted(closed[2:]) == ["a", "b"]
    assert len(cache) == 0


def test_what_is_in_use_is_not_evicted() -> None:
    closed = []
    cache = GraphCache(capacity=1)
    with cache.lease("a", lambda: _Entry("a", closed)):
        with cache.lease("b", lambda: _Entry("b", closed)):
            assert closed == []
        assert closed == ["b"]
    assert closed == ["b"]
    with cache.lease("a", lambda: pytest.fail("was kept")):
        pass
    with pytest.raises(BackendError, match="room for at least 1"):
        GraphCache(capacity=0)


def test_a_failed_build_leaves_no_entry() -> None:
    cache = GraphCache(capacity=1)
    with pytest.raises(KeyboardInterrupt), cache.lease("a", _interrupt):
        pass
    assert len(cache) == 0


def test_memory_is_made_by_giving_up_other_graphs() -> None:
    closed = []
    cache = GraphCache(capacity=4)
    for key in "ab":
        with cache.lease(key, lambda key=key: _Entry(key, closed)):
            pass

    def build():
        if len(closed) < 2:
            raise CudaOutOfMemoryError("cuMemAllocFromPoolAsync", 2, "CUDA_ERROR_OUT_OF_MEMORY", "full", 8)
        return _Entry("c", closed)

    with cache.lease("c", build) as entry:
        assert entry.name == "c"
    assert closed == ["a", "b"]
    closed.clear()
    with pytest.raises(CudaOutOfMemoryError), cache.lease("d", build), pytest.fail("cannot be built"):
        pass
    assert closed == ["c"]


def test_room_is_made_of_what_nobody_uses() -> None:
    closed = []
    cache = GraphCache(capacity=4)
    error = CudaOutOfMemoryError("cuMemAllocHost", 2, "CUDA_ERROR_OUT_OF_MEMORY", "full", 8)
    assert not cache.make_room(error)
    for key in "ab":
        with cache.lease(key, lambda key=key: _Entry(key, closed)):
            pass
    with cache.lease("b", lambda: pytest.fail("was kept")):
        assert cache.make_room(error)
        assert closed == ["a"]
        assert not cache.make_room(error)
    assert len(cache) == 1


def test_close_closes_all_even_if_one_fails() -> None:
    closed = []
    cache = GraphCache(capacity=3)
    for key in "abc":
        with cache.lease(key, lambda key=key: _Entry(key, closed, fails=key == "b")):
            pass
    with pytest.raises(ValueError, match="b"):
        cache.close()
    assert sorted(closed) == ["a", "b", "c"]


def test_threads_share_an_entry_one_at_a_time() -> None:
    cache, built, inside, most = GraphCache(capacity=1), [], [], []
    start = threading.Barrier(8)

    def build():
        built.append(1)
        return _Entry("a", [])

    def work() -> None:
        start.wait()
        for _ in range(50):
            with cache.lease("a", build):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 400
    assert built == [1]
