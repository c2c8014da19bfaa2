"""Zones, lines and alerts as columns of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.zones.layout import ZoneLayout

_ENDS = (".low", ".high")


def zone_columns(layout: ZoneLayout) -> list[str]:
    """Columns of a table: for each zone its name and the ends of its interval, for each line its sides.

    A zone's name is in quotes where another zone has one of its columns already.

    >>> from engine.zones.layout import ZoneLayout
    >>> triangle = [(0, 0), (9, 0), (9, 9)]
    >>> zone_columns(ZoneLayout.from_polygons({"a": triangle, "a.low": triangle}))[2:]
    ['zone.a.high', "zone.'a.low'", "zone.'a.low'.low", "zone.'a.low'.high"]
    """
    columns: list[str] = []
    for name in layout.zones:
        shown = name
        while f"zone.{shown}" in columns or any(f"zone.{shown}{end}" in columns for end in _ENDS):
            shown = repr(shown)
        columns += [f"zone.{shown}", *(f"zone.{shown}{end}" for end in _ENDS)]
    return columns + [f"line.{name}.{side}" for name in layout.lines for side in ("left", "right")]


def zone_numbers(
    layout: ZoneLayout,
    zones: Mapping[str, int],
    intervals: Mapping[str, Sequence[int]],
    lines: Mapping[str, Sequence[int]],
) -> list[int]:
    """What :func:`zone_columns` names, of a result's zones, their intervals, and its lines."""
    return [
        *(number for name in layout.zones for number in (zones[name], *intervals[name])),
        *(number for name in layout.lines for number in lines[name]),
    ]
