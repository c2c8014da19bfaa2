"""Errors that are answered while the client still sends."""

from __future__ import annotations

from typing import Any

import pytest
from serving import Asker

from engine.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("request_line", "host", "status"),
    [
        ("POST /v1/count?colour=red", "localhost", 400),
        ("POST /v1/count", "localhost\r\nOrigin: http://evil.example", 403),
        ("POST /v1/cuont", "localhost", 404),
        ("POST /v1/model", "localhost", 405),
        ("POST /v1/count", "evil.example", 421),
    ],
)
def test_who_sends_to_the_end_gets_the_reason(shared: Asker, request_line: str, host: str, status: int) -> None:
    """As nginx does, which says 502 where the connection ends under what it sends."""
    size = 3 << 20
    head = f"{request_line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    with shared.connect(head.encode()) as connection:
        connection.sendall(bytes(size))
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.endswith(b"}")


def test_what_does_not_come_is_not_waited_for(serve: Any) -> None:
    ask = serve(None, ServeSettings(port=0, timeout=0.5))
    head = b"POST /v1/model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nslow"
    with ask.connect(head) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 405 ")
