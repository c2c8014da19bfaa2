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
        mean: over time, each count holding until the next frame; 0 before the first.
        peak, peak_at: the most people in one frame, and its timestamp in seconds (the first of equals).
        alert_seconds: for how long the alert was on, as far as the last frame.
    """

    people: int = 0
    mean: float = 0.0
    peak: int = 0
    peak_at: float = 0.0
    alert_seconds: float = 0.0


class OccupancyLog:
    """Follows the zones of a stream, frame by frame.

    Args:
        alerts: by zone; "total" is the whole picture.

    >>> log = OccupancyLog({"total": Alert(high=2, low=1)})
    >>> log.alerts_on
    ()
    """

    def __init__(self, alerts: Mapping[str, Alert] | None = None):
        self._switches = {zone: AlertSwitch(alert) for zone, alert in (alerts or {}).items()}
        self._integrals: dict[str, float] = {}
        self._log: dict[str, Occupancy] = {}
        self._start: float | None = None
        self._last = 0.0

    def update(self, timestamp: float, result: Counts) -> list[AlertEvent]:
        """Take the next frame.

        Args:
            timestamp: seconds. Clocks of cameras jump: a time before that of the last frame is taken for that one.

        Returns:
            Alerts that began or ended in it, in the order in which they were given.

        Raises:
            ConfigError: an alert is for a zone that ``result`` does not have.
        """
        if self._start is None:
            self._start = self._last = timestamp
        timestamp = max(timestamp, self._last)
        passed = timestamp - self._last
        people = {TOTAL: result.count, **result.zones}
        if missing := self._switches.keys() - people.keys():
            raise ConfigError(f"there is an alert for zone {min(missing)!r}, but the frame was counted without it")
        for zone, number in people.items():
            self._add(zone, number, timestamp, passed)
        self._last = timestamp
        events = []
        for zone, switch in self._switches.items():
            before = switch.on
            if switch.update(people[zone]) != before:
                events.append(AlertEvent(zone, switch.on, timestamp, people[zone]))
        return events

    @property
    def alerts_on(self) -> tuple[str, ...]:
        """Zones whose alert is on."""
        return tuple(zone for zone, switch in self._switches.items() if switch.on)

    @property
    def summary(self) -> dict[str, Occupancy]:
        """Occupancy of each zone so far; "total" is the whole picture."""
        return dict(self._log)

    def _add(self, zone: str, people: int, timestamp: float, passed: float) -> None:
        old = self._log.get(zone)
        if old is None:
            self._log[zone], self._integrals[zone] = Occupancy(people, people, people, timestamp), 0.0
            return
        # What was counted before held until now.
        self._integrals[zone] += old.people * passed
        elapsed = timestamp - (self._start or 0.0)
        on = zone in self._switches and self._switches[zone].on
        self._log[zone] = Occupancy(
            people,
            self._integrals[zone] / elapsed if elapsed > 0 else people,
            max(old.peak, people),
            timestamp if people > old.peak else old.peak_at,
            old.alert_seconds + (passed if on else 0.0),
        )
