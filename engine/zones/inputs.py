"""What users give as zones -> a layout: Python's own, a JSON file, or the words of a command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from engine.errors import ConfigError
from engine.zones.layout import EXAMPLE, FRACTIONS, PIXELS, Alert, Shape, ZoneLayout
from engine.zones.members import Polygon
from engine.zones.tools import from_tool

# Largest file that is read; LabelMe may put the picture into it.
_MAX_BYTES = 64 << 20
# A dict has no place for a unit, or for lines.
_POLYGONS = (
    "polygons by name are in pixels; for fractions of the picture, engine.zones.layout.ZoneLayout has "
    'from_polygons({...}, unit="fractions"), and for lines from_dict({...})'
)

T = TypeVar("T")
Zones: TypeAlias = ZoneLayout | Mapping[str, Polygon] | str | os.PathLike[str] | None


def as_layout(zones: Zones) -> ZoneLayout:
    """Whatever a user gives as zones: a layout, polygons in pixels by name, the path of a JSON file, or None.

    Raises:
        ConfigError: it is none of these, or not valid.
    """
    if zones is None:
        return ZoneLayout()
    if isinstance(zones, ZoneLayout):
        return zones
    if isinstance(zones, str | os.PathLike):
        return load_layout(zones)
    if not isinstance(zones, Mapping):
        raise ConfigError(
            "zones must be polygons by name, a ZoneLayout or the path of a JSON file, "
            f"got {type(zones).__name__}; {_POLYGONS}"
        )
    try:
        return ZoneLayout.from_polygons(zones)
    except ConfigError as error:
        raise ConfigError(f"{error}; {_POLYGONS}") from error


def load_layout(path: str | os.PathLike[str]) -> ZoneLayout:
    """Read a layout from a JSON file: our own (:meth:`ZoneLayout.from_dict`), LabelMe's or COCO's (:func:`from_tool`).

    Raises:
        ConfigError: the file cannot be read, is not JSON, names something twice, or is not a layout.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the zones in {os.fspath(path)}: {reason}") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{os.fspath(path)} is larger than {_MAX_BYTES >> 20} MiB; that is no file of zones")
    return parse_layout(data, os.fspath(path))


def parse_layout(data: bytes, name: str) -> ZoneLayout:
    """Read a layout from the contents of a JSON file (:meth:`ZoneLayout.from_dict`).

    Args:
        name: what errors call it.

    Raises:
        ConfigError: it is not JSON, names something twice, or is not a layout.
    """
    try:
        # Some editors of Windows put a byte order mark in front.
        parsed = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
        return ZoneLayout.from_dict(from_tool(parsed) or parsed)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON ({error}); expected, for example, {EXAMPLE}") from error


def extend_layout(
    layout: ZoneLayout,
    zone: Iterable[str] = (),
    line: Iterable[str] = (),
    ignore: Iterable[str] = (),
    alert: Iterable[str] = (),
) -> ZoneLayout:
    """A layout with shapes and alerts of a command line (:func:`parse_shape`, :func:`parse_alert`) added.

    Raises:
        ConfigError: one of them is not valid, or there twice.
    """
    one_name = "{!r} is given twice; give one of them another name"
    one_alert = "there are two alerts for {!r}; give one"
    return ZoneLayout(
        _added(layout.zones, map(parse_shape, zone), one_name),
        _added(layout.lines, map(parse_shape, line), one_name),
        _added(layout.alerts, map(parse_alert, alert), one_alert),
        _added(layout.ignore, map(parse_shape, ignore), one_name),
    )


def _added(known: Mapping[str, T], pairs: Iterable[tuple[str, T]], twice: str) -> dict[str, T]:
    found = dict(known)
    for name, value in pairs:
        if name in found:
            raise ConfigError(twice.format(name))
        found[name] = value
    return found


def parse_shape(text: str) -> tuple[str, Shape]:
    """A zone or line of the command line: ``gate=100,200 400,200 400,480``, or ``gate=10%,40% 50%,40% 50%,100%``.

    Raises:
        ConfigError: it has another form.

    >>> parse_shape("door=0%,50% 100%,50%")
    ('door', Shape(corners=((0.0, 0.5), (1.0, 0.5)), unit='fractions'))
    """
    name, _, corners = text.rpartition("=")
    numbers = [number for corner in corners.split() for number in corner.split(",")]
    pairs = all(corner.count(",") == 1 for corner in corners.split())
    percents = sum(number.endswith("%") for number in numbers)
    number = r"[+-]?(\d+(\.\d*)?|\.\d+)%?"
    if not name or not numbers or not pairs or not all(re.fullmatch(number, n, re.ASCII) for n in numbers):
        raise ConfigError(f"expected NAME=x,y x,y ... in pixels, or NAME=x%,y% x%,y% ..., got {text!r}")
    if percents not in (0, len(numbers)):
        raise ConfigError(f"give all coordinates of {name!r} in pixels or all in percent, got {text!r}")
    values = [float(n.rstrip("%")) / (100 if percents else 1) for n in numbers]
    return name, Shape(tuple(zip(values[::2], values[1::2], strict=True)), FRACTIONS if percents else PIXELS)


def parse_alert(text: str) -> tuple[str, Alert]:
    """An alert of the command line: ``gate=50:40`` (on at 50, off at 40) or ``total=500`` (off at 80 % of it).

    Raises:
        ConfigError: it has another form.

    >>> parse_alert("total=500")
    ('total', Alert(high=500, low=400))
    """
    name, _, thresholds = text.rpartition("=")
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", thresholds, re.ASCII)
    if not name or not match:
        raise ConfigError(f"expected NAME=HIGH or NAME=HIGH:LOW in people, got {text!r}")
    high = int(match[1])
    return name, Alert(high, int(match[2])) if match[2] else Alert.below(high)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ConfigError(f"{key!r} is there twice; give one of them another name")
        data[key] = value
    return data
