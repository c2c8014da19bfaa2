"""What a camera saw in each minute of the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.result import CountResult
from engine.zones.layout import TOTAL, ZoneLayout
from engine.zones.occupancy import Occupancy, OccupancyLog

_MINUTE = timedelta(minutes=1)
# After so long without a tick the machine had slept, or its clock was set: what held then is not known.
_SLEEP = timedelta(minutes=1)
# A clock that is set may jump by decades, whose minutes never were.
_LONGEST_SLEEP = timedelta(days=1)


@dataclass(frozen=True)
class Minute:
    """One minute, or what there was of it.

    Attributes:
        start: in UTC.
        frames, dropped: counted in it, and left out.
        seen: people in each zone, "total" being the whole picture; empty where nothing is known. Means are over time:
            each count holds until the next, also that of a minute before, or until the camera is lost.
    """

    start: datetime
    frames: int
    dropped: int
    seen: Mapping[str, Occupancy]

    @staticmethod
    def columns(layout: ZoneLayout) -> list[str]:
        """Names of :meth:`cells`."""
        zones = (f"zone.{name}.{value}" for name in layout.zones for value in ("mean", "peak"))
        return ["time", "frames", "dropped", "mean", "peak", *zones]

    def cells(self, layout: ZoneLayout) -> list[object]:
        """A row of a table; what is not known is None."""
        zones = [self.seen.get(name) for name in (TOTAL, *layout.zones)]
        people = [value for zone in zones for value in ((round(zone.mean, 2), zone.peak) if zone else (None, None))]
        return [utc_text(self.start), self.frames, self.dropped, *people]

    def __str__(self) -> str:
        zones = [
            f"{'' if name == TOTAL else f'{name}: '}{zone.mean:.1f} people, at most {zone.peak}"
            for name, zone in self.seen.items()
        ]
        return f"{utc_text(self.start)} {', '.join([*zones, f'{self.frames} frames'])}"


class MinuteLog:
    """Follows the minutes; those without a frame are there too.

    Args:
        now: the time of day when it begins.
    """

    def __init__(self, now: datetime):
        self._log, self._start, self._ticked = OccupancyLog(), _start(now), now
        self._frames = self._dropped = 0

    def add(self, now: datetime, dropped: int, result: CountResult) -> None:
        """Take a frame that was counted at ``now``, after :meth:`tick`."""
        self._frames, self._dropped = self._frames + 1, self._dropped + dropped
        self._log.update(now.timestamp(), result)

    def lose(self, now: datetime) -> None:
        """Say, after :meth:`tick`, that the camera is lost: its last count holds no longer."""
        self._log.lose(now.timestamp())

    def tick(self, now: datetime) -> list[Minute]:
        """The minutes that are over since the last tick, in their order."""
        slept, self._ticked = now - self._ticked, now
        if slept > _SLEEP:
            self.lose(now - slept)
        # Clocks are set back too: the minute then goes on.
        start, over = _start(now), list[Minute]()
        while self._start < start:
            is_known = slept <= _LONGEST_SLEEP
            over.append(self._end(self._start + _MINUTE, self._start + _MINUTE if is_known else start))
        return over

    def end(self, now: datetime) -> Minute | None:
        """What there is of the minute that runs, after :meth:`tick`; None if no frame was counted in it."""
        return self._end(now, self._start) if self._frames else None

    def _end(self, until: datetime, start: datetime) -> Minute:
        """The minute that ran ``until`` then; the one that begins at ``start`` is the next."""
        self._log.hold(until.timestamp())
        over = Minute(self._start, self._frames, self._dropped, self._log.summary)
        self._log.restart(start.timestamp())
        self._start, self._frames, self._dropped = start, 0, 0
        return over


def utc_text(time: datetime) -> str:
    """A time as ISO 8601 in UTC, such as 2026-11-28T09:05:00Z."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _start(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(second=0, microsecond=0)
