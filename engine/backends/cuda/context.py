"""The CUDA context that everything else belongs to: current where it is needed, and all of it freed by close()."""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.backends.cuda.driver import CudaError, Device, Driver, check_pools, find_device, load_driver
from engine.errors import BackendError

_log = logging.getLogger("engine")

_KEEP_ALL = 2**64 - 1


class Context:
    """The primary context of one device, shared with PyTorch, CuPy and PyCUDA's ``autoprimaryctx``.

    Every driver call goes through :meth:`call`, from any thread. Streams, buffers, modules and graphs are
    registered here as they are made; ``close`` frees what is left of them, the newest first. The primary context
    itself stays with the process.

    Args:
        ordinal: of the device.
        driver: None loads the machine's own.

    Attributes:
        driver: as called.
        device: what it runs on.
        handle: of the primary context.
        pool: handle of the memory pool that device buffers come from. It is the engine's own, as settings of the
            device's default pool would change other libraries' behaviour.

    Raises:
        BackendError: there is no driver or no such device, or it has no memory pools.
        CudaError: a call failed; nothing is left behind.
    """

    def __init__(self, ordinal: int = 0, driver: Driver | None = None):
        self.driver = load_driver() if driver is None else driver
        self.device: Device = find_device(self.driver, ordinal)
        check_pools(self.device)
        # Never given up again, as PyTorch does: what TensorRT made in it may be collected after this object is, and its
        # destructors would then free into nothing.
        self.handle = int(self.driver.call("cuDevicePrimaryCtxRetain", self.device.handle))
        self._ledger = _Ledger(self.driver, self.handle)
        self._local = _ThreadState()
        # A context that nobody closed is closed with its last user; at exit the driver frees all by itself.
        self._finalizer = weakref.finalize(self, _close_forgotten, self._ledger)
        self._finalizer.atexit = False
        try:
            self.pool = self._create_pool()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return self._finalizer.alive

    def call(self, name: str, *arguments: Any, asked: int | None = None) -> Any:
        """Call a driver function with this context current; see :meth:`Driver.call`.

        Raises:
            BackendError: the context is closed.
            CudaError: the call failed.
        """
        with self.current():
            return self.driver.call(name, *arguments, asked=asked)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread, and the caller's own again at the end; may be nested.

        One ``with`` around many calls saves switching at each of them.
        """
        if not self.is_open:
            raise BackendError("this CUDA context is closed; make a new CrowdCounter")
        if self._local.depth == 0:
            self.driver.call("cuCtxPushCurrent", self.handle)
        self._local.depth += 1
        try:
            yield
        finally:
            self._local.depth -= 1
            if self._local.depth == 0:
                self.driver.call("cuCtxPopCurrent")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While a stream of this thread is captured: :meth:`check_not_recording` refuses."""
        self.check_not_recording("start another recording")
        self._local.recording = True
        try:
            yield
        finally:
            self._local.recording = False

    def check_not_recording(self, action: str) -> None:
        """Refuse what a capture must not contain, before the driver spoils the capture for it."""
        if self._local.recording:
            raise BackendError(f"cannot {action} while a graph is recorded; do it in the plain pass before")

    def own(self, release: str, *arguments: Any) -> int:
        """Register how to free something; :meth:`disown` with the returned number frees it."""
        return self._ledger.add(_caller(self.driver, release, *arguments))

    def disown(self, number: int) -> None:
        """Free what :meth:`own` registered, once; nothing happens after ``close``."""
        if self.is_open:
            with self.current():
                self._ledger.release(number)

    def owns(self, number: int) -> bool:
        """Whether what :meth:`own` registered is still to be freed."""
        return self._ledger.holds(number)

    def keep_for_close(self, stream: int) -> None:
        """Wait for this stream before anything is freed by ``close``."""
        self._ledger.streams.add(stream)

    def forget(self, stream: int) -> None:
        """The stream is gone: do not wait for it."""
        self._ledger.streams.discard(stream)

    def close(self) -> None:
        """Wait for the engine's streams and free everything, the newest first. Closing twice is harmless.

        Raises:
            CudaError: a call failed; the rest was freed all the same. The first failure is raised.
        """
        if self._finalizer.detach() is not None:
            self._ledger.close()

    def abandon(self) -> None:
        """Close it, but free nothing, ever: in a forked process the driver knows none of it."""
        self._finalizer.detach()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create_pool(self) -> int:
        types = self.driver.functions
        properties = types.CUmemPoolProps()
        properties.allocType = types.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = types.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = self.device.ordinal
        with self.current():
            pool = int(self.call("cuMemPoolCreate", properties))
            self.own("cuMemPoolDestroy", pool)
        # Else each synchronisation gives the unused memory back to the system, and the next picture asks anew.
        threshold = types.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        self.call("cuMemPoolSetAttribute", pool, threshold, types.cuuint64_t(_KEEP_ALL))
        return pool


class Resource:
    """Something of the driver's, by its integer handle, that belongs to a context.

    Make it and call this in one ``with context.current()``, so that nothing can fail in between.

    Args:
        context: that owns it.
        handle: of the driver.
        release: the driver function that frees it, and its arguments; None for what others own.
    """

    def __init__(self, context: Context, handle: int, release: tuple[Any, ...] | None):
        self.context = context
        self._handle = handle
        self._number = None if release is None else context.own(*release)
        self._closed = False

    @property
    def handle(self) -> int:
        """Integer handle; BackendError after ``close``."""
        if self._closed or not self.context.is_open:
            raise BackendError(f"this {type(self).__name__} is closed; make a new one")
        return self._handle

    @property
    def is_held(self) -> bool:
        """Whether the driver still has it for this engine, open or not."""
        return self._number is not None and self.context.owns(self._number)

    def close(self) -> None:
        """Free it, unless others own it. Closing twice, or after the context, is harmless."""
        if not self._closed:
            self._closed = True
            if self._number is not None:
                self.context.disown(self._number)


def close_all(closers: Iterable[Callable[[], object]]) -> None:
    """Call every one even if some fail; then the first failure is raised."""
    failures: list[Exception] = []
    for close in closers:
        try:
            close()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


class _ThreadState(threading.local):
    """How deep the thread is in :meth:`Context.current`, and whether it records a graph."""

    def __init__(self) -> None:
        self.depth = 0
        self.recording = False


class _Ledger:
    """What a context holds. It does not refer to the context, so that a forgotten one can be collected."""

    def __init__(self, driver: Driver, context: int):
        self.streams: set[int] = set()
        self._driver = driver
        self._context = context
        self._numbers = itertools.count()
        self._releases: dict[int, Callable[[], None]] = {}

    def add(self, release: Callable[[], None]) -> int:
        number = next(self._numbers)
        self._releases[number] = release
        return number

    def holds(self, number: int) -> bool:
        return number in self._releases

    def release(self, number: int) -> None:
        release = self._releases.pop(number, None)
        if release is not None:
            release()

    def close(self) -> None:
        failures: list[CudaError] = []

        def attempt(action: Callable[[], Any]) -> Any:
            try:
                return action()
            except CudaError as error:
                failures.append(error)
                return None

        call, modes = self._driver.call, self._driver.functions.CUstreamCaptureMode
        # The garbage collector may close a forgotten context while this thread captures another one's stream; freeing
        # would spoil that capture, were its mode not relaxed meanwhile.
        mode = attempt(lambda: call("cuThreadExchangeStreamCaptureMode", modes.CU_STREAM_CAPTURE_MODE_RELAXED))
        attempt(lambda: call("cuCtxPushCurrent", self._context))
        # Neither modules nor pinned memory may go while work that uses them is queued.
        for stream in self.streams:
            attempt(_caller(self._driver, "cuStreamSynchronize", stream))
        while self._releases:
            attempt(self._releases.popitem()[1])
        attempt(lambda: call("cuCtxPopCurrent"))
        if mode is not None:
            attempt(lambda: call("cuThreadExchangeStreamCaptureMode", mode))
        if failures:
            raise failures[0]


def _caller(driver: Driver, name: str, *arguments: Any) -> Callable[[], None]:
    return lambda: driver.call(name, *arguments)


def _close_forgotten(ledger: _Ledger) -> None:
    try:
        ledger.close()
    except CudaError as error:
        _log.warning("a CUDA context that was not closed could not be freed: %s", error)
