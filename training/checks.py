"""Refuses settings that cannot be; ``settings`` is a frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from engine.errors import ConfigError


def check_finite(settings: Any) -> None:
    """Refuse numbers that are infinite or none at all, those of ranges included."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{field.name} must be a finite number, got {number}")


def check_not_negative(settings: Any, *names: str) -> None:
    """Refuse those of these settings that are below 0."""
    for name in names:
        if getattr(settings, name) < 0:
            raise ConfigError(f"{name} must not be negative, got {getattr(settings, name)}")


def check_positive(settings: Any, *names: str) -> None:
    """Refuse those of these settings that are not above 0."""
    for name in names:
        if getattr(settings, name) <= 0:
            raise ConfigError(f"{name} must be positive, got {getattr(settings, name)}")


def check_shares(settings: Any, *names: str) -> None:
    """Refuse those of these settings that are no probabilities or shares."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ConfigError(f"{name} must be from 0 to 1, got {getattr(settings, name)}")


def check_ranges(settings: Any, low: float, high: float, *names: str) -> None:
    """Refuse those of these settings that are no ranges, smallest value first, within ``low`` and ``high``."""
    for name in names:
        first, last = getattr(settings, name)
        if not low <= first <= last <= high:
            raise ConfigError(f"{name} must be a range within {low:g} and {high:g}, smallest first, got {first} {last}")
