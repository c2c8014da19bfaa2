"""Asks a server over HTTP, byte by byte where it matters, and counts at the word of a test."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine import CrowdCounter

PICTURE = Path(__file__).parents[1] / "examples" / "pictures" / "images" / "pedestrians.jpg"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Asker:
    """Requests to one server, each on a connection of its own."""

    def __init__(self, url: str):
        self.url = url
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        # Before each path, where the server lies below one.
        self._base = urlsplit(url).path.rstrip("/")

    def __call__(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Reply:
        connection = HTTPConnection(self.host, self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), self._base + path, body, named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def count(self, picture: bytes, query: str = "", **headers: str) -> Reply:
        return self(f"/v1/count{query}", picture, Content_Type="application/octet-stream", **headers)

    def form(self, picture: bytes | None, fields: list[tuple[str, str]], **headers: str) -> Reply:
        parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields]
        if picture is not None:
            head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../etc/a.jpg"\r\n\r\n'
            parts.append(head + picture + b"\r\n")
        body = b"".join(parts) + b"--x--\r\n"
        return self("/v1/count", body, Content_Type="multipart/form-data; boundary=x", **headers)

    def connect(self, data: bytes) -> socket.socket:
        """A connection on which ``data`` was sent."""
        connection = socket.create_connection((self.host, self.port), timeout=60)
        connection.sendall(data)
        return connection


def started_servers() -> Iterator[Callable[..., Asker]]:
    """Starts a server with a counter, settings and what else the application takes, and ends it; for a fixture."""
    from engine.serve.app import create_app
    from engine.serve.server import AppServer
    from engine.serve.settings import ServeSettings

    servers: list[AppServer] = []

    def start(counter: Any, settings: ServeSettings | None = None, **parts: Any) -> Asker:
        settings = settings or ServeSettings(port=0)
        server = AppServer(create_app(counter, settings, **parts), settings)
        servers.append(server.__enter__())
        return Asker(server.url)

    yield start
    for server in servers:
        server.close()


class GatedCounter:
    """Counts as another counter does, but waits at a gate before each picture; for tests of queues.

    Attributes:
        started: pictures whose count began.
    """

    def __init__(self, counter: CrowdCounter):
        self._counter, self.gate, self.started = counter, threading.Semaphore(0), 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._counter, name)

    @property
    def parallel(self) -> int:
        return 1

    def count(self, image: Any, **options: Any) -> Any:
        with self._lock:
            self.started += 1
        assert self.gate.acquire(timeout=60)
        return self._counter.count(image, **options)

    def open(self, pictures: int = 1000) -> None:
        self.gate.release(pictures)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)
