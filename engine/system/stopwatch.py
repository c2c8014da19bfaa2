"""Times the stages of one count."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the milliseconds between laps under the name of the stage that a lap ends."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._timings: dict[str, float] = {}
        self._notes: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End ``stage``; a stage may end several times."""
        now = time.perf_counter()
        self._timings[stage] = self._timings.get(stage, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def note(self, name: str, milliseconds: float) -> None:
        """Add a time that lies within the stages, such as what the GPU took of them."""
        self._notes[name] = self._notes.get(name, 0.0) + milliseconds

    def timings(self) -> dict[str, float]:
        """Milliseconds per stage, those noted within them, and ``total`` since the start."""
        return self._timings | self._notes | {"total": 1e3 * (self._last - self._start)}
