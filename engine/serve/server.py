"""Runs the application: in the foreground, or in a thread beside something else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from engine.errors import EngineError
from engine.serve.motion import ABORT
from engine.serve.settings import ServeSettings

# Seconds that the head of a request may take to come; that a connection may stay without a request; and that what runs
# may take when the server ends.
_HEAD, _IDLE, _END = 10.0, 15, 30
# Connections; beyond them, 503. And those that wait to be accepted.
_MOST_CONNECTIONS, _BACKLOG = 1000, 512


class _Connection(H11Protocol):
    """A connection whose requests' heads must come in time: uvicorn itself would wait without end.

    The application may cut it off, as ``scope[ABORT]()``.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        # uvicorn's types do not say that there is none at first.
        before: RequestResponseCycle | None = self.cycle
        if self._head_timer is None and (before is None or before.response_complete):
            self._expect_head()
        super().data_received(data)

    def handle_events(self) -> None:
        # Called for what was received, and at the end of an answer for a request that came before that.
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_timer()
            # The application begins after this. A closed connection stays as long as somebody does not read its end.
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]):
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Streams have no end of their own.
        self._ending()
        await super().shutdown(sockets)
        # Those whose clients do not read would stay open until they are collected.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # They are told of it at the next turn.
        await asyncio.sleep(0)


class AppServer:
    """A listening socket and the server behind it; a context manager that runs it in a thread.

    Args:
        app: of :func:`engine.serve.app.create_app`, with the same settings.
        settings: where it listens.

    Raises:
        EngineError: the address cannot be had.
    """

    def __init__(self, app: FastAPI, settings: ServeSettings):
        self._settings = settings
        self._socket = _listen(settings)
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            log_config=None,
            # Else any stranger's nonsense would be a line in the log.
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=_END,
            limit_concurrency=_MOST_CONNECTIONS,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        try:
            config.load()
        except OSError as error:
            self._socket.close()
            raise EngineError(f"the certificate or its key cannot be used: {error}") from error
        self._server = _Server(config, app.state.streams.close)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="crowd-serve", daemon=True
        )

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self._socket.getsockname()[:2]
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
        place = f"{f'[{shown}]' if ':' in shown else shown}:{port}/"
        secret = f"{self._settings.secret_path}/" if self._settings.secret_path else ""
        return f"{self._settings.scheme}://{place}{secret}"

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, and then finish what runs."""
        # Raised again by uvicorn, when all is done.
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run([self._socket])

    def close(self) -> None:
        """End the server that runs in a thread; closing twice is harmless."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> AppServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            # On Windows that would let another program take over the port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name != "nt")
            listening.bind(address)
            listening.listen(_BACKLOG)
            stack.pop_all()
            return listening
    except OSError as error:
        reason = error.strerror or error
        raise EngineError(f"cannot listen on {settings.host}, port {settings.port}: {reason}; try another") from error
