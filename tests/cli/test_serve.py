"""``crowd serve`` and ``crowd zones``, as processes."""

from __future__ import annotations

import io
import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import PICTURE, Asker, until
from stand_in_counter import crowd


class Process:
    """A command that serves, and what it says."""

    def __init__(self, arguments: tuple[str, ...], log: Path):
        # The console script: it ends as users know it, also by SIGTERM.
        command = [sys.executable, "-P", "-c", "from engine.cli import run; run()", *arguments]
        self.log = log
        with open(log, "w") as stream:
            self.popen = subprocess.Popen(command, stderr=stream)
        until(lambda: " at http" in log.read_text() or self.popen.poll() is not None, 60)
        said = log.read_text()
        assert " at http" in said, said
        self.ask = Asker(said.split(" at ")[1].split()[0].rstrip(",;"))

    def end(self, number: int = signal.SIGTERM) -> str:
        """What it said; a server has no other end than a signal, and its status is 0 then."""
        self.popen.send_signal(number)
        assert self.popen.wait(60) == 0, self.log.read_text()
        said = self.log.read_text()
        assert "Traceback" not in said
        return said


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Process] = []

    def launch(*arguments: str) -> Process:
        running.append(Process(arguments, tmp_path / "log"))
        return running[-1]

    yield launch
    for process in running:
        process.popen.kill()
        process.popen.wait()


def test_it_counts_and_finishes_what_runs(start: Start) -> None:
    process = start("serve", "--port", "0", "--threads", "1")
    ask = process.ask
    assert ask("/readyz").status == 200
    assert b"<title>Crowd</title>" in ask("/").body
    picture = PICTURE.read_bytes()
    expected = ask.count(picture).json()["count"]
    with ThreadPoolExecutor(3) as pool:
        # Some seconds of steps: one is counted and two wait when the signal comes.
        replies = [pool.submit(ask.count, picture, "?steps=32") for _ in range(3)]
        until(lambda: "crowd_waiting_requests 2.0" in ask("/metrics").body.decode())
        said = process.end()
        assert [reply.result().status for reply in replies] == [200] * 3
    assert expected > 0
    assert said.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_memory_is_flat(start: Start) -> None:
    process = start("serve", "--port", "0", "--threads", "1")
    file = io.BytesIO()
    Image.open(PICTURE).resize((64, 64)).save(file, "JPEG")

    def resident() -> int:
        lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def ask(requests: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            statuses = set(pool.map(lambda _: process.ask.count(file.getvalue()).status, range(requests)))
        assert statuses == {200}

    ask(300)
    before = resident()
    ask(1200)
    assert resident() - before < 6 * 1024, "KiB"
    process.end()


def test_a_token_and_limits(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of enough letters\n")
    options = ["--host", "0.0.0.0", "--token-file", str(tmp_path / "token"), "--max-megapixels", "0.1"]
    process = start("serve", "--port", "0", *options)
    ask = Asker(f"http://127.0.0.1:{process.ask.port}/")
    assert ask("/v1/model").status == 401
    model = ask("/v1/model", Authorization="Bearer a token of enough letters").json()
    assert model["max_pixels"] == 100_000
    assert "sent in the clear" in process.end(signal.SIGINT)


def test_a_name_without_a_token_is_told(start: Start) -> None:
    """A proxy is on this machine, and its clients are not."""
    said = start("serve", "--port", "0", "--name", "count.example.org").end(signal.SIGINT)
    assert "clients that ask for count.example.org need no token: set CROWD_TOKEN" in said


def test_tls(start: Start, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    process = start("serve", "--port", "0", "--tls-cert", str(cert), "--tls-key", str(key))
    ask = process.ask
    assert ask.url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"https://localhost:{ask.port}/healthz", context=trust) as answer:
        assert answer.read() == b"ok\n"
    process.end()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--port", "70000"], "port must be"),
        (["--token-file", "none"], "cannot read the token"),
        (["--tls-cert", "none"], "both --tls-cert and --tls-key"),
        (["--max-mib", "0"], "--max-mib must be a positive number"),
        (["--waiting", "0"], "waiting must be"),
        (["--timeout", "nan"], "timeout"),
    ],
)
def test_wrong_options(options: list[str], words: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROWD_TOKEN", raising=False)
    assert crowd("serve", *options) == 2
    assert words in capsys.readouterr().err


def test_without_the_extra(tmp_path: Path) -> None:
    for command in (["serve"], ["zones", str(PICTURE), "--out", str(tmp_path / "zones.json")]):
        program = "import sys; sys.modules['fastapi'] = None; from engine.cli import main; sys.exit(main(sys.argv[1:]))"
        run = subprocess.run(
            [sys.executable, "-P", "-c", program, *command], capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        assert "pip install 'crowd-engine[serve]'" in run.stderr


def test_zones_on_a_picture(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "gate.json"
    process = start("zones", str(PICTURE), "--out", str(out))
    ask = process.ask
    # The address has a secret, which other users of this machine do not know.
    assert len(ask.url.split("/")[3]) >= 24
    assert Asker(f"http://127.0.0.1:{ask.port}/")("/v1/zone-file").status == 404
    assert ask("/v1/zone-file").json() == {"name": "gate.json", "title": "pedestrians.jpg", "layout": None}
    assert ask("/v1/zone-file/picture").body == PICTURE.read_bytes()
    assert ask.count(PICTURE.read_bytes()).status == 200
    layout = {"zones": {"gate": [[0, 0], [90, 0], [90, 90]]}, "lines": {"door": [[0, 0], [90, 0]]}}
    assert ask("/v1/zone-file", json.dumps(layout).encode(), method="PUT").status == 200
    assert json.loads(out.read_text()) == layout
    assert f"saved {out}: 1 zone, 1 line" in process.end(signal.SIGINT)


def test_zones_on_the_first_of_a_folder(start: Start, tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(np.full((60, 80, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    process = start("zones", str(tmp_path), "--out", str(tmp_path / "zones.json"))
    ask = process.ask
    assert ask("/v1/zone-file").json()["title"] == tmp_path.name
    assert np.asarray(Image.open(io.BytesIO(ask("/v1/zone-file/picture").body))).max() == 1
    process.end()


def test_zones_on_nothing(capsys: Any, tmp_path: Path) -> None:
    assert crowd("zones", str(tmp_path / "none.jpg"), "--out", str(tmp_path / "zones.json")) == 1
    assert "does not exist" in capsys.readouterr().err
    assert crowd("zones", str(PICTURE), "--out", str(tmp_path / "zones.jpg")) == 2
