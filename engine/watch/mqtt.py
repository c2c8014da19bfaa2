"""Counts to an MQTT broker, and to Home Assistant by its discovery. Needs paho-mqtt (the extra "mqtt")."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from engine.errors import ConfigError
from engine.stream.frame import FrameResult
from engine.watch.config import Camera, MqttSettings
from engine.zones.layout import TOTAL

_ONLINE, _OFFLINE = "online", "offline"
# Seconds between attempts to connect, at first and at last; and without a word, after which the broker sends the will.
_FIRST_DELAY, _LONGEST_DELAY, _KEEP_ALIVE = 1, 30, 30
# Seconds that closing waits for its last message.
_CLOSE_TIMEOUT = 2.0

_log = logging.getLogger("engine")


class MqttClient:
    """A connection to a broker, which comes back by itself; a context manager.

    Topics, all retained: ``TOPIC/status`` is "online", and "offline" once the process has ended, however it did;
    ``TOPIC/CAMERA/status`` the same of a camera; ``TOPIC/CAMERA/state`` its newest count as JSON.

    Args:
        settings: of the broker.
        cameras: all of them.
    """

    def __init__(self, settings: MqttSettings, cameras: Sequence[Camera]):
        self.settings = settings
        self._status = f"{settings.topic}/status"
        self._newest: dict[str, str] = {}
        self._lock, self._said, self._refused = threading.Lock(), "", False
        self._discoveries = [message for camera in cameras for message in discovery(settings, camera)]
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set(settings.username, settings.password)
        if settings.tls:
            try:
                client.tls_set(ca_certs=settings.ca)
            except OSError as error:
                raise ConfigError(f"mqtt.ca {settings.ca} cannot be used: {error}") from error
        client.will_set(self._status, _OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(_FIRST_DELAY, _LONGEST_DELAY)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail = self._failed

    def __enter__(self) -> MqttClient:
        # Not connect(): the broker may come later.
        self._client.connect_async(self.settings.host, self.settings.port, _KEEP_ALIVE)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._client.is_connected():
            last = self._client.publish(self._status, _OFFLINE, qos=1, retain=True)
            last.wait_for_publish(_CLOSE_TIMEOUT)
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, text: str) -> None:
        """Send a retained message, now or, if it is still the newest of its topic, when the broker is there again."""
        topic = f"{self.settings.topic}/{topic}"
        with self._lock:
            self._newest[topic] = text
            # What waits within the library would all be sent, however old.
            if self._client.is_connected():
                self._client.publish(topic, text, retain=True)

    def _connected(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._refused = reason.is_failure
        if self._refused:
            self._say(f"refused the connection: {reason}")
            return
        if self._said:
            _log.warning("MQTT broker %s:%d is there again", self.settings.host, self.settings.port)
        self._said = ""
        client.publish(self._status, _ONLINE, qos=1, retain=True)
        with self._lock:
            for topic, text in (*self._discoveries, *self._newest.items()):
                client.publish(topic, text, retain=True)

    def _failed(self, client: paho.Client, data: Any) -> None:
        # The library calls this while it handles what went wrong.
        self._say(f"cannot be reached: {sys.exception() or 'no reason given'}")

    def _disconnected(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        # A broker closes what it refuses, and was not lost then.
        if reason.is_failure and not self._refused:
            self._say(f"was lost: {reason}")
        self._refused = False

    def _say(self, trouble: str) -> None:
        # Once for one trouble; it is tried without end.
        if trouble != self._said:
            self._said = trouble
            _log.warning("MQTT broker %s:%d %s; trying again", self.settings.host, self.settings.port, trouble)


class MqttFollower:
    """Sends the counts of one camera; see :class:`engine.watch.station.Follower`."""

    def __init__(self, client: MqttClient, camera: Camera, clock: Callable[[], float] = time.monotonic):
        self._client, self._name, self._clock = client, camera.name, clock
        self._sent, self._online = float("-inf"), False
        self._alerts: tuple[str, ...] = ()
        client.publish(f"{self._name}/status", _OFFLINE)

    def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
        """Send a count, unless one was sent a moment ago; an alert that changes is sent at once."""
        now, changed = self._clock(), tuple(alerts) != self._alerts
        if not self._online:
            self._client.publish(f"{self._name}/status", _ONLINE)
        elif now - self._sent < self._client.settings.every and not changed:
            return
        self._sent, self._alerts, self._online = now, tuple(alerts), True
        self._client.publish(f"{self._name}/state", json.dumps(state(frame, alerts)))

    def report(self, problem: str) -> None:
        """The camera is not there."""
        if self._online:
            self._client.publish(f"{self._name}/status", _OFFLINE)
        self._online = False


def state(frame: FrameResult, alerts: Sequence[str]) -> dict[str, Any]:
    """The message of a frame."""
    result = frame.result
    return {
        "time": frame.time,
        "count": result.count,
        "interval": list(result.interval),
        "zones": dict(result.zones),
        "lines": {name: list(sides) for name, sides in result.lines.items()},
        "alerts": list(alerts),
    }


def discovery(settings: MqttSettings, camera: Camera) -> list[tuple[str, str]]:
    """The messages, with their topics, by which Home Assistant makes a device of a camera: a sensor of the people in
    the picture and in each zone, and a binary sensor for each alert."""
    if not settings.discovery:
        return []
    # A slash is in none of the names, so that no two of anything are taken for one.
    device = f"{settings.topic}/{camera.name}"
    common = {
        "state_topic": f"{settings.topic}/{camera.name}/state",
        "availability": [{"topic": f"{settings.topic}/{where}status"} for where in ("", f"{camera.name}/")],
        "availability_mode": "all",
        "device": {"identifiers": [device], "name": camera.title, "manufacturer": "crowd-engine"},
    }
    people = {"unit_of_measurement": "people", "state_class": "measurement", "icon": "mdi:account-group"}
    found: list[tuple[str, dict[str, Any]]] = [
        ("sensor", {"name": "People", "value_template": "{{ value_json.count }}", **people, "object": TOTAL})
    ]
    for name in camera.layout.zones:
        value = f"{{{{ value_json.zones[{json.dumps(name)}] }}}}"
        found.append(("sensor", {"name": name, "value_template": value, **people, "object": f"zone_{_slug(name)}"}))
    for name in camera.layout.alerts:
        value = f"{{{{ 'ON' if {json.dumps(name)} in value_json.alerts else 'OFF' }}}}"
        title = "Alert" if name == TOTAL else f"Alert {name}"
        alert = {"name": title, "value_template": value, "device_class": "problem", "object": f"alert_{_slug(name)}"}
        found.append(("binary_sensor", alert))
    messages = []
    for kind, entity in found:
        name = entity.pop("object")
        topic = f"{settings.discovery}/{kind}/{settings.topic}_{camera.name}/{name}/config"
        messages.append((topic, json.dumps({**entity, "unique_id": f"{device}/{name}", **common})))
    return messages


def _slug(name: str) -> str:
    """A name for topics: what it has of letters and digits, and a hash where that is not all."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
