"""What a client still sends is read before an error is answered."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.serve.settings import ServeSettings

# Seconds that the rest of a body may take.
_REST = 5.0


class ReadToEnd:
    """ASGI middleware: reads the rest of a request's body, for a moment and within the limit, before an error is sent.

    A client that is still sending reads the answer only then. The server ends the connection of a body that was not
    read to its end, and a proxy such as nginx then answers 502 in place of what was wrong.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        # A body that is announced as too large is not read.
        more = not announced.isdecimal() or int(announced) <= self._settings.max_bytes

        async def receive_noted() -> Message:
            nonlocal more
            message = await receive()
            more = message.get("more_body", False)
            return message

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                left = self._settings.max_bytes
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(_REST, self._settings.timeout)):
                        while more and left > 0:
                            left -= len((await receive_noted()).get("body", b""))
            await send(message)

        await self._app(scope, receive_noted, send_late)
