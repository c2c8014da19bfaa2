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
from engine.system.addresses import hide_passwords
from engine.zones.inputs import as_layout, extend_layout
from engine.zones.layout import NO_ZONES, ZoneLayout

EXAMPLE = '[cameras.gate]\nsource = "rtsp://user:password@10.0.0.7/live"'
# In addresses, file names, topics and metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Limits of the file, of a text in it such as MQTT's user name, and of a title, which names things.
_MOST_BYTES, _MOST_TEXT, _MOST_TITLE = 1 << 20, 10_000, 100
# A broker's name or address, as those who look it up take it.
_HOST = re.compile(r"[^\s/@?#\\]+")


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
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"mqtt needs a port from 1 to 65535, got {self.port}")
        _check_host(self.host)
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
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML ({error}); expected, for example,\n{EXAMPLE}") from None
    try:
        return _config(_expand(parsed, environment), path.parent)
    except ConfigError as error:
        # Without its cause, which may have the password.
        raise ConfigError(f"{path}: {hide_passwords(str(error))}") from None


def _config(data: Mapping[str, Any], base: Path) -> WatchConfig:
    _check_keys("the file", data, {"cameras", "folder", "mqtt"})
    cameras = data.get("cameras", {})
    if not isinstance(cameras, Mapping) or not cameras:
        raise ConfigError(f"there is no camera; expected, for example,\n{EXAMPLE}")
    # Some file systems take them for the same.
    known: dict[str, str] = {}
    for name in cameras:
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(f"cameras {other} and {name} would write to one file; give one of them another name")
    for name in known.keys() & {f"{other}-minutes" for other in known}:
        raise ConfigError(f"camera {known[name]} would write to a file of another camera; give it another name")
    return WatchConfig(
        tuple(_camera(name, values, base) for name, values in cameras.items()),
        _path("folder", data["folder"], base) if "folder" in data else None,
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
    if isinstance(source, int) and not 0 <= source < 1000:
        raise ConfigError(f"{where}: webcams have numbers from 0 to 999, got {source}")
    if isinstance(source, str) and "://" not in source:
        source = str(base / source)
    title = values.get("title", name)
    _check_kind(f"{where}: title", title, str)
    if len(title) > _MOST_TITLE:
        raise ConfigError(f"{where}: title must be at most {_MOST_TITLE} characters, got {len(title)}")
    zones = _path(f"{where}: zones", values["zones"], base) if "zones" in values else None
    try:
        layout = extend_layout(as_layout(zones), alert=_check_alerts(values.get("alerts", [])))
        patience = Patience(timeout=values.get("timeout", Patience.timeout), give_up=float("inf"))
        options = StreamOptions(values.get("fps"), every=values.get("every"), patience=patience)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Camera(name, source, title or name, layout, options)


def _check_alerts(texts: Any) -> list[str]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError('alerts must be a list such as ["gate=50:40", "total=500"]')
    return texts


def _mqtt(values: Any, base: Path) -> MqttSettings:
    _check_keys("mqtt", values, set(MqttSettings.__dataclass_fields__))
    if "host" not in values:
        raise ConfigError('mqtt needs a host, such as host = "homeassistant.local"')
    settings = MqttSettings(**values)
    if settings.ca is None:
        return settings
    ca = _path("mqtt.ca", settings.ca, base)
    if not ca.is_file():
        raise ConfigError(f"mqtt.ca: {ca} does not exist; expected a PEM file")
    return replace(settings, ca=str(ca))


def _path(what: str, value: Any, base: Path) -> Path:
    _check_kind(what, value, str)
    if "://" in value:
        raise ConfigError(f"{what} must be a path, not an address")
    return base / value


def _check_host(host: str) -> None:
    try:
        encoded = host.encode("idna") if _HOST.fullmatch(host) else b""
    except UnicodeError:
        encoded = b""
    if not encoded:
        # It may be an address with a password.
        raise ConfigError(
            'mqtt.host must be a name or an address alone, such as "homeassistant.local"; port, username and password '
            "are given for themselves"
        )


def _expand(value: Any, environment: Mapping[str, str], where: str = "the file") -> Any:
    """The same data with ``${NAME}`` replaced in every text."""
    if isinstance(value, dict):
        return {name: _expand(item, environment, f"{where}: {name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment, where) for item in value]
    if not isinstance(value, str):
        return value

    def lookup(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(f"{match[0]} is used, but {match[1]} is not in the environment; set it")
        return environment[match[1]]

    text = _VARIABLE.sub(lookup, value)
    # Paths, messages, topics and pages cannot hold them. It may be a password, and so is not shown.
    if len(text) > _MOST_TEXT or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise ConfigError(
            f"{where!r:.200} must be text of at most {_MOST_TEXT} characters, without line breaks and other control "
            "characters; look at it, and at the variables that it names"
        )
    return text


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
