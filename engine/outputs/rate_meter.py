"""How often frames come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class RateMeter:
    """Frames a second, over the last 30 frames.

    >>> times = iter([0.0, 0.5, 1.0])
    >>> meter = RateMeter(lambda: next(times))
    >>> [meter.update() for _ in range(3)]
    [None, 2.0, 2.0]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._times: deque[float] = deque(maxlen=30)

    def update(self) -> float | None:
        """Note that a frame is done; frames a second, or None as long as that is not known."""
        self._times.append(self._clock())
        passed = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / passed if passed > 0 else None
