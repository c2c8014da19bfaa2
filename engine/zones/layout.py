"""The zones, lines and alerts that a user draws on a picture, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.zones.members import MAX_CORNERS, Polygon, check_shape

# Names the whole picture, where a zone's name is expected.
TOTAL = "total"
PIXELS, FRACTIONS = "pixels", "fractions"
HOW_FRACTIONS = f'for fractions of the picture set the unit to "{FRACTIONS}", or on the command line write 10%,50%'
# What a stranger's file may hold.
_MAX_SHAPES, _MAX_NAME = 1000, 100
EXAMPLE = (
    '{"unit": "fractions", "zones": {"gate": [[0.1, 0.5], [0.4, 0.5], [0.4, 1]]}, '
    '"lines": {"door": [[0, 0.5], [1, 0.5]]}, "alerts": {"gate": {"high": 50, "low": 40}}}'
)


@dataclass(frozen=True)
class Alert:
    """Thresholds of people: an alert starts at ``high`` or above, and ends at ``low`` or below.

    Between the two it stays as it was, so that a count that wavers around one number does not ring at every frame.

    Raises:
        ConfigError: they are not whole numbers with 0 <= low < high.
    """

    high: int
    low: int

    @classmethod
    def below(cls, high: Any) -> Alert:
        """The alert that ends at 80 % of ``high``."""
        # Whatever else a file has here is refused by the check.
        return cls(high, high * 4 // 5 if isinstance(high, int) else 0)

    def __post_init__(self) -> None:
        thresholds: tuple[Any, ...] = (self.high, self.low)
        whole = all(isinstance(people, int) and not isinstance(people, bool) for people in thresholds)
        if not whole or not 0 <= self.low < self.high:
            raise ConfigError(
                f"an alert needs whole numbers of people with 0 <= low < high, got high={self.high!r}, low={self.low!r}"
            )


@dataclass(frozen=True)
class Shape:
    """Corners (x, y) of a zone or line, in pixels or in fractions of the picture's width and height."""

    corners: tuple[tuple[float, float], ...]
    unit: str = PIXELS

    def to_pixels(self, width: int, height: int) -> np.ndarray:
        """Corners float64 [N, 2] on a picture of that size."""
        corners = np.array(self.corners, np.float64)
        return corners * (width, height) if self.unit == FRACTIONS else corners


@dataclass(frozen=True)
class ZoneLayout:
    """Zones, lines and alerts, checked.

    Attributes:
        zones: at least three corners each, by name.
        lines: start and end each, by name.
        ignore: zones in which nobody counts, such as those of posters and statues, by name.
        alerts: thresholds for zones, by their name, or for the whole picture, as "total".

    Raises:
        ConfigError: a name is empty, too long, unprintable, "total" or used twice; a shape is none; an alert is for a
            zone that is not there.

    >>> layout = ZoneLayout.from_dict({"unit": "fractions", "zones": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}})
    >>> layout.zone_corners((640, 480))["left"].tolist()
    [[0.0, 0.0], [320.0, 0.0], [320.0, 480.0], [0.0, 480.0]]
    """

    zones: Mapping[str, Shape] = field(default_factory=dict)
    lines: Mapping[str, Shape] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    ignore: Mapping[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("zones", "lines", "alerts", "ignore"):
            object.__setattr__(self, part, dict(getattr(self, part)))
        names = [*self.zones, *self.ignore, *self.lines]
        _check_number(len(names))
        for name in names:
            _check_name(name)
        if twice := self.zones.keys() & self.lines.keys():
            raise ConfigError(f"{min(twice)!r} is the name of a zone and of a line; give one of them another")
        if twice := self.ignore.keys() & (self.zones.keys() | self.lines.keys()):
            raise ConfigError(f"{min(twice)!r} is to be ignored, and a zone or line too; give one of them another name")
        for name, shape in (*self.zones.items(), *self.ignore.items()):
            _check(f"zone {name!r}", shape, 3, MAX_CORNERS)
        for name, shape in self.lines.items():
            _check(f"line {name!r}", shape, 2, 2)
        for name in self.alerts.keys() - self.zones.keys() - {TOTAL}:
            there = ", ".join(map(repr, self.zones)) or "none"
            raise ConfigError(f"there is an alert for {name!r}, but no such zone; zones: {there} (or {TOTAL!r})")

    @classmethod
    def from_polygons(
        cls, polygons: Mapping[str, Polygon], unit: str = PIXELS, ignore: Mapping[str, Polygon] | None = None
    ) -> ZoneLayout:
        """Zones from their corners, by name, and those to ignore."""
        zones = {name: _zone(name, polygon, unit) for name, polygon in polygons.items()}
        return cls(zones=zones, ignore={name: _zone(name, polygon, unit) for name, polygon in (ignore or {}).items()})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ZoneLayout:
        """The layout from the data of a JSON file.

        Args:
            data: "unit" ("pixels", which is the default, or "fractions" of the picture's width and height);
                "zones", "ignore" and "lines": name -> corners [x, y]; "alerts": name -> {"high": people, "low":
                people}, where "low" may be left out (80 % of "high"). All may be left out.

        Raises:
            ConfigError: something else is in it.
        """
        _check_mapping("the layout", data, {"unit", "zones", "lines", "alerts", "ignore"})
        unit = data.get("unit", PIXELS)
        _check_unit(unit)
        parts = {key: data.get(key, {}) for key in ("zones", "lines", "alerts", "ignore")}
        for key, part in parts.items():
            _check_mapping(f'"{key}"', part)
        zones, lines, alerts, ignore = parts.values()
        # Before each of a million is looked at.
        _check_number(len(zones) + len(lines) + len(ignore))
        return cls(
            {name: _zone(name, corners, unit) for name, corners in zones.items()},
            {name: _line(name, ends, unit) for name, ends in lines.items()},
            {name: _alert(name, thresholds) for name, thresholds in alerts.items()},
            {name: _zone(name, corners, unit) for name, corners in ignore.items()},
        )

    def zone_corners(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Corners of each zone in pixels, float64 [N, 2], on a picture of (width, height) = ``size``."""
        return {name: shape.to_pixels(*size) for name, shape in self.zones.items()}

    def line_ends(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Start and end of each line in pixels, float64 [2, 2], on a picture of (width, height) = ``size``."""
        return {name: shape.to_pixels(*size) for name, shape in self.lines.items()}

    def ignored_corners(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Corners of each zone to ignore, as :meth:`zone_corners`."""
        return {name: shape.to_pixels(*size) for name, shape in self.ignore.items()}


def _alert(name: str, data: Any) -> Alert:
    _check_mapping(f"the alert for {name!r}", data, {"high", "low"})
    high = data.get("high")
    return Alert(high, data["low"]) if "low" in data else Alert.below(high)


def _zone(name: str, corners: Any, unit: str) -> Shape:
    return _shape(check_shape(f"zone {name!r}", corners, 3, MAX_CORNERS), unit)


def _line(name: str, ends: Any, unit: str) -> Shape:
    return _shape(check_shape(f"line {name!r}", ends, 2, 2), unit)


def _shape(corners: np.ndarray, unit: str) -> Shape:
    return Shape(tuple((float(x), float(y)) for x, y in corners), unit)


def _check(what: str, shape: Shape, least: int, most: int) -> None:
    corners = check_shape(what, shape.corners, least, most)
    _check_unit(shape.unit)
    if shape.unit == FRACTIONS and (corners.min() < 0 or corners.max() > 1):
        raise ConfigError(f"{what} is in fractions of the picture, so from 0 to 1, got {shape.corners!r:.120}")
    if shape.unit == PIXELS and corners.min() >= 0 and corners.max() <= 1:
        raise ConfigError(f"{what} lies in a single pixel; {HOW_FRACTIONS}")


def _check_number(shapes: int) -> None:
    if shapes > _MAX_SHAPES:
        raise ConfigError(f"got {shapes} zones and lines; at most {_MAX_SHAPES} can be")


def _check_unit(unit: object) -> None:
    if unit not in (PIXELS, FRACTIONS):
        raise ConfigError(f'the unit must be "{PIXELS}" or "{FRACTIONS}" (of width and height), got {unit!r:.120}')


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise ConfigError(f"a zone's or line's name must be 1 to {_MAX_NAME} printable characters, got {name!r:.150}")
    if name == TOTAL:
        raise ConfigError(f"{name!r} stands for the whole picture; give the zone or line another name")


def _check_mapping(what: str, data: Any, keys: set[str] | None = None) -> None:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{what} must be an object {{...}}, got {type(data).__name__}; example: {EXAMPLE}")
    if keys is not None and (unknown := data.keys() - keys):
        raise ConfigError(f"{what} has {min(map(repr, unknown))}; known are {', '.join(map(repr, sorted(keys)))}")


# The layout of a picture that is counted as a whole.
NO_ZONES = ZoneLayout()
