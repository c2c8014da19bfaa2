"""Zones of a stream over time: how many people were there, and when there were too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.errors import ConfigError
from engine.zones.layout import TOTAL, Alert


class Counts(Protocol):
    """What is read of a :class:`engine.result.CountResult`: people in the picture, and in each zone."""

    @property
    def count(self) -> int: ...

    @property
    def zones(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class AlertEvent:
    """An alert that began or ended: of which zone, when (seconds), and at how many people."""

    zone: str
    on: bool
    timestamp: float
    people: int

    def __str__(self) -> str:
        return f"{self.timestamp:.2f} s: {self.zone}: alert {'on' if self.on else 'off'} at {self.people} people"


class AlertSwitch:
    """One alert: on from ``alert.high`` people, off again from ``alert.low`` (hysteresis).

    >>> switch = AlertSwitch(Alert(high=10, low=7))
    >>> [switch.update(people) for people in (9, 10, 8, 7, 9)]
    [False, True, True, False, False]
    """

    def __init__(self, alert: Alert):
        self._alert = alert
        self.on = False

    def update(self, people: int) -> bool:
        """Take the next count; true while the alert is on."""
        if people >= self._alert.high:
            self.on = True
        elif people <= self._alert.low:
            self.on = False
        return self.on


@dataclass(frozen=True)
class Occupancy:
    """People in one zone over a stream.

    Attributes:
        people: in the last frame.
        mean: over the time in which a count held, each until the next one; while none has held for any time, the last.
        peak, peak_at: the most people in one frame, and its timestamp in seconds (the first of equals).
        alert_seconds: for how long the alert was on, within that time.
    """

    people: int = 0
    mean: float = 0.0
    peak: int = 0
    peak_at: float = 0.0
    alert_seconds: float = 0.0


@dataclass
class _Sums:
    """What adds up to an :class:`Occupancy`; ``people`` is the count that holds."""

    people: int
    seconds: float = 0.0
    integral: float = 0.0
    # None until the count was seen, or has held for some time.
    peak: int | None = None
    peak_at: float = 0.0
    alert_seconds: float = 0.0

    def see(self, timestamp: float) -> None:
        if self.peak is None or self.people > self.peak:
            self.peak, self.peak_at = self.people, timestamp


class OccupancyLog:
    """Follows the zones of a stream, frame by frame.

    A count holds until the next frame, until :meth:`hold` says so much later, or until the stream was lost. Time in
    which none holds is in no mean.

    Args:
        alerts: by zone; "total" is the whole picture.

    >>> log = OccupancyLog({"total": Alert(high=2, low=1)})
    >>> log.alerts_on
    ()
    """

    def __init__(self, alerts: Mapping[str, Alert] | None = None):
        self._switches = {zone: AlertSwitch(alert) for zone, alert in (alerts or {}).items()}
        self._sums: dict[str, _Sums] = {}
        self._is_lost = False
        self._last: float | None = None

    def update(self, timestamp: float, result: Counts, lost_at: float | None = None) -> list[AlertEvent]:
        """Take the next frame.

        Args:
            timestamp: seconds. Clocks of cameras jump: a time before that of the last frame is taken for that one.
            lost_at: until when the count before it held, where the stream was lost before this frame.

        Returns:
            Alerts that began or ended in it, in the order in which they were given.

        Raises:
            ConfigError: an alert is for a zone that ``result`` does not have.
        """
        people = {TOTAL: result.count, **result.zones}
        if missing := self._switches.keys() - people.keys():
            raise ConfigError(f"there is an alert for zone {min(missing)!r}, but the frame was counted without it")
        if lost_at is not None:
            self.lose(lost_at)
        timestamp = self._pass(timestamp)
        self._is_lost = False
        for zone, number in people.items():
            sums = self._sums.setdefault(zone, _Sums(number))
            sums.people = number
            sums.see(timestamp)
        events = []
        for zone, switch in self._switches.items():
            before = switch.on
            if switch.update(people[zone]) != before:
                events.append(AlertEvent(zone, switch.on, timestamp, people[zone]))
        return events

    def hold(self, timestamp: float) -> None:
        """Say that the last counts held until ``timestamp`` at least, though no frame came."""
        self._pass(timestamp)

    def lose(self, timestamp: float) -> None:
        """Say that the stream was lost: the last counts held until ``timestamp``, none from then to the next frame."""
        self._pass(timestamp)
        self._is_lost = True

    def restart(self, timestamp: float) -> None:
        """Begin all sums and peaks anew, with the counts that hold at ``timestamp`` and the alerts that are on."""
        self._pass(timestamp)
        self._sums = {zone: _Sums(sums.people) for zone, sums in self._sums.items()}

    @property
    def alerts_on(self) -> tuple[str, ...]:
        """Zones whose alert is on."""
        return tuple(zone for zone, switch in self._switches.items() if switch.on)

    @property
    def summary(self) -> dict[str, Occupancy]:
        """Occupancy of each zone so far; "total" is the whole picture."""
        return {
            zone: Occupancy(
                people=sums.people,
                mean=sums.integral / sums.seconds if sums.seconds > 0 else sums.people,
                peak=sums.peak,
                peak_at=sums.peak_at,
                alert_seconds=sums.alert_seconds,
            )
            for zone, sums in self._sums.items()
            if sums.peak is not None
        }

    def _pass(self, timestamp: float) -> float:
        """Add the time until ``timestamp`` to what holds; the time that it is then."""
        start = timestamp if self._last is None else self._last
        self._last = max(timestamp, start)
        passed = self._last - start
        if self._is_lost or not passed:
            return self._last
        for zone, sums in self._sums.items():
            sums.seconds += passed
            sums.integral += sums.people * passed
            sums.see(start)
            if zone in self._switches and self._switches[zone].on:
                sums.alert_seconds += passed
        return self._last
