"""Zones, lines and alerts on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.zones.layout import ZoneLayout


def add_arguments(parser: argparse.ArgumentParser, alerts: bool) -> None:
    """Add the options; ``alerts`` too where there is a stream to watch."""
    content = "zones, zones to ignore, lines" + " and alerts" * alerts
    parser.add_argument("--zones", metavar="FILE", help=f"{content}, as JSON")
    parser.add_argument(
        "--zone", action="append", default=[], metavar="ZONE", help="'NAME=x,y x,y x,y ...' in pixels, or x%%,y%%"
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="ZONE",
        help="as --zone: nobody there counts (posters, statues)",
    )
    parser.add_argument(
        "--line", action="append", default=[], metavar="LINE", help="'NAME=x,y x,y': people on each side of it"
    )
    if alerts:
        parser.add_argument(
            "--alert", action="append", default=[], metavar="ALERT", help="ZONE=HIGH[:LOW], or total=HIGH[:LOW]"
        )


def read_layout(options: argparse.Namespace) -> ZoneLayout:
    """The layout that the options give: of the file, and of the command line.

    Raises:
        ConfigError: something in it is not valid, or there twice.
    """
    # Here, so that --help loads no array library.
    from engine.zones.inputs import as_layout, extend_layout

    alerts = getattr(options, "alert", [])
    return extend_layout(as_layout(options.zones), options.zone, options.line, options.ignore, alerts)


def zones_text(record: Mapping[str, Any]) -> str:
    """People in each zone and on each side of each line of a result, to follow its count.

    For example ``, gate: 12 (7-19), door: 3 left, 9 right``.
    """
    zones = "".join(
        f", {name}: {record['zones'][name]} ({low}-{high})" for name, (low, high) in record["zone_intervals"].items()
    )
    return zones + "".join(f", {name}: {left} left, {right} right" for name, (left, right) in record["lines"].items())
