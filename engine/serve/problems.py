"""Errors as problem documents (RFC 9457): the engine's own message, without the paths of this machine."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from engine.errors import ConfigError, EngineError, ImageError
from engine.serve.metrics import Metrics

_log = logging.getLogger("engine")
MEDIA_TYPE = "application/problem+json"
# Seconds after which it may be tried again when the server is full.
_RETRY_AFTER = "1"
# Absolute paths, up to the next space, quote or colon: of Unix, of a drive of Windows, and of its shares. Backslashes
# alone are those of bytes in a text; Python's own texts have those of paths twice.
_NAME = r"[^\s/\\'\":;,]+"
_PATH = re.compile(
    rf"(?<![\w/])(?:/{_NAME}){{2,}}"
    rf"|(?<![\w/\\])[A-Za-z]:(?:[/\\]{{1,2}}{_NAME}){{2,}}"
    rf"|(?<!\S)\\\\{_NAME}(?:\\{_NAME})+"
    rf"|(?<=['\"])\\{{4}}{_NAME}(?:\\\\{_NAME})+"
)


class BusyError(EngineError):
    """The server has as many requests as it may hold."""


class BodyError(EngineError):
    """A request's body is too large, comes too slowly or is of a wrong kind.

    Args:
        status: of the answer.
    """

    def __init__(self, message: str, status: HTTPStatus):
        super().__init__(message)
        self.status = status


class ClientGoneError(Exception):
    """Whoever asked has gone away: nobody reads an answer."""


def without_paths(message: str) -> str:
    r"""A message of the engine, with the names of files in place of their paths.

    >>> without_paths("cannot read /srv/models/a b: no such file; /srv/models/x.onnx is damaged")
    'cannot read a b: no such file; x.onnx is damaged'
    >>> without_paths(r"C:\Users\me\x.onnx is damaged: it begins with b'\x12\x19\x80hello'")
    "x.onnx is damaged: it begins with b'\\x12\\x19\\x80hello'"
    """
    return _PATH.sub(lambda match: re.split(r"[/\\]", match[0])[-1], message)


def problem(status: int, detail: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    """A problem document; ``kind`` is the class of the error, for programs."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # Names may hold what no text can: half of a pair of UTF-16.
        "detail": without_paths(detail).encode("utf-8", "backslashreplace").decode(),
        "kind": kind,
    }
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def _status_of(error: EngineError) -> int:
    if isinstance(error, BodyError):
        return error.status
    if isinstance(error, BusyError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, ConfigError):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, ImageError) else HTTPStatus.INTERNAL_SERVER_ERROR


def answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Make ``app`` answer every error with a problem document, and count it."""

    @app.exception_handler(EngineError)
    async def engine_error(_: Request, error: EngineError) -> Response:
        status, kind = _status_of(error), type(error).__name__
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a request failed: %s", error)
        metrics.errors.labels(kind).inc()
        return problem(status, str(error), kind, {"Retry-After": _RETRY_AFTER} if status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        metrics.errors.labels("ConfigError").inc()
        details = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        return problem(HTTPStatus.BAD_REQUEST, details, "ConfigError")

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), "HTTPError", dict(error.headers or {}))

    @app.exception_handler(ClientGoneError)
    async def gone(_: Request, __: ClientGoneError) -> Response:
        metrics.errors.labels("ClientGone").inc()
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    # The server logs the traceback.
    @app.exception_handler(Exception)
    async def defect(_: Request, __: Exception) -> Response:
        metrics.errors.labels("Defect").inc()
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why", "Defect")
