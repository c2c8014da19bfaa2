"""A running server, asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from serving import PICTURE, Asker, started_servers

from engine import CrowdCounter
from engine.serve.app import create_app
from engine.serve.server import AppServer
from engine.serve.settings import ServeSettings

Serve = Callable[..., Asker]


@pytest.fixture(scope="session")
def counter() -> Iterator[CrowdCounter]:
    with CrowdCounter(performance="throughput", cpu_threads=2) as counter:
        yield counter


@pytest.fixture(scope="session")
def picture() -> bytes:
    return PICTURE.read_bytes()


serve = pytest.fixture(started_servers, name="serve")


@pytest.fixture(scope="module")
def shared(counter: CrowdCounter) -> Iterator[Asker]:
    """One server for the tests that leave nothing behind."""
    settings = ServeSettings(port=0, timeout=20, max_bytes=4 << 20, max_pixels=4_000_000)
    with AppServer(create_app(counter, settings), settings) as server:
        yield Asker(server.url)
