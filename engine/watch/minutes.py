"""What a camera saw in each minute of the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.result import CountResult
from engine.zones.layout import TOTAL, ZoneLayout
from engine.zones.occupancy import Occupancy, OccupancyLog


@dataclass(frozen=True)
class Minute:
    """One minute, or what there was of it.

    Attributes:
        start: in UTC.
        frames, dropped: counted in it, and left out.
        seen: people in each zone, "total" being the whole picture; empty if there was no frame. Means are over time,
            each count holding until the next.
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
        self._frames, self._dropped = 0, 0
        self._begin(_start(now))

    @property
    def minute(self) -> Minute:
        """The one that runs, so far."""
        return Minute(self._start, self._frames, self._dropped, self._log.summary)

    def add(self, now: datetime, dropped: int, result: CountResult) -> None:
        """Take a frame that was counted at ``now``, after :meth:`tick`."""
        self._frames, self._dropped = self._frames + 1, self._dropped + dropped
        self._log.update(now.timestamp(), result)

    def tick(self, now: datetime) -> Minute | None:
        """The minute that is over, once."""
        # Clocks are set back too: the minute then goes on.
        if (start := _start(now)) <= self._start:
            return None
        over = self.minute
        self._begin(start)
        return over

    def _begin(self, start: datetime) -> None:
        self._start, self._log = start, OccupancyLog()
        self._frames, self._dropped = 0, 0


def utc_text(time: datetime) -> str:
    """A time as ISO 8601 in UTC, such as 2026-11-28T09:05:00Z."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _start(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(second=0, microsecond=0)
