"""CUDA graphs: work recorded once and replayed by one call, and a bounded cache of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from engine.backends.cuda.context import Context, Resource, close_all
from engine.backends.cuda.driver import CudaError, CudaOutOfMemoryError
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError
from engine.system.recordings import RECORDING

_log = logging.getLogger("engine")

# CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
_INVALIDATED = 901
_ATTEMPTS = 3


class Graph(Resource):
    """An instantiated graph; :func:`record` makes it. It must not run twice at the same time."""

    def __init__(self, context: Context, executable: int):
        super().__init__(context, executable, ("cuGraphExecDestroy", executable))

    def launch(self, stream: Stream) -> None:
        """Queue all recorded work, with the pointers and numbers it was recorded with."""
        self.context.call("cuGraphLaunch", self.handle, stream.handle)


def record(stream: Stream, work: Callable[[], object]) -> Graph:
    """Record what ``work`` queues in ``stream``, instead of running it.

    Args:
        stream: not the default one, with no capture going on.
        work: queues copies, launches and TensorRT executions; neither allocates nor waits, so everything must be
            loaded and allocated by a plain pass before. Other streams take part by events of this one. It is called
            again where another library has spoiled the recording.

    Raises:
        CudaError: ``work`` did what a graph cannot hold.
        BackendError: ``work`` allocates, or a recording is going on in this thread.

    Whatever ``work`` raises goes through; the stream can be used afterwards in any case.
    """
    context = stream.context
    with context.current():
        with context.recording(), RECORDING:
            template = _capture(stream, work)
        try:
            return Graph(context, int(context.call("cuGraphInstantiate", template.handle, 0)))
        finally:
            template.close()


class _Template(Resource):
    """A captured graph that is not instantiated yet."""

    def __init__(self, context: Context, handle: int):
        super().__init__(context, handle, ("cuGraphDestroy", handle))


def _capture(stream: Stream, work: Callable[[], object]) -> _Template:
    context = stream.context
    # Other threads may allocate meanwhile, but forbidden calls of this one are reported and not left out silently.
    mode = context.driver.functions.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    # A thread that waits for the whole device, as torch.cuda.synchronize() does, ends every recording on it.
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        context.call("cuStreamBeginCapture", stream.handle, mode)
        try:
            work()
        except BaseException as error:
            if not (_abandon(stream) and attempts and _may_be_others(error)):
                raise
        else:
            try:
                return _Template(context, int(context.call("cuStreamEndCapture", stream.handle)))
            except CudaError as error:
                if not (attempts and _may_be_others(error)):
                    raise
        _log.info("another thread waited for the GPU while a graph was recorded; it is recorded again")


def _may_be_others(error: BaseException) -> bool:
    """Whether a call failed only because the capture was spoiled before it; TensorRT does not say why it failed."""
    code = error.code if isinstance(error, CudaError) else _INVALIDATED
    return isinstance(error, BackendError) and code == _INVALIDATED


def _abandon(stream: Stream) -> bool:
    """Leave capture mode, and say whether the capture was spoiled; what went wrong before is the error to report."""
    try:
        template = int(stream.context.call("cuStreamEndCapture", stream.handle))
        if template:
            _Template(stream.context, template).close()
    except CudaError as error:
        return error.code == _INVALIDATED
    return False


class Closable(Protocol):
    """What a :class:`GraphCache` holds: a graph, or what owns a graph and its buffers."""

    def close(self) -> None: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Closable)


class GraphCache(Generic[K, V]):
    """The most recently used graphs, one for each key; the others are closed.

    Args:
        capacity: graphs that are kept; more exist only while more threads use one at the same time.

    >>> class Entry:
    ...     def __init__(self, name): self.name = name
    ...     def close(self): print("closed", self.name)
    >>> cache = GraphCache(capacity=1)
    >>> with cache.lease("a", lambda: Entry("a")) as entry:
    ...     print(entry.name)
    a
    >>> with cache.lease("b", lambda: Entry("b")) as entry:
    ...     print(entry.name)
    closed a
    b
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise BackendError(f"a cache of graphs needs room for at least 1, got {capacity}")
        self._capacity = capacity
        self._lock = threading.Lock()
        # From the least to the most recently used.
        self._slots: dict[K, _Slot[V]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @contextmanager
    def lease(self, key: K, build: Callable[[], V]) -> Iterator[V]:
        """The entry of ``key``, for this thread alone until the ``with`` block ends.

        Within the block, wait for the work of the entry: it may be closed right afterwards.

        Args:
            key: such as (height, width, steps, samples, type).
            build: makes the entry where there is none. If the device runs out of memory, the entries that no
                thread uses are closed and it is tried once more.
        """
        slot = self._enter(key)
        try:
            with slot.lock:
                if slot.value is None:
                    slot.value = self._build(build)
                yield slot.value
        finally:
            self._leave(key, slot)

    def make_room(self, error: CudaOutOfMemoryError) -> bool:
        """Close the entries that no thread uses, as memory ran out; whether there were any."""
        with self._lock:
            evicted = self._evict(0)
        if evicted:
            _log.warning("%s; %d cached graphs are given up to make room", error, len(evicted))
        _close_slots(evicted)
        return bool(evicted)

    def close(self) -> None:
        """Close every entry, once the threads that use them are done. The cache can be used again."""
        with self._lock:
            slots, self._slots = self._slots, {}
        _close_slots(list(slots.values()))

    def _enter(self, key: K) -> _Slot[V]:
        with self._lock:
            slot = self._slots.pop(key, None) or _Slot()
            self._slots[key] = slot
            slot.users += 1
            # Before the new one is built, so that its memory is there.
            evicted = self._evict(self._capacity)
        try:
            _close_slots(evicted)
        except BaseException:
            self._leave(key, slot)
            raise
        return slot

    def _leave(self, key: K, slot: _Slot[V]) -> None:
        with self._lock:
            slot.users -= 1
            if slot.value is None and slot.users == 0 and self._slots.get(key) is slot:
                del self._slots[key]
            evicted = self._evict(self._capacity)
        _close_slots(evicted)

    def _evict(self, capacity: int) -> list[_Slot[V]]:
        """Take out the oldest unused slots beyond ``capacity``; the lock must be held."""
        unused = [key for key, slot in self._slots.items() if slot.users == 0]
        surplus = max(len(self._slots) - capacity, 0)
        return [self._slots.pop(key) for key in unused[:surplus]]

    def _build(self, build: Callable[[], V]) -> V:
        try:
            return build()
        except CudaOutOfMemoryError as error:
            if not self.make_room(error):
                raise
        return build()


class _Slot(Generic[V]):
    """A place of the cache: the entry once it is built, and who is using it."""

    def __init__(self) -> None:
        # Reentrant, as a thread that closes the cache within a lease would else wait for itself.
        self.lock = threading.RLock()
        self.users = 0
        self.value: V | None = None

    def close(self) -> None:
        with self.lock:
            value, self.value = self.value, None
            if value is not None:
                value.close()


def _close_slots(slots: list[_Slot[V]]) -> None:
    close_all(slot.close for slot in slots)
