"""The live page, asked over HTTP as a browser would."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import numpy as np
import pytest
from PIL import Image

from engine.errors import ConfigError, EngineError
from engine.outputs.page import LivePage


def grey(level: int) -> np.ndarray:
    return np.full((16, 24, 3), level, np.uint8)


@pytest.fixture
def page() -> Iterator[LivePage]:
    with LivePage(title="crowd: <a> & b") as page:
        yield page


def ask(page: LivePage, path: str, host: str | None = None, method: str = "GET") -> HTTPResponse:
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Host": host} if host else {})
    return connection.getresponse()


def next_frame(response: HTTPResponse) -> int:
    """Level of the next picture of the stream."""
    assert response.fp.readline() == b"--crowd-frame\r\n"
    assert response.fp.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(response.fp.readline().removeprefix(b"Content-Length: "))
    assert response.fp.readline() == b"\r\n"
    data = response.fp.read(length)
    assert response.fp.read(2) == b"\r\n"
    return round(np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean())


def test_the_page_loads_nothing_from_elsewhere(page: LivePage) -> None:
    response = ask(page, "/")
    text = response.read().decode()
    assert response.status == 200
    assert "<title>crowd: &lt;a&gt; &amp; b</title>" in text
    assert "//" not in re.sub(r"<!.*?>", "", text), "no address, not even in a comment"
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src 'self'; connect-src 'self'")
    nonces = set(re.findall(r'nonce="([^"]+)"', text)) | set(re.findall(r"nonce-([^']+)'", policy))
    assert len(nonces) == 1
    assert response.headers["Cache-Control"] == "no-store"


def test_the_newest_frame(page: LivePage) -> None:
    assert ask(page, "/frame.jpg").status == 503
    page.publish(lambda: grey(10), {"count": 3})
    page.publish(lambda: grey(200), {"count": 4, "zones": {"gate": 1}})
    response = ask(page, "/frame.jpg?1")
    assert response.headers["Content-Type"] == "image/jpeg"
    assert np.asarray(Image.open(io.BytesIO(response.read()))).mean() == pytest.approx(200, abs=2)
    assert json.loads(ask(page, "/status.json").read()) == {"count": 4, "zones": {"gate": 1}}


def test_the_stream_has_each_frame_once_and_newest_only(page: LivePage) -> None:
    page.publish(lambda: grey(10))
    response = ask(page, "/stream.mjpg")
    assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=crowd-frame"
    assert next_frame(response) == pytest.approx(10, abs=2)
    page.publish(lambda: grey(60))
    assert next_frame(response) == pytest.approx(60, abs=2)
    # What is published while a viewer does not look is left out: the drawing holds the viewer up until three are there.
    started, release = threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        started.set()
        assert release.wait(20)
        return grey(90)

    page.publish(slow)
    assert started.wait(20)
    for level in (120, 150, 180):
        page.publish(lambda level=level: grey(level))
    release.set()
    assert next_frame(response) == pytest.approx(90, abs=2)
    assert next_frame(response) == pytest.approx(180, abs=2)


def test_pictures_are_drawn_once_for_all_viewers_and_not_for_nobody(page: LivePage) -> None:
    drawn = []
    page.publish(lambda: drawn.append(1) or grey(1))  # type: ignore[func-returns-value]
    page.publish(lambda: drawn.append(2) or grey(1))  # type: ignore[func-returns-value]
    assert drawn == []
    for _ in range(3):
        assert ask(page, "/frame.jpg").status == 200
    assert drawn == [2]


def test_a_viewer_who_does_not_read_holds_nobody_up() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    page = LivePage()
    ask(page, "/stream.mjpg")
    viewer = ask(page, "/stream.mjpg")
    for number in range(20):
        page.publish(lambda: noise)
        page.publish(lambda number=number: grey(number * 10))
        while True:
            level = next_frame(viewer)
            if level == pytest.approx(number * 10, abs=2):
                break
    # Also closes while the other one's connection is full.
    page.close()
    page.close()
    assert viewer.fp.read() == b""


def test_closing_ends_every_thread(page: LivePage) -> None:
    responses = [ask(page, "/stream.mjpg") for _ in range(4)]
    page.publish(lambda: grey(1))
    for response in responses:
        next_frame(response)
    url = page.url
    page.close()
    for response in responses:
        assert response.fp.read() == b""
    limit = time.monotonic() + 20
    while any("crowd-page" in t.name or "process_request_thread" in t.name for t in threading.enumerate()):
        assert time.monotonic() < limit
        time.sleep(0.01)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/"))))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "crowd.localhost"])
def test_other_names_for_this_machine_are_refused(page: LivePage, host: str) -> None:
    assert ask(page, "/frame.jpg", host).status == 403
    port = page.url.rsplit(":", 1)[1].strip("/")
    assert ask(page, "/", f"localhost:{port}").status == 200


def test_only_the_loopback_address_is_served(page: LivePage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    assert page._server.socket.getsockname()[0] == "127.0.0.1"


def test_other_requests(page: LivePage) -> None:
    assert ask(page, "/../etc/passwd").status == 404
    assert ask(page, "/", method="POST").status == 501
    with socket.create_connection(("127.0.0.1", page._server.server_address[1])) as viewer:
        viewer.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert b"400" in viewer.recv(1000)


def test_too_many_viewers_are_sent_away(page: LivePage) -> None:
    page.publish(lambda: grey(1))
    viewers = [ask(page, "/stream.mjpg") for _ in range(16)]
    for viewer in viewers:
        next_frame(viewer)
    assert ask(page, "/frame.jpg").status == 503


def test_a_drawing_that_fails_is_told_to_the_publisher(page: LivePage) -> None:
    def fail() -> np.ndarray:
        raise ValueError("no picture")

    page.publish(fail)
    assert ask(page, "/frame.jpg").status == 503
    with pytest.raises(EngineError, match="no picture"):
        page.publish(lambda: grey(1))


def test_ports(page: LivePage) -> None:
    with pytest.raises(EngineError, match=r"port .*; try another"):
        LivePage(int(page.url.rsplit(":", 1)[1].strip("/")))
    for port in (-1, 65536):
        with pytest.raises(ConfigError, match="65535"):
            LivePage(port)
