"""Running streams, asked for over HTTP as a browser would."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import Asker, until

from engine.errors import ConfigError, EngineError
from engine.serve.app import create_app
from engine.serve.server import AppServer
from engine.serve.settings import ServeSettings
from engine.serve.streams import LiveStream, StreamRegistry

HEAD = b"--crowd-frame\r\nContent-Type: image/jpeg\r\n\r\n"
STATUS: dict[str, Any] = {"count": 3, "interval": [2, 4], "zones": {"gate": 1}, "dropped": 2}
# Large as JPEG, so that connections fill up.
NOISE = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)


def grey(level: int) -> np.ndarray:
    return np.full((16, 24, 3), level, np.uint8)


def level_of(data: bytes) -> int:
    return round(np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean())


@dataclass
class Page:
    ask: Asker
    server: AppServer
    stream: LiveStream
    streams: StreamRegistry
    responses: list[HTTPResponse] = field(default_factory=list)

    def watch(self) -> HTTPResponse:
        connection = HTTPConnection(self.ask.host, self.ask.port, timeout=20)
        # The answer closes the connection then, when it is closed.
        connection.request("GET", "/v1/streams/gate/live.mjpg", headers={"Connection": "close"})
        response = connection.getresponse()
        self.responses.append(response)
        if response.status == 200:
            assert response.read(len(HEAD)) == HEAD
        return response


@pytest.fixture
def page() -> Iterator[Page]:
    streams, settings = StreamRegistry(), ServeSettings(port=0)
    stream = streams.add("gate", "Gate <a> & b")
    with AppServer(create_app(None, settings, streams), settings) as server:
        page = Page(Asker(server.url), server, stream, streams)
        yield page
    for response in page.responses:
        response.close()


def next_frame(response: HTTPResponse) -> int:
    """Level of the next picture of the stream; the head of the one after came with it: browsers show it then."""
    data = b""
    while not data.endswith(b"\r\n" + HEAD):
        line = response.readline()
        assert line
        data += line
    return level_of(data.removesuffix(b"\r\n" + HEAD))


def test_the_newest_frame_and_its_numbers(page: Page) -> None:
    assert page.ask("/v1/streams/gate/frame.jpg").status == 503
    assert page.ask("/v1/streams/gate/snapshot").status == 503
    page.stream.publish(lambda: grey(10), {"count": 9})
    page.stream.publish(lambda: grey(200), STATUS, grey(90))
    reply = page.ask("/v1/streams/gate/frame.jpg?1")
    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.headers["cache-control"] == "no-store"
    assert level_of(reply.body) == pytest.approx(200, abs=2)
    expected = {"name": "gate", "title": "Gate <a> & b", "frames": 2, "dropped": 2, "status": STATUS}
    assert page.ask("/v1/streams/gate").json() == expected
    assert page.ask("/v1/streams").json() == [expected]
    snapshot = page.ask("/v1/streams/gate/snapshot").json()
    assert snapshot["status"] == STATUS
    assert level_of(base64.b64decode(snapshot["picture"])) == pytest.approx(90, abs=2)
    assert page.ask("/v1/streams/other").status == 404
    assert page.ask("/v1/model").json()["counts"] is False


def test_a_status_without_a_frame(page: Page) -> None:
    page.stream.publish(lambda: grey(10), STATUS)
    page.stream.report({"state": "the camera is lost"})
    assert page.ask("/v1/streams/gate").json()["status"] == {"state": "the camera is lost"}
    assert level_of(page.ask("/v1/streams/gate/frame.jpg").body) == pytest.approx(10, abs=2)


def test_a_frame_without_marks_has_its_own_numbers_though_the_camera_is_lost(page: Page) -> None:
    page.stream.publish(lambda: grey(10), STATUS, grey(90))
    page.stream.report({"state": "the camera is lost"})
    snapshot = page.ask("/v1/streams/gate/snapshot").json()
    assert snapshot["status"] == STATUS
    assert level_of(base64.b64decode(snapshot["picture"])) == pytest.approx(90, abs=2)


def test_metrics_of_streams(page: Page) -> None:
    page.stream.publish(lambda: grey(10), STATUS)
    page.stream.publish(lambda: grey(10), STATUS)
    page.streams.add("hall")
    lines = page.ask("/metrics").body.decode().splitlines()
    for line in (
        'crowd_stream_people{stream="gate"} 3.0',
        'crowd_stream_zone_people{stream="gate",zone="gate"} 1.0',
        'crowd_stream_frames_total{stream="gate"} 2.0',
        'crowd_stream_dropped_total{stream="gate"} 4.0',
        'crowd_stream_frames_total{stream="hall"} 0.0',
    ):
        assert line in lines
    assert not any(line.startswith('crowd_stream_people{stream="hall"}') for line in lines), "nothing is known yet"


def test_the_stream_has_each_frame_once_and_newest_only(page: Page) -> None:
    page.stream.publish(lambda: grey(10), {})
    response = page.watch()
    assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=crowd-frame"
    assert next_frame(response) == pytest.approx(10, abs=2)
    page.stream.publish(lambda: grey(60), {})
    assert next_frame(response) == pytest.approx(60, abs=2)
    # What is published while a viewer does not look is left out: the drawing holds the viewer up until three are there.
    started, release = threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        started.set()
        assert release.wait(20)
        return grey(90)

    page.stream.publish(slow, {})
    assert started.wait(20)
    for level in (120, 150, 180):
        page.stream.publish(lambda level=level: grey(level), {})
    release.set()
    assert next_frame(response) == pytest.approx(90, abs=2)
    assert next_frame(response) == pytest.approx(180, abs=2)


def test_pictures_are_drawn_once_for_all_viewers_and_not_for_nobody(page: Page) -> None:
    drawn: list[int] = []

    def draw(number: int) -> np.ndarray:
        drawn.append(number)
        return grey(1)

    page.stream.publish(lambda: draw(1), {})
    page.stream.publish(lambda: draw(2), {})
    assert drawn == []
    for _ in range(3):
        assert page.ask("/v1/streams/gate/frame.jpg").status == 200
    assert drawn == [2]


def test_a_viewer_who_does_not_read_holds_nobody_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.serve.motion._STALLED", 1.0)
    page.watch()
    viewer = page.watch()
    for number in range(20):
        page.stream.publish(lambda: NOISE, {})
        page.stream.publish(lambda number=number: grey(number * 10), {})
        while next_frame(viewer) != pytest.approx(number * 10, abs=2):
            continue
    # Also ends while the other one's connection is full.
    page.server.close()
    assert viewer.read() == b""


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_a_viewer_who_does_not_read_is_cut_off(page: Page, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    """Also one whose request was there before the answer to another one ended."""
    monkeypatch.setattr("engine.serve.motion._STALLED", 0.5)
    connections = page.server._server.server_state.connections
    stalled = page.ask.connect(before + b"GET /v1/streams/gate/live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    with stalled:
        until(lambda: len(connections) == 1)

        def is_cut() -> bool:
            page.stream.publish(lambda: NOISE, {})
            return not connections

        until(is_cut, 60)


def test_the_end_of_the_server_cuts_off_who_does_not_read(page: Page) -> None:
    page.server._server.config.timeout_graceful_shutdown = 1
    connections = page.server._server.server_state.connections
    with page.ask.connect(b"GET /v1/streams/gate/live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
        until(lambda: len(connections) == 1)
        (transport,) = (connection.transport for connection in connections)
        until(lambda: page.stream.publish(lambda: NOISE, {}) or transport.get_write_buffer_size(), 60)
        page.server.close()
        assert not connections


def test_the_end_of_the_server_ends_every_viewer(page: Page) -> None:
    responses = [page.watch() for _ in range(4)]
    page.stream.publish(lambda: grey(1), {})
    for response in responses:
        next_frame(response)
    page.server.close()
    page.server.close()
    for response in responses:
        assert response.read() == b""
    assert not any("crowd-serve" in thread.name for thread in threading.enumerate())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((page.ask.host, page.ask.port))


def test_the_end_of_a_stream_ends_its_viewers(page: Page) -> None:
    response = page.watch()
    page.stream.publish(lambda: grey(1), {})
    next_frame(response)
    page.stream.close()
    assert response.read() == b""
    assert page.ask("/v1/streams").json() == []


def test_too_many_viewers_are_sent_away_until_one_goes(page: Page) -> None:
    page.stream.publish(lambda: grey(1), {})
    viewers = [page.watch() for _ in range(16)]
    for viewer in viewers:
        next_frame(viewer)
    refused = page.ask("/v1/streams/gate/live.mjpg")
    assert refused.status == 503
    assert "16 viewers" in refused.json()["detail"]
    assert page.ask("/v1/streams/gate/frame.jpg").status == 200
    viewers[0].close()

    def has_room() -> bool:
        response = page.watch()
        response.close()
        return response.status == 200

    until(has_room)


def test_the_head_of_a_stream_has_an_end(page: Page) -> None:
    page.stream.publish(lambda: grey(9), STATUS)
    # More than there may be viewers.
    for _ in range(20):
        head = page.ask("/v1/streams/gate/live.mjpg", method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-type"].startswith("multipart/x-mixed-replace")


def test_a_drawing_that_fails_is_told_to_the_publisher_once(page: Page) -> None:
    def fail() -> np.ndarray:
        raise MemoryError("no room")

    page.stream.publish(fail, {})
    assert page.ask("/v1/streams/gate/frame.jpg").status == 503
    with pytest.raises(EngineError, match="no room"):
        page.stream.publish(lambda: grey(100), {"count": 7})
    # That frame is shown, and so are those after it.
    for level in (100, 200):
        assert level_of(page.ask("/v1/streams/gate/frame.jpg").body) == pytest.approx(level, abs=2)
        page.stream.publish(lambda: grey(200), {"count": 8})
    stream = page.ask("/v1/streams/gate").json()
    assert (stream["frames"], stream["status"]) == (4, {"count": 8})


def test_names_of_streams() -> None:
    streams = StreamRegistry()
    for name in ("", "a b", "a/b", "../a", "a" * 65, "-a", 'a"'):
        with pytest.raises(ConfigError, match="a stream's name must be"):
            streams.add(name)
    assert streams.add("a.B-1_").title == "a.B-1_"
    with pytest.raises(ConfigError, match="two streams called 'a'"):
        streams.add("a") and streams.add("a")


def test_ports(page: Page) -> None:
    settings = ServeSettings(port=page.ask.port)
    with pytest.raises(EngineError, match=r"port .*: .*; try another"):
        AppServer(create_app(None, settings), settings)


def test_publishing_waits_for_nobody(page: Page) -> None:
    for _ in range(8):
        page.watch()
    start = time.perf_counter()
    for _ in range(1000):
        page.stream.publish(lambda: grey(1), STATUS)
    # Eight watchers who never read would hold it up without end.
    assert time.perf_counter() - start < 60
