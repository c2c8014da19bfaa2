"""A stream as motion JPEG: a picture element of any browser shows it."""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.serve.desk import until_gone
from engine.serve.streams import LiveStream

# Seconds after which a viewer who does not read is dropped, and between looks at whether it is still there.
_STALLED, _LOOK = 10.0, 1.0
BOUNDARY = "crowd-frame"
# Key of a request's scope, where our own server runs the application: it cuts the connection off.
ABORT = "crowd.abort"


class MotionJpeg(Response):
    """An answer that has each newest frame, to the end of the stream or of the viewer's patience.

    Args:
        viewers: has this answer until it has ended.
    """

    def __init__(self, stream: LiveStream, viewers: set[object]):
        super().__init__()
        self._stream, self._viewers = stream, viewers
        viewers.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await self._send_frames(send, gone)
        except TimeoutError:
            # Where another server runs this, it closes the connection in its own way.
            scope.get(ABORT, lambda: None)()
        finally:
            gone.cancel()
            self._viewers.discard(self)

    async def _send_frames(self, send: Send, gone: asyncio.Future[None]) -> None:
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}".encode()
        headers = [(b"content-type", kind), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # Browsers show a picture when they have the head of the next: it goes out with it, and cannot tell a length.
        next_head = f"\r\n--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
        await send({"type": "http.response.body", "body": next_head.lstrip(), "more_body": True})
        version = 0
        while not self._stream.closed and not gone.done():
            if await self._stream.newer(version, _LOOK) == version or self._stream.closed:
                continue
            version, jpeg = await run_in_threadpool(self._stream.jpeg)
            if not jpeg:
                continue
            part = {"type": "http.response.body", "body": jpeg + next_head, "more_body": True}
            await asyncio.wait_for(send(part), _STALLED)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
