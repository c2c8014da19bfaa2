"""Settings of a training run as a JSON file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from engine.config import ModelConfig
from engine.errors import ConfigError
from engine.model.checkpoint import load_state
from engine.training.augment import AugmentConfig
from engine.training.config import TrainConfig
from engine.training.losses import LossConfig

_RECIPES = Path(__file__).parent / "recipes"
# What ``crowd train`` does unless told otherwise: from the trunk's weights, and from those of another model.
DEFAULT = _RECIPES / "efficientnet_lite0.json"
FINE_TUNING = _RECIPES / "fine_tuning.json"

_PARTS: dict[str, type] = {"model": ModelConfig, "loss": LossConfig, "augment": AugmentConfig}


def read_recipe(path: str | Path) -> TrainConfig:
    """The settings in ``path``; what it leaves out keeps its default.

    The file holds the fields of :class:`TrainConfig`, those of ``model``, ``loss`` and ``augment`` as objects:
    ``{"iterations": 20000, "learning_rate": 0.003, "augment": {"scale": [0.6, 1.7]}}``.

    Raises:
        ConfigError: there is no such file, it is not JSON, or it names a setting that does not exist.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"recipe {path} is not JSON: {error}") from error
    return config_of(table, str(path))


def run_recipe(checkpoint: Path) -> TrainConfig:
    """The settings of the run that ``checkpoint`` is of.

    Raises:
        ConfigError: it is no checkpoint of a run, or has settings that are no more.
    """
    return config_of(json.loads(json.dumps(load_state(checkpoint).get("config"))), str(checkpoint))


def config_of(table: Any, where: str) -> TrainConfig:
    """The settings in ``table``, as JSON has them; ``where`` is what an error calls it.

    Raises:
        ConfigError: a setting does not exist, or cannot be.
    """
    config: TrainConfig = _fill(TrainConfig, table, where)
    return config


def write_recipe(config: TrainConfig, path: str | Path) -> None:
    """Write every setting of ``config``, as :func:`read_recipe` reads it."""
    Path(path).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")


def _fill(kind: type, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must hold an object of settings, got {type(table).__name__}")
    defaults = kind()
    values = {}
    for name, value in table.items():
        if name not in {field.name for field in dataclasses.fields(kind)}:
            raise ConfigError(f"{where} has no setting {name!r}; there are {', '.join(vars(defaults))}")
        values[name] = _value(name, value, getattr(defaults, name), where)
    return kind(**values)


def _value(name: str, value: Any, default: Any, where: str) -> Any:
    if kind := _PARTS.get(name):
        return _fill(kind, value, f"{where}, {name},")
    if isinstance(default, tuple):
        wanted = len(default) or "a list of"  # Without any by default, there may be any number of them.
        if not isinstance(value, list) or (default and len(value) != len(default)) or not all(map(_is_number, value)):
            raise ConfigError(f"{where}: {name} must be {wanted} numbers, got {value!r}")
        return tuple(value)
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ConfigError(f"{where}: {name} must be text like {default!r}, got {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: {name} must be true or false, got {value!r}")
        return value
    # bool is an int, and 1e4 is a float, even where JSON means a whole number.
    if not _is_number(value) or (isinstance(default, int) and value != int(value)):
        raise ConfigError(f"{where}: {name} must be a number like {default!r}, got {value!r}")
    return type(default)(value)


def _is_number(value: Any) -> bool:
    # JSON of Python has NaN and Infinity, 1e400 is read as the latter, and whole numbers have any length.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e18 < value < 1e18
