"""Options that say how another one works: without that one they would change nothing, and are refused."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from engine.errors import ConfigError


def refuse_alone(options: argparse.Namespace, needed: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse options without those that they need.

    Args:
        options: None or False where an option is not given.
        needed: by the name of an option, those of which it needs one.

    Raises:
        ConfigError: one is given, and none of those that it needs.

    >>> refuse_alone(argparse.Namespace(csv=None, csv_bom=True), {"csv_bom": ("csv",)})
    Traceback (most recent call last):
    engine.errors.ConfigError: --csv-bom needs --csv, and changes nothing without it; add it, or leave out --csv-bom
    """
    for name, others in needed.items():
        if _is_given(options, name) and not any(_is_given(options, other) for other in others):
            option, one = _option(name), " or ".join(map(_option, others))
            raise ConfigError(f"{option} needs {one}, and changes nothing without it; add it, or leave out {option}")


def _is_given(options: argparse.Namespace, name: str) -> bool:
    value = getattr(options, name)
    return value is not None and value is not False


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
