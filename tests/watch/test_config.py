"""``cameras.toml``: what it may say, and what is said of mistakes in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.watch.config import load_config
from engine.zones.layout import Alert

WHOLE = """
folder = "counts"

[cameras.gate]
source = "rtsp://user:${GATE_PASSWORD}@10.0.0.7/live"
title = "Gate, north"
zones = "gate.json"
alerts = ["door=5:3", "total=500"]
every = 2
timeout = 5

[cameras.hall]
source = 0

[cameras.film]
source = "films/match.mp4"

[mqtt]
host = "broker"
username = "crowd"
password = "${MQTT_PASSWORD}"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "cameras.toml").write_text(text)
    return folder / "cameras.toml"


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text(json.dumps({"zones": {"door": [[0, 0], [9, 0], [9, 9]]}}))
    secrets = {"GATE_PASSWORD": "pa${ss", "MQTT_PASSWORD": "hush"}
    config = load_config(write(tmp_path, WHOLE), secrets)
    gate, hall, film = config.cameras
    assert (gate.name, gate.title, gate.source) == ("gate", "Gate, north", "rtsp://user:pa${ss@10.0.0.7/live")
    assert list(gate.layout.zones) == ["door"]
    assert gate.layout.alerts == {"door": Alert(5, 3), "total": Alert(500, 400)}
    assert (gate.options.fps, gate.options.patience.timeout) == (0.5, 5)
    assert (hall.source, hall.title, film.source) == (0, "hall", str(tmp_path / "films/match.mp4"))
    assert config.folder == tmp_path / "counts"
    assert config.mqtt is not None
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.password) == ("broker", 1883, "hush")
    assert "hush" not in repr(config)
    assert "pa${ss" not in repr(config)


CAMERA = '[cameras.a]\nsource = "rtsp://u:secret@c/"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no camera"),
        ("cameras = 3", "there is no camera"),
        ("[cameras.a", "is not TOML"),
        ("[cameras]\na = 1", "camera a must be a table"),
        ("[cameras.a]\ntitle = 'x'", "camera a needs a source"),
        ("[cameras.a]\nsource = true", "camera a needs a source"),
        ("[cameras.'a b']\nsource = 0", "a camera's name must be"),
        ("[cameras.'../a']\nsource = 0", "a camera's name must be"),
        (CAMERA + "[cameras.a-minutes]\nsource = 1", "give it another name"),
        (CAMERA + "fsp = 2", "camera a has 'fsp'; known are alerts, every, fps"),
        (CAMERA + "fps = 0", "camera a: fps must be a positive number"),
        (CAMERA + "fps = '2'", "camera a: fps must be a positive number"),
        (CAMERA + "fps = 2\nevery = 2", "say the same thing"),
        (CAMERA + "zones = 'none.json'", "cannot read the zones"),
        (CAMERA + "alerts = ['gate=5']", "no such zone"),
        (CAMERA + "alerts = 'total=5'", "alerts must be a list"),
        (CAMERA + "alerts = ['total=5', 'total=6']", "two alerts for 'total'"),
        (CAMERA + "title = 3", "camera a: title must be a text, got 3"),
        (CAMERA + "[mqtt]", "mqtt needs a host"),
        (CAMERA + "[mqtt]\nhost = 'b'\nport = '1'", "mqtt.port must be a whole number, got '1'"),
        (CAMERA + "[mqtt]\nhost = 'b'\nport = 0", "a port from 1 to 65535"),
        (CAMERA + "[mqtt]\nhost = 'b'\ntopic = 'a/#'", "mqtt.topic must be"),
        (CAMERA + "[mqtt]\nhost = 'b'\npassword = 'secret'", "a password and no username"),
        (CAMERA + "[mqtt]\nhost = 'b'\nusername = 'u'\npassword = 4711", "mqtt.password must be a text"),
        (CAMERA + "[mqtt]\nhost = 'b'\nevery = -1", "mqtt.every must be from 0"),
        (CAMERA + "[mqtt]\nhost = 'b'\nca = 'none.pem'", "none.pem does not exist"),
        (CAMERA + "[mqtt]\nhost = '${NOT_SET}'", "NOT_SET is not in the environment"),
    ],
)
def test_mistakes_are_told_without_passwords(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text), {})
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert "4711" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the cameras in .*No such file"):
        load_config(tmp_path / "cameras.toml")
