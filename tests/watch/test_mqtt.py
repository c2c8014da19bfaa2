"""Counts to a real broker: what Home Assistant needs, the last will, and a broker that comes and goes."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mosquitto import PASSWORD, USER, Broker, listening
from serving import until
from stream_frames import counted_frame
from watch_sources import camera

from engine.errors import ConfigError
from engine.watch.config import Camera, MqttSettings
from engine.zones.layout import Alert, Shape, ZoneLayout

paho = pytest.importorskip("paho.mqtt.client", reason="MQTT needs the extra 'mqtt'")
from engine.watch.mqtt import MqttClient, MqttFollower, discovery  # noqa: E402

SQUARE = Shape(((0, 0), (32, 0), (32, 48), (0, 48)))
ODD = 'north "gate" {{ 1 }}'
LAYOUT = ZoneLayout({"door": SQUARE, ODD: SQUARE}, alerts={"door": Alert(5, 3), "total": Alert(9, 7)})
GATE = Camera("gate", "rtsp://user:secret@camera/live", "Gate, north", LAYOUT)


def settings(broker: Broker, **changes: Any) -> MqttSettings:
    return MqttSettings(**{"host": "127.0.0.1", "port": broker.port, "username": USER, "password": PASSWORD, **changes})


def frame(people: int, index: int = 0) -> Any:
    return counted_frame(index, points=[(8.5, 8.5)] * people, layout=LAYOUT)


def test_counts_and_states_of_a_camera(broker: Broker) -> None:
    with MqttClient(settings(broker, every=0), [GATE]) as client, listening(broker) as messages:
        follower = MqttFollower(client, GATE)
        until(lambda: messages.get("crowd/gate/status") == "offline")
        follower.write(frame(6), ["door"])
        until(lambda: "crowd/gate/state" in messages)
        state = json.loads(messages["crowd/gate/state"])
        assert (state["count"], state["interval"]) == (6, [5, 8])
        assert (state["zones"], state["alerts"]) == ({"door": 6, ODD: 6}, ["door"])
        until(lambda: messages["crowd/gate/status"] == "online")
        follower.report("it is lost")
        until(lambda: messages["crowd/gate/status"] == "offline")
        assert messages["crowd/status"] == "online"
        follower.write(frame(2), [])
        until(lambda: messages["crowd/gate/status"] == "online")
    with listening(broker) as messages:
        # Retained: who comes later knows it too.
        until(lambda: messages.get("crowd/status") == "offline" and "crowd/gate/state" in messages)


def test_home_assistant_finds_each_number(broker: Broker) -> None:
    jinja2 = pytest.importorskip("jinja2")
    with MqttClient(settings(broker), [GATE]) as client, listening(broker) as messages:
        MqttFollower(client, GATE).write(frame(6), ["door"])
        until(lambda: "crowd/gate/state" in messages and sum("/config" in topic for topic in messages) == 5)
        entities = [json.loads(text) for topic, text in messages.items() if topic.endswith("/config")]
        state = json.loads(messages["crowd/gate/state"])
    kinds = sorted(topic.split("/")[1] for topic in messages if topic.endswith("/config"))
    assert kinds == ["binary_sensor", "binary_sensor", "sensor", "sensor", "sensor"]
    assert len({entity["unique_id"] for entity in entities}) == 5
    values = {entity["name"]: jinja2.Template(entity["value_template"]).render(value_json=state) for entity in entities}
    assert values == {"People": "6", "door": "6", ODD: "6", "Alert door": "ON", "Alert": "OFF"}
    for entity in entities:
        assert entity["state_topic"] == "crowd/gate/state"
        assert {item["topic"] for item in entity["availability"]} == {"crowd/status", "crowd/gate/status"}
        assert entity["device"] == entities[0]["device"]
    assert "secret" not in json.dumps(messages)


def test_the_broker_tells_of_a_process_that_was_killed(broker: Broker) -> None:
    program = (
        "import time\nfrom engine.watch.config import MqttSettings\nfrom engine.watch.mqtt import MqttClient\n"
        f"with MqttClient(MqttSettings('127.0.0.1', {broker.port}, {USER!r}, {PASSWORD!r}), []): time.sleep(60)"
    )
    with listening(broker) as messages:
        process = subprocess.Popen([sys.executable, "-P", "-c", program])
        until(lambda: messages.get("crowd/status") == "online")
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: messages["crowd/status"] == "offline")


def test_a_broker_that_comes_late_and_goes(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.stop()
    with caplog.at_level(logging.WARNING, "engine"), MqttClient(settings(broker, every=0), [GATE]) as client:
        follower = MqttFollower(client, GATE)
        until(lambda: "Connection refused; trying again" in caplog.text)
        for people in (1, 2, 3):
            follower.write(frame(people), [])
        broker.start()
        with listening(broker) as messages:
            until(lambda: "crowd/gate/state" in messages)
            # The newest alone.
            assert json.loads(messages["crowd/gate/state"])["count"] == 3
            until(lambda: sum("/config" in topic for topic in messages) == 5)
        broker.stop()
        until(lambda: "was lost" in caplog.text)
        follower.write(frame(4), [])
        broker.start()
        with listening(broker) as messages:
            until(lambda: json.loads(messages.get("crowd/gate/state", '{"count": 0}'))["count"] == 4)
            assert messages["crowd/status"] == "online"
    assert PASSWORD not in caplog.text


def test_a_wrong_password_is_said_once_and_not_shown(
    broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[Any] = []
    connected = MqttClient._connected
    monkeypatch.setattr(MqttClient, "_connected", lambda *event: refusals.append(connected(*event)))
    with caplog.at_level(logging.WARNING, "engine"), MqttClient(settings(broker, password="wr0ng"), []):
        until(lambda: len(refusals) == 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"MQTT broker 127.0.0.1:{broker.port} refused the connection: Not authorized; trying again"
    ]
    assert "wr0ng" not in repr(settings(broker, password="wr0ng"))


# The library leaves the socket of a failed handshake to Python.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_encryption(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tls").mkdir()
    encrypted = Broker(tmp_path / "tls", tls=True)
    encrypted.start()
    try:
        with caplog.at_level(logging.WARNING, "engine"), MqttClient(settings(encrypted, tls=True), []):
            # The certificate is of an authority that nobody knows.
            until(lambda: "certificate verify failed" in caplog.text)
        known = settings(encrypted, tls=True, ca=str(tmp_path / "tls" / "cert.pem"))
        with MqttClient(known, []) as client:
            until(client._client.is_connected)
    finally:
        encrypted.stop()
    with pytest.raises(ConfigError, match="cannot be used"):
        MqttClient(settings(broker, tls=True, ca=str(tmp_path / "none.pem")), [])


def test_messages_are_as_rare_as_asked_for_but_alerts_come_at_once() -> None:
    class Sent:
        settings = MqttSettings("broker", every=10)

        def __init__(self) -> None:
            self.counts: list[int] = []

        def publish(self, topic: str, text: str) -> None:
            if topic.endswith("/state"):
                self.counts.append(json.loads(text)["count"])

    sent, seconds = Sent(), [0.0]
    follower = MqttFollower(sent, camera("hall"), lambda: seconds[0])  # type: ignore[arg-type]
    for second, people, alerts in [(0, 1, []), (9, 2, []), (10, 3, []), (11, 4, ["total"]), (12, 5, ["total"])]:
        seconds[0] = second
        follower.write(frame(people), alerts)
    assert sent.counts == [1, 3, 4]


def test_discovery_can_be_left_out() -> None:
    assert discovery(MqttSettings("broker", discovery=""), GATE) == []


def test_no_two_sensors_are_taken_for_one() -> None:
    def camera(name: str, *zones: str) -> Camera:
        return Camera(name, 0, layout=ZoneLayout.from_polygons({zone: [(0, 0), (9, 0), (9, 9)] for zone in zones}))

    cameras = [camera("a", "b_total", "b total", "b-total", "x"), camera("a_zone_b", "total_"), camera("a_zone")]
    found = [message for item in cameras for message in discovery(MqttSettings("broker"), item)]
    topics, entities = [topic for topic, _ in found], [json.loads(text) for _, text in found]
    assert len(found) == 8
    assert len({*topics}) == len({entity["unique_id"] for entity in entities}) == 8
    assert len({entity["device"]["identifiers"][0] for entity in entities}) == 3
    # What Home Assistant takes.
    assert all(re.fullmatch(r"homeassistant/sensor/[\w-]+/[\w-]+/config", topic, re.ASCII) for topic in topics)
