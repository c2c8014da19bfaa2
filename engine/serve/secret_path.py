"""A secret in the address: for servers that any user of this machine could ask."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.serve.problems import problem


class SecretPath:
    """ASGI middleware: the application lies below a secret first part of the path, and nothing lies elsewhere.

    Other than a cookie, it lets a browser use several servers of one machine at once.
    """

    def __init__(self, app: ASGIApp, secret: str):
        self._app, self._secret = app, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        first, slash, _ = scope["path"].removeprefix("/").partition("/")
        if slash and hmac.compare_digest(first.encode(), self._secret.encode()):
            await self._app({**scope, "root_path": f"/{first}"}, receive, send)
            return
        message = "there is nothing here; open the whole address that the command said, with its secret"
        await problem(HTTPStatus.NOT_FOUND, message, "HTTPError")(scope, receive, send)
