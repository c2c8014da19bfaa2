"""``crowd watch`` with a broker, on recordings and the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mosquitto import PASSWORD, USER, Broker, listening
from PIL import Image
from serving import PICTURE, until

from engine import CrowdCounter
from engine.cli import main


def test_counts_reach_the_broker(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate").mkdir()
    picture = Image.open(PICTURE).convert("RGB").resize((384, 288))
    for number in range(2):
        picture.save(tmp_path / "gate" / f"{number}.png")
    (tmp_path / "cameras.toml").write_text(
        '[cameras.gate]\nsource = "gate"\nalerts = ["total=1"]\n[mqtt]\nhost = "127.0.0.1"\nevery = 0\n'
        f'port = {broker.port}\nusername = "{USER}"\npassword = "${{MQTT_PASSWORD}}"\n'
    )
    monkeypatch.setenv("MQTT_PASSWORD", PASSWORD)
    with CrowdCounter(cpu_threads=1, performance="throughput") as counter:
        expected = counter.count(tmp_path / "gate" / "0.png").count
    with listening(broker) as messages:
        assert main(["watch", str(tmp_path / "cameras.toml"), "--threads", "1"]) == 0
        until(lambda: messages.get("crowd/status") == "offline")
        state = json.loads(messages["crowd/gate/state"])
        assert (state["count"], state["alerts"]) == (expected, ["total"])
        assert "homeassistant/binary_sensor/crowd_gate/alert_total/config" in messages
    printed = capsys.readouterr()
    assert f"gate: total: alert on at {expected} people" in printed.err
    assert PASSWORD not in printed.err + printed.out + json.dumps(messages)
