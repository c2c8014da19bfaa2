"""Who may ask: the checks of every request before the application sees it, and the sign-in of browsers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.serve.problems import problem
from engine.serve.settings import ServeSettings

COOKIE = "crowd_session"
_SESSION_SECONDS = 30 * 24 * 3600
# What says nothing of pictures, or is needed to sign in.
_OPEN_PATHS = {"/healthz", "/readyz", "/signin", "/page/style.css", "/page/icon.svg", "/favicon.ico"}
_MOST_FORM, _FORM_SECONDS = 4096, 10.0
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    # With no referrer at all, browsers would send forms without their origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Gate:
    """ASGI middleware: refuses other hosts' names, other sites' requests, and requests without the token.

    A program sends the token as ``Authorization: Bearer TOKEN``. A browser signs in once, and has a cookie that says
    until when, signed with the token: it does not hold the token, no script reads it, and another server with the same
    token takes it too.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or await self._sign_in(scope, receive)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), _path(scope)
        hosts = headers.getlist("host")
        # A header that is there twice may be read in two ways.
        if len(hosts) != 1 or not self._settings.is_own_name(_name(hosts[0])):
            host = hosts[0] if hosts else ""
            message = f"this server is not called {host!r:.80}; ask for its address, or start it with --name"
            return problem(HTTPStatus.MISDIRECTED_REQUEST, message, "HostError")
        if not _is_same_site(scope, headers, hosts[0]):
            message = "other sites may not use this server"
            if origin := headers.get("origin"):
                message += (
                    f": a page of {origin!r:.80} asked for {hosts[0]!r:.80}; a proxy has to pass on the header Host as "
                    "its clients send it"
                )
            return problem(HTTPStatus.FORBIDDEN, message, "OriginError")
        if path in _OPEN_PATHS or self._is_known(headers):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse(f"{scope.get('root_path', '')}/signin", HTTPStatus.SEE_OTHER)
        message = "a token is needed: send it as 'Authorization: Bearer TOKEN', or sign in with a browser"
        return problem(HTTPStatus.UNAUTHORIZED, message, "TokenError", {"WWW-Authenticate": "Bearer"})

    def _is_known(self, headers: Headers) -> bool:
        if self._settings.token is None:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._is_token(token.strip())
        return self._is_session(headers.get("cookie", ""))

    def _is_token(self, text: str) -> bool:
        return self._settings.token is not None and hmac.compare_digest(text.encode(), self._settings.token.encode())

    def _is_session(self, cookie: str) -> bool:
        try:
            morsel = SimpleCookie(cookie).get(COOKIE)
        except CookieError:
            return False
        until, _, signature = (morsel.value if morsel else "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(until).encode()):
            return False
        return int(until) > time.time()

    def _signature(self, until: str) -> str:
        key = (self._settings.token or "").encode()
        return hmac.new(key, f"crowd session until {until}".encode(), hashlib.sha256).hexdigest()

    async def _sign_in(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer to the form of the sign-in page; None for any other request."""
        if scope["method"] != "POST" or _path(scope) != "/signin":
            return None
        token, root = _token_of(await _read(receive)), scope.get("root_path", "")
        if not self._is_token(token):
            return RedirectResponse(f"{root}/signin#wrong", HTTPStatus.SEE_OTHER)
        answer = RedirectResponse(f"{root}/", HTTPStatus.SEE_OTHER)
        until = str(int(time.time()) + _SESSION_SECONDS)
        answer.set_cookie(
            COOKIE,
            f"{until}.{self._signature(until)}",
            max_age=_SESSION_SECONDS,
            secure=scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )
        return answer


def _token_of(form: bytes) -> str:
    """What the form has as token; nothing, if it is another form."""
    try:
        return parse_qs(form.decode("utf-8", "replace"), max_num_fields=10).get("token", [""])[0].strip()
    except ValueError:
        return ""


def _path(scope: Scope) -> str:
    """The path within the application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_same_site(scope: Scope, headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    # It is a scheme and a host, or "null"; whatever else it is, is refused.
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return False
    # What browsers say of requests that carry no origin, such as those for pictures; a link may lead here.
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"


async def _read(receive: Receive) -> bytes:
    data, more = b"", True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FORM_SECONDS):
            while more and len(data) <= _MOST_FORM:
                message = await receive()
                data, more = data + message.get("body", b""), message.get("more_body", False)
    return data[:_MOST_FORM]
