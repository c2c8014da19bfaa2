"""The manifest of a bundle as data from a stranger: what each value must be before anything uses it."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from pathlib import Path
from typing import Any

from engine.config import CountingRule, ModelConfig
from engine.errors import ConfigError

MANIFEST_FILE = "manifest.json"
_MOST_BYTES = 4 << 20
# No bundle comes near these; a hostile one cannot ask for a network that fills the memory, or for endless loops.
_MOST_CHANNELS, _MOST_BLOCKS, MOST_STEPS = 1024, 16, 1000
_BLOCKS = ("depths", "neck_blocks", "decoder_blocks", "encoder_attention_passes", "decoder_attention_passes")
_MOST_NAMES, _MOST_BINS = 256, 64
# Settings of the network that older bundles do not have, as they are there.
LATER_SETTINGS: dict[str, Any] = {
    "stem_kernel": 3, "trunk": "none", "trunk_blocks": 16, "neck": 128, "neck_blocks": 0, "count_bins": [],
    "domains": 1, "own_rate": False,
}  # fmt: skip


def read_manifest(file: Path) -> tuple[bytes, Any]:
    """The bytes of a manifest, and the JSON in them: finite numbers alone.

    Raises:
        ValueError: it is too large, or no such JSON.
    """
    size = file.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes, more than {_MOST_BYTES}")
    raw = file.read_bytes()
    try:
        return raw, json.loads(raw, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def as_text(value: Any) -> str:
    """A short text that a terminal can show."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise ValueError(f"{_shown(value)} is no short, printable text")
    return value


def as_names(value: Any) -> tuple[str, ...]:
    """A list of such texts."""
    if not isinstance(value, list) or len(value) > _MOST_NAMES:
        raise ValueError(f"{_shown(value)} is no list of names")
    return tuple(as_text(name) for name in value)


def as_whole(value: Any, low: int, high: int) -> int:
    """An integer in low..high."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{_shown(value)} is no whole number from {low} to {high}")
    return value


def as_number(value: Any, low: float, high: float) -> float:
    """A number in low..high."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{_shown(value)} is no number from {low:g} to {high:g}")
    return float(value)


def as_model(settings: dict[str, Any]) -> ModelConfig:
    """The shape of the network; ``settings`` has every field of it, and no other."""
    usual = ModelConfig()
    values = {name: _setting(name, value, getattr(usual, name)) for name, value in settings.items()}
    try:
        return ModelConfig(**values)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def as_rules(entries: Any) -> dict[int, CountingRule]:
    """Counting rules by number of steps."""
    if not isinstance(entries, dict) or len(entries) > MOST_STEPS:
        raise ValueError(f"{_shown(entries)} is no table of counting rules")
    rules = {}
    for steps, entry in entries.items():
        known = {field.name for field in dataclasses.fields(CountingRule)}
        if not isinstance(entry, dict) or not entry.keys() <= known:
            raise ValueError(f"{_shown(entry)} is no counting rule")
        rule = CountingRule(**{name: _rule_value(name, value) for name, value in entry.items()})
        if not 0 < rule.low <= rule.high <= 1:
            raise ValueError(f"counting thresholds {rule.low} to {rule.high} are not within 0 < low <= high <= 1")
        if not 0 < rule.least <= 1 <= rule.most:
            raise ValueError(f"interval ratios {rule.least} and {rule.most} are not within 0 < least <= 1 <= most")
        if rule.fewest < 0:
            raise ValueError(f"fewest is {rule.fewest}, expected a number of people")
        rules[_steps(steps)] = rule
    return rules


def _rule_value(name: str, value: Any) -> Any:
    return _flag(name, value) if name == "beyond_peaks" else as_number(value, -1e9, 1e9)


def _setting(name: str, value: Any, usual: Any) -> Any:
    """One field of the network's shape, of the type that it usually has."""
    if name == "count_bins":
        if not isinstance(value, list) or len(value) > _MOST_BINS:
            raise ValueError(f"count_bins {_shown(value)} is no list of at most {_MOST_BINS} numbers")
        return tuple(as_number(x, 1, 1e4) for x in value)
    if isinstance(usual, tuple):
        if not isinstance(value, list) or len(value) != len(usual):
            raise ValueError(f"{name} {_shown(value)} is no list of {len(usual)} numbers")
        return tuple(_setting(name, x, usual[0]) for x in value)
    if isinstance(usual, bool):
        return _flag(name, value)
    if isinstance(usual, float):
        return as_number(value, 1e-6, 1e6)
    if isinstance(usual, int):
        # The reference length of the attention is no size of anything in memory.
        most = 1 << 20 if name == "crop_size" else _MOST_CHANNELS
        return as_whole(value, 0, _MOST_BLOCKS) if name in _BLOCKS else as_whole(value, 1, most)
    return as_text(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} {_shown(value)} is neither true nor false")
    return value


def _steps(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_STEPS):
        raise ValueError(f"counting rules are for 1 to {MOST_STEPS} steps, got {_shown(text)}")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _shown(value: Any) -> str:
    # Shortened at every depth, before it is written out.
    return reprlib.repr(value)
