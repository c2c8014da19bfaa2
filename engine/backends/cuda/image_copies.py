"""Copies of pictures on the device, for sources that write the next picture where this one lies."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import replace

from engine.backends.cuda.device_arrays import DeviceImage
from engine.backends.cuda.memory import DeviceBuffer
from engine.backends.cuda.streams import Stream


class ImageCopies:
    """Makes copies, and frees those that nobody refers to any more when it makes the next one.

    Args:
        stream: that copies, and that reads the copies; a thread that uses it must not do so meanwhile. The
            memory comes and goes in its order.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        # The garbage collector puts them here, in any thread and at any time, where the stream may be recorded.
        self._dropped: deque[DeviceBuffer] = deque()

    def copy(self, image: DeviceImage) -> DeviceImage:
        """The same pixels, in the same layout, in memory of the engine's; the caller gives the original back.

        Returns once the original may be overwritten.

        Raises:
            CudaOutOfMemoryError: the device has not as much memory.
        """
        while self._dropped:
            self._dropped.popleft().close()
        reach = [(n - 1) * step for n, step in zip(image.shape, image.strides, strict=True)]
        # Bytes that lie before the first pixel, and from it on.
        before, after = -sum(min(x, 0) for x in reach), sum(max(x, 0) for x in reach) + 1
        buffer, owner = DeviceBuffer(self._stream.context, before + after, self._stream), _Owner()
        weakref.finalize(owner, self._dropped.append, buffer).atexit = False
        self._stream.copy(buffer, image.pointer - before, before + after)
        self._stream.synchronize()
        return replace(image, pointer=buffer.pointer + before, owner=owner, close=lambda: None)


class _Owner:
    """Lives as long as anything that shows the picture."""
