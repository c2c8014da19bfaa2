"""``crowd watch`` on cameras of this machine, with its page; and no password anywhere."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from serving import PICTURE, Asker, until

from engine.cli import main

av = pytest.importorskip("av", reason="cameras need the extra 'video'")
pytest.importorskip("fastapi", reason="the page needs the extra 'serve'")

SECRET = "t0psecret"


class Handler(BaseHTTPRequestHandler):
    """A camera that answers with one picture, to those who know its password."""

    picture = b""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if not self.headers.get("Authorization", "").startswith("Basic "):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[str]:
    Image.open(PICTURE).convert("RGB").resize((384, 288)).save(tmp_path / "small.jpg")
    Handler.picture = (tmp_path / "small.jpg").read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://user:{SECRET}@127.0.0.1:{server.server_port}/snapshot.jpg"
        server.shutdown()
        thread.join()


def test_cameras_on_the_page_and_no_password_anywhere(camera: str, tmp_path: Path) -> None:
    (tmp_path / "left.json").write_text(
        '{"unit": "fractions", "zones": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}}'
    )
    (tmp_path / "cameras.toml").write_text(
        f'folder = "out"\n[cameras.gate]\nsource = "{camera}"\nevery = 0.2\n'
        'zones = "left.json"\nalerts = ["left=1:0"]\n'
        f'[cameras.lost]\nsource = "rtsp://user:{SECRET}@127.0.0.1:1/live?pwd={SECRET}"\n'
    )
    command = [sys.executable, "-P", "-c", "from engine.cli import run; run()", "watch", str(tmp_path / "cameras.toml")]
    log = tmp_path / "log"
    with open(log, "w") as stream:
        options = ["--serve", "--port", "0", "--threads", "1", "--steps", "1", "--log-level", "info"]
        process = subprocess.Popen([*command, *options], stdout=stream, stderr=stream)
    try:
        until(lambda: " at http" in log.read_text() or process.poll() is not None, 60)
        ask = Asker(log.read_text().split(" at ")[1].split()[0])
        until(lambda: ask("/v1/streams/gate").json()["frames"] >= 3, 60)
        until(lambda: "127.0.0.1:1" in ask("/v1/streams/lost").json()["status"]["state"], 60)
        streams, metrics = ask("/v1/streams").body.decode(), ask("/metrics").body.decode()
        gate = ask("/v1/streams/gate").json()["status"]
        assert gate["file"] == "gate"
        assert gate["alerts"] == ["left"]
        assert 0 < gate["zones"]["left"] < gate["count"]
        assert f'crowd_stream_people{{stream="gate"}} {gate["count"]}.0' in metrics
        assert ask("/v1/streams/gate/frame.jpg").body.startswith(b"\xff\xd8")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143, log.read_text()
    said = log.read_text()
    with open(tmp_path / "out" / "gate.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["count"] for row in rows} == {str(gate["count"])}
    assert all(row["time"].endswith("Z") for row in rows)
    with open(tmp_path / "out" / "gate-minutes.csv", newline="") as file:
        assert sum(int(row["frames"]) for row in csv.DictReader(file)) == len(rows)
    assert "gate: left: alert on" in said
    assert "Traceback" not in said
    files = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert SECRET not in said + streams + metrics + files + json.dumps(gate)


def test_recordings_are_counted_to_their_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (64, 48)).save(tmp_path / name / f"{number}.jpg")
    text = "".join(f'[cameras.{name}]\nsource = "{name}"\n' for name in ("a", "b"))
    (tmp_path / "cameras.toml").write_text(f'folder = "."\n{text}')
    assert main(["watch", str(tmp_path / "cameras.toml"), "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert "a 20" in printed.out
    for name in ("a", "b"):
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(("host", "is_told"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_page_for_other_machines_that_is_not_encrypted_is_told(
    host: str, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "a" / "0.jpg")
    (tmp_path / "cameras.toml").write_text('[cameras.a]\nsource = "a"\n')
    monkeypatch.setenv("CROWD_TOKEN", "a token of enough letters")
    assert (
        main(["watch", str(tmp_path / "cameras.toml"), "--threads", "1", "--serve", "--port", "0", "--host", host]) == 0
    )
    assert ("sent in the clear" in capsys.readouterr().err) == is_told


def test_mistakes_are_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cameras.toml"
    assert main(["watch", str(file)]) == 2
    assert "cannot read the cameras" in capsys.readouterr().err
    for option in ("host", "port", "token-file", "tls-cert", "tls-key", "name"):
        assert main(["watch", str(file), f"--{option}", "0"]) == 2
        assert f"--{option} needs --serve, and changes nothing without it" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    file.write_text(f'folder = "file/counts"\n[cameras.a]\nsource = "rtsp://u:{SECRET}@c/"\n')
    assert main(["watch", str(file)]) == 2
    said = capsys.readouterr().err
    assert "cannot make the folder" in said
    assert SECRET not in said
