"""The addresses of running streams."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from engine.serve.answers import StreamAnswer, problems
from engine.serve.motion import MotionJpeg
from engine.serve.problems import BusyError
from engine.serve.streams import LiveStream, StreamRegistry

_MOST_VIEWERS = 16
# As 4XX and not 404: else FastAPI adds a description of its own 422, which is never sent.
_UNKNOWN = problems({"4XX": "there is no such stream"})
_PROBLEMS = {**_UNKNOWN, **problems({503: "there is no frame yet, or there are too many viewers"})}


def add(app: FastAPI, streams: StreamRegistry) -> None:
    """Add the addresses to the application."""
    _add_numbers(app, streams)
    _add_pictures(app, streams)


def _find(streams: StreamRegistry, name: str) -> LiveStream:
    stream = streams.get(name)
    if stream is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no stream {name!r:.80}")
    return stream


def _add_numbers(app: FastAPI, streams: StreamRegistry) -> None:
    @app.get("/v1/streams", summary="The running streams, and what was counted in the newest frame of each")
    async def read_streams() -> list[StreamAnswer]:
        return [_answer(stream) for stream in streams.running() if not stream.closed]

    @app.get("/v1/streams/{name}", summary="A running stream", responses=_UNKNOWN)
    async def read_stream(name: str) -> StreamAnswer:
        return _answer(_find(streams, name))


def _add_pictures(app: FastAPI, streams: StreamRegistry) -> None:
    viewers: set[object] = set()

    @app.get(
        "/v1/streams/{name}/frame.jpg",
        summary="The newest frame, with the people drawn on it",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, **_PROBLEMS},
    )
    async def frame(name: str) -> Response:
        _, jpeg = await run_in_threadpool(_find(streams, name).jpeg)
        if not jpeg:
            raise BusyError("there is no frame yet; try again in a second")
        return Response(jpeg, media_type="image/jpeg")

    @app.get(
        "/v1/streams/{name}/snapshot",
        summary="The newest frame without marks (JPEG, base64), and its numbers",
        responses=_PROBLEMS,
    )
    async def snapshot(name: str) -> dict[str, Any]:
        stream = _find(streams, name)
        taken = await run_in_threadpool(stream.snapshot)
        if taken is None:
            raise BusyError("there is no frame yet, or it lies on a GPU; try again in a second")
        return {"title": stream.title, "picture": base64.b64encode(taken[0]).decode(), "status": taken[1]}

    @app.get(
        "/v1/streams/{name}/live.mjpg",
        summary="The stream as motion JPEG",
        response_class=Response,
        responses={200: {"content": {"multipart/x-mixed-replace": {}}}, **_PROBLEMS},
    )
    async def live(name: str) -> Response:
        stream = _find(streams, name)
        if len(viewers) >= _MOST_VIEWERS:
            raise BusyError(f"there are {_MOST_VIEWERS} viewers already; close another page")
        return MotionJpeg(stream, viewers)


def _answer(stream: LiveStream) -> StreamAnswer:
    return StreamAnswer(
        name=stream.name,
        title=stream.title,
        frames=stream.frames,
        dropped=stream.dropped,
        status=dict(stream.status),
    )
