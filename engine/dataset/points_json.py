"""``points.json``: our own format, ``{"a.jpg": [[x, y], ...]}`` in pixels, with ``[]`` where nobody is."""

from __future__ import annotations

from typing import Any

from engine.dataset.entry import Entry, as_points
from engine.errors import ConfigError


def read(data: Any, where: str) -> list[Entry]:
    """One entry a picture.

    Raises:
        ConfigError: it is no such table.
    """
    if not isinstance(data, dict):
        raise ConfigError(f'{where} must hold {{"a.jpg": [[x, y], ...]}}, got a {type(data).__name__}')
    return [Entry((name,), as_points(rows, f"{where}, {name}"), f"{where}, {name}") for name, rows in data.items()]


def write(pictures: list[tuple[str, list[list[float]]]]) -> dict[str, list[list[float]]]:
    """The table of pictures' names and points."""
    return dict(pictures)
