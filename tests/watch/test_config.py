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
        ("a = " + "[" * 100_000, "is not TOML"),
        ("a = " + "{a=" * 100_000, "is not TOML"),
        ("[cameras.a]\nsource = -1", "camera a: webcams have numbers from 0"),
        (f"[cameras.a]\nsource = {10**30}", "camera a: webcams have numbers from 0"),
        ('[cameras.a]\nsource = "a\\u0000b"', "'the file: cameras: a: source' must be text of at most"),
        (CAMERA + 'zones = "a\\u0000b"', "zones' must be text"),
        (CAMERA + 'title = "a\\u001b[31mb"', "title' must be text"),
        (CAMERA + "title = '" + "a" * 20_000 + "'", "title' must be text of at most 10000"),
        (CAMERA + "title = '" + "a" * 101 + "'", "title must be at most 100 characters, got 101"),
        (CAMERA + "fps = true", "fps must be a positive number, got True"),
        (CAMERA + "timeout = true", "timeout must be a positive number, got True"),
        (CAMERA + "timeout = nan", "timeout must be a positive number"),
        (CAMERA + "zones = 'http://u:secret@c/zones.json'", "camera a: zones must be a path"),
        (CAMERA + "zones = 'http:/u:secret@c/zones.json'", "cannot read the zones"),
        ("folder = 'http://u:secret@c/'\n" + CAMERA, "folder must be a path"),
        (CAMERA + "[cameras.'rtsp://u:secret@c/']\nsource = 0", "a camera's name must be"),
        (CAMERA + "title = ['rtsp://u:secret@c/']", "title must be a text"),
        (CAMERA + "[cameras.A]\nsource = 1", "cameras a and A would write to one file"),
        (CAMERA + "[cameras.A-Minutes]\nsource = 1", "camera A-Minutes would write to a file of another"),
        (CAMERA + "[mqtt]\nhost = 'mqtt://u:secret@b'", "mqtt.host must be a name or an address alone"),
        (CAMERA + "[mqtt]\nhost = 'u:secret@b'", "mqtt.host must be a name or an address alone"),
        (CAMERA + "[mqtt]\nhost = ' '", "mqtt.host must be"),
        (CAMERA + "[mqtt]\nhost = ''", "mqtt.host must be"),
        (CAMERA + "[mqtt]\nhost = '" + "a" * 70 + "'", "mqtt.host must be"),
        (CAMERA + "[mqtt]\nhost = 'b'\nca = 'ftp://u:secret@c/ca.pem'", "mqtt.ca must be a path"),
    ],
)
def test_mistakes_are_told_without_passwords(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text), {})
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert "4711" not in str(error.value)


@pytest.mark.parametrize("password", ["secret\n", "secret\udce9", "secret\0", "secret" * 2000])
def test_variables_that_are_no_text(tmp_path: Path, password: str) -> None:
    text = CAMERA + "[mqtt]\nhost = 'b'\nusername = 'u'\npassword = '${PASSWORD}'"
    with pytest.raises(ConfigError, match="'the file: mqtt: password' must be text") as error:
        load_config(write(tmp_path, text), {"PASSWORD": password})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["homeassistant.local", "10.0.0.2", "::1", "fe80::1%eth0", "bücher.example", "b_1"])
def test_brokers_that_are_called_otherwise(tmp_path: Path, host: str) -> None:
    config = load_config(write(tmp_path, CAMERA + f"[mqtt]\nhost = '{host}'"), {})
    assert config.mqtt is not None
    assert config.mqtt.host == host


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the cameras in .*No such file"):
        load_config(tmp_path / "cameras.toml")
