"""``cameras.toml`` -> what is to be watched, checked."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.stream.live import Patience
from engine.stream.opening import StreamOptions
from engine.zones.inputs import as_layout, parse_alert
from engine.zones.layout import NO_ZONES, ZoneLayout

EXAMPLE = '[cameras.gate]\nsource = "rtsp://user:password@10.0.0.7/live"'
# In addresses, file names, topics and metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Camera:
    """One camera, or any other source of a stream.

    Attributes:
        name: letters, digits, "_" and "-".
        source: URL, path, or number of a webcam. It may hold a password.
        title: for people.
        layout: its zones, lines and alerts.
        options: how it is read.
    """

    name: str
    source: str | int = field(repr=False)
    title: str = ""
    layout: ZoneLayout = NO_ZONES
    options: StreamOptions = field(default_factory=StreamOptions)


@dataclass(frozen=True)
class MqttSettings:
    """A broker, and how topics begin.

    Attributes:
        host, port: of the broker.
        username, password: None where it asks for none.
        tls: encrypt the connection; ``ca`` is a PEM file of the authority, where it is not one of the system's.
        topic: first part of every topic; also tells several engines on one broker apart.
        discovery: first part of Home Assistant's topics; empty for none.
        every: seconds from one message of a camera to the next, at least.

    Raises:
        ConfigError: a value is not valid.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    topic: str = "crowd"
    discovery: str = "homeassistant"
    every: float = 1.0

    def __post_init__(self) -> None:
        for name, kind in (("host", str), ("topic", str), ("discovery", str), ("port", int), ("tls", bool)):
            _check_kind(f"mqtt.{name}", getattr(self, name), kind)
        for name in ("username", "password", "ca"):
            if (value := getattr(self, name)) is not None:
                _check_kind(f"mqtt.{name}", value, str, shown=name != "password")
        if not self.host or not 1 <= self.port <= 65535:
            raise ConfigError(f"mqtt needs a host and a port from 1 to 65535, got {self.host!r} and {self.port}")
        if not _NAME.fullmatch(self.topic):
            raise ConfigError(f"mqtt.topic must be 1 to 64 letters, digits, '_' or '-', got {self.topic!r}")
        if self.discovery and not _NAME.fullmatch(self.discovery):
            raise ConfigError(f"mqtt.discovery must be letters, digits, '_' or '-', or empty, got {self.discovery!r}")
        if self.password is not None and self.username is None:
            raise ConfigError("mqtt has a password and no username; give both")
        # A file may hold anything.
        every: object = self.every
        if isinstance(every, bool) or not isinstance(every, int | float) or not 0 <= every <= 3600:
            raise ConfigError(f"mqtt.every must be from 0 to 3600 seconds, got {every!r}")


@dataclass(frozen=True)
class WatchConfig:
    """Everything that ``cameras.toml`` says.

    Attributes:
        cameras: at least one.
        folder: of CSV files; None for none.
        mqtt: None for none.
    """

    cameras: tuple[Camera, ...]
    folder: Path | None = None
    mqtt: MqttSettings | None = None


def load_config(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> WatchConfig:
    """Read ``cameras.toml``. Paths in it start from its folder.

    Args:
        environment: what ``${NAME}`` in a text stands for, so that passwords need not be in the file.

    Raises:
        ConfigError: it cannot be read, or something in it is not valid. No password is in the message.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{path} is larger than 1 MiB; that is no list of cameras")
        parsed = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read the cameras in {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML ({error}); expected, for example,\n{EXAMPLE}") from None
    try:
        return _config(_expand(parsed, environment), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _config(data: Mapping[str, Any], base: Path) -> WatchConfig:
    _check_keys("the file", data, {"cameras", "folder", "mqtt"})
    cameras = data.get("cameras", {})
    if not isinstance(cameras, Mapping) or not cameras:
        raise ConfigError(f"there is no camera; expected, for example,\n{EXAMPLE}")
    for name in cameras:
        if f"{name}-minutes" in cameras:
            raise ConfigError(f"camera {name}-minutes would write to a file of camera {name}; give it another name")
    folder = data.get("folder")
    if folder is not None:
        _check_kind("folder", folder, str)
        folder = base / folder
    return WatchConfig(
        tuple(_camera(name, values, base) for name, values in cameras.items()),
        folder,
        _mqtt(data["mqtt"], base) if "mqtt" in data else None,
    )


def _camera(name: str, values: Any, base: Path) -> Camera:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a camera's name must be 1 to 64 letters, digits, '_' or '-', got {name!r:.100}")
    where = f"camera {name}"
    _check_keys(where, values, {"source", "title", "zones", "alerts", "every", "fps", "timeout"})
    source = values.get("source")
    if isinstance(source, bool) or not isinstance(source, str | int) or source == "":
        raise ConfigError(f"{where} needs a source: a URL, a path or the number of a webcam")
    if isinstance(source, str) and "://" not in source:
        source = str(base / source)
    title, zones = values.get("title", name), values.get("zones")
    _check_kind(f"{where}: title", title, str)
    if zones is not None:
        _check_kind(f"{where}: zones", zones, str)
        zones = base / zones
    try:
        layout = _with_alerts(as_layout(zones), values.get("alerts", []))
        patience = Patience(timeout=values.get("timeout", Patience.timeout), give_up=float("inf"))
        options = StreamOptions(values.get("fps"), every=values.get("every"), patience=patience)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Camera(name, source, title or name, layout, options)


def _with_alerts(layout: ZoneLayout, texts: Any) -> ZoneLayout:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError('alerts must be a list such as ["gate=50:40", "total=500"]')
    alerts = dict(layout.alerts)
    for name, alert in map(parse_alert, texts):
        if name in alerts:
            raise ConfigError(f"there are two alerts for {name!r}; give one")
        alerts[name] = alert
    return replace(layout, alerts=alerts)


def _mqtt(values: Any, base: Path) -> MqttSettings:
    _check_keys("mqtt", values, set(MqttSettings.__dataclass_fields__))
    if "host" not in values:
        raise ConfigError('mqtt needs a host, such as host = "homeassistant.local"')
    settings = MqttSettings(**values)
    if settings.ca is None:
        return settings
    if not (base / settings.ca).is_file():
        raise ConfigError(f"mqtt.ca: {base / settings.ca} does not exist; expected a PEM file")
    return replace(settings, ca=str(base / settings.ca))


def _expand(value: Any, environment: Mapping[str, str]) -> Any:
    """The same data with ``${NAME}`` replaced in every text."""
    if isinstance(value, dict):
        return {name: _expand(item, environment) for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def lookup(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(f"{match[0]} is used, but {match[1]} is not in the environment; set it")
        return environment[match[1]]

    return _VARIABLE.sub(lookup, value)


def _check_kind(what: str, value: object, kind: type, shown: bool = True) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = f", got {value!r:.80}" if shown else ""
        raise ConfigError(
            f"{what} must be {({str: 'a text', int: 'a whole number', bool: 'true or false'})[kind]}{got}"
        )


def _check_keys(what: str, data: object, known: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{what} must be a table, got {type(data).__name__}; expected, for example,\n{EXAMPLE}")
    if unknown := data.keys() - known:
        raise ConfigError(f"{what} has {min(unknown)!r}; known are {', '.join(sorted(known))}")
