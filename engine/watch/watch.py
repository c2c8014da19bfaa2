"""All cameras, one counter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import BackendError, EngineError
from engine.stream.frame import Frame
from engine.stream.sources import Source
from engine.system.addresses import hide_passwords
from engine.watch.config import Camera
from engine.watch.feed import Feed
from engine.watch.station import Station
from engine.watch.turns import Turns

if TYPE_CHECKING:
    from engine.counter import CrowdCounter

# Seconds between looks at clocks and at cameras that say nothing.
_TICK = 0.5


class Watch:
    """Counts the newest frame of each camera, in turn.

    Args:
        counter: what counts; it stays the caller's.
        stations: what becomes of the counts, one for each camera.
        opener: opens a camera's source; None is :func:`engine.stream.opening.open_source`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        counter: CrowdCounter,
        stations: Sequence[Station],
        opener: Callable[[Camera], Source] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._counter = counter
        self._turns = Turns()
        self._stations = {Feed(s.camera, self._turns.wake, opener, clock): s for s in stations}
        for feed in self._stations:
            self._turns.add(feed)
        self._failure: BaseException | None = None

    def run(self) -> bool:
        """Count until :meth:`close`, or until all of it were recordings that have ended.

        Returns:
            Whether all that ended came to its end.

        Raises:
            BackendError: the counter failed. What a camera fails with is told to its station, and tried again.
        """
        workers = [
            threading.Thread(target=self._work, name="crowd-count", daemon=True)
            for _ in range(min(self._counter.parallel, len(self._stations)))
        ]
        for feed in self._stations:
            feed.start()
        for worker in workers:
            worker.start()
        try:
            while alive := [worker for worker in workers if worker.is_alive()]:
                self._look()
                alive[0].join(_TICK)
        finally:
            self.close()
            # A count that runs is finished: the counter may be closed after this.
            for worker in workers:
                worker.join()
            for feed in self._stations:
                feed.join()
        self._look()
        if self._failure:
            raise self._failure
        return not any(feed.failed for feed in self._stations)

    def close(self) -> None:
        """End :meth:`run`, after the counts that run. Closing twice, or from another thread, is harmless."""
        self._turns.close()
        for feed in self._stations:
            feed.stop()

    def _look(self) -> None:
        """Tell of cameras that say nothing, and end minutes."""
        for feed, station in self._stations.items():
            # A frame that is counted came before the trouble, and is told before it.
            if (trouble := feed.trouble) and not self._turns.is_busy(feed):
                station.report(trouble)
            station.tick()

    def _work(self) -> None:
        while turn := self._turns.take():
            feed, frame = turn
            try:
                self._count(feed, frame)
            except BaseException as error:
                self._failure = error
                self._turns.close()
            finally:
                self._turns.done(feed)

    def _count(self, feed: Feed, frame: Frame) -> None:
        station = self._stations[feed]
        try:
            result = self._counter.count(frame.image, zones=feed.camera.layout)
        except BackendError:
            raise
        except EngineError as error:
            # Such as a picture that is too large; the next one may not be.
            station.report(hide_passwords(str(error)))
            return
        # By the camera's name: no address reaches what is written.
        station.write(replace(frame, file=feed.camera.name).counted(result))
