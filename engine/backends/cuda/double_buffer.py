"""Two buffers in turn, so that one picture is uploaded while the picture before it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from engine.backends.cuda.context import close_all
from engine.backends.cuda.memory import DeviceBuffer, PinnedBuffer
from engine.backends.cuda.streams import Event, Stream


class DoubleBuffer:
    """Uploads host arrays in a stream of its own, ahead of the stream that computes.

    Args:
        compute: the stream that reads the uploaded arrays.

    Used by one thread at a time. Its memory grows to the largest array; ``close`` frees it.
    """

    def __init__(self, compute: Stream):
        self._compute = compute
        self._closers: list[Callable[[], None]] = []
        self._slots: list[Slot] = []
        try:
            self._copies = Stream(compute.context)
            self._closers.append(self._copies.close)
            for _ in range(2):
                slot = Slot(self._copies)
                self._closers.append(slot.close)
                self._slots.append(slot)
        except BaseException:
            self.close()
            raise

    def upload(self, array: np.ndarray) -> Slot:
        """Start to upload an array, of any shape and dtype, into the older of the two slots.

        Waits until the slot's last upload has left the host buffer, but never for the computation.
        """
        slot = self._slots[0]
        slot.upload(array)
        # Only now: where that failed, this is still the older one.
        self._slots.append(self._slots.pop(0))
        return slot

    @contextmanager
    def use(self, slot: Slot) -> Iterator[DeviceBuffer]:
        """Within it, work queued in the computing stream reads the slot; afterwards it may be overwritten."""
        self._compute.wait(slot.uploaded)
        try:
            yield slot.device
        finally:
            slot.consumed.record(self._compute)

    def close(self) -> None:
        """Free both slots and the stream. Closing twice is harmless."""
        closers, self._closers = self._closers, []
        close_all(reversed(closers))


class Slot:
    """A pinned host buffer, a device buffer, and the events that say when each may be overwritten.

    Args:
        copies: the stream that uploads.

    Attributes:
        uploaded: the copy to the device is done.
        consumed: the computation that reads the device buffer is done.
    """

    def __init__(self, copies: Stream):
        self._copies = copies
        self._host: PinnedBuffer | None = None
        self._device: DeviceBuffer | None = None
        self.uploaded = Event(copies.context)
        try:
            self.consumed = Event(copies.context)
        except BaseException:
            self.uploaded.close()
            raise

    @property
    def device(self) -> DeviceBuffer:
        """Where the array lies once ``uploaded`` has happened."""
        assert self._device is not None, "nothing was uploaded yet"
        return self._device

    def upload(self, array: np.ndarray) -> None:
        """Copy the array to the host buffer, and queue the copy to the device."""
        copies, context = self._copies, self._copies.context
        with context.current():
            self.uploaded.synchronize()
            copies.wait(self.consumed)
            if self._host is None or self._device is None or self._device.nbytes < array.nbytes:
                copies.synchronize()
                self._free()
                self._host = PinnedBuffer(context, array.nbytes)
                self._device = DeviceBuffer(context, array.nbytes, copies)
            staged = self._host.array(array.dtype, array.shape)
            np.copyto(staged, array)
            copies.upload(self._device, staged)
            self.uploaded.record(copies)

    def close(self) -> None:
        """Free everything, once the computation that reads it is done."""
        close_all([self._finish, self._free, self.consumed.close, self.uploaded.close])

    def _finish(self) -> None:
        # After the context, everything is freed already.
        if self._copies.context.is_open:
            self._copies.wait(self.consumed)
            # The host buffer is not freed in the order of a stream; nor does the event stand for a copy after which it
            # could not be recorded.
            self._copies.synchronize()

    def _free(self) -> None:
        host, self._host = self._host, None
        device, self._device = self._device, None
        close_all(buffer.close for buffer in (device, host) if buffer is not None)
