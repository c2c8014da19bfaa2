"""The HTTP side of the live page: the page itself, its pictures and its numbers."""

from __future__ import annotations

import html
import os
import secrets
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

# Seconds after which a viewer who does not read is dropped, and between looks at whether the page was closed.
_STALLED, _LOOK = 10.0, 1.0
_MOST_VIEWERS = 16
# Small, so that a slow viewer's connection does not fill with frames that are old when they arrive.
_SEND_BUFFER = 128 * 1024
_BOUNDARY = "crowd-frame"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style nonce="{nonce}">
html, body {{ margin: 0; height: 100%; background: #181425; color: #fff; font: 16px/1.4 system-ui, sans-serif; }}
body {{ display: flex; flex-direction: column; }}
img {{ flex: 1; min-height: 0; width: 100%; object-fit: contain; }}
p {{ margin: 0; padding: .5em 1em; min-height: 1.4em; font-variant-numeric: tabular-nums; }}
.alert {{ background: #d55e00; color: #181425; font-weight: bold; }}
</style></head><body>
<img src="/stream.mjpg" alt="The newest frame with the people counted in it">
<p id="status" role="status">waiting for the first frame</p>
<script nonce="{nonce}">
const line = document.getElementById("status");
async function look() {{
  try {{
    const s = await (await fetch("/status.json", {{cache: "no-store"}})).json();
    if ("count" in s) {{
      const zones = Object.entries(s.zones || {{}}).map(([name, people]) => name + ": " + people);
      const alerts = (s.alerts || []).length ? "alert: " + s.alerts.join(", ") : "";
      const all = s.count + " people (" + s.interval.join("-") + ")";
      line.textContent = [alerts, all, ...zones].filter(x => x).join(" \\u00b7 ");
      line.className = alerts ? "alert" : "";
    }}
    setTimeout(look, 500);
  }} catch (gone) {{
    line.className = "";
    line.textContent = "The stream has ended.";
  }}
}}
look();
</script></body></html>
"""


class Source(Protocol):
    """Where the frames come from."""

    @property
    def closed(self) -> bool: ...
    @property
    def status(self) -> str: ...
    def wait_newer(self, version: int, timeout: float) -> int | None: ...
    def jpeg(self) -> tuple[int, bytes]: ...


class PageServer(ThreadingHTTPServer):
    """Serves one source to a few viewers, each in a thread.

    Args:
        address: host and port.
        source: of the frames.
        title: of the page.
    """

    daemon_threads = True
    # Viewers are hung up on instead.
    block_on_close = False
    # On Windows that would let another program take over the port.
    allow_reuse_address = os.name != "nt"

    def __init__(self, address: tuple[str, int], source: Source, title: str):
        self.source, self.title = source, title
        self._viewers: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, PageHandler)
        port = self.server_address[1]
        # Other names for this address belong to sites that want to read the pictures through their visitors' browsers.
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    def server_bind(self) -> None:
        """As the parent's parent: the parent looks up the name of this machine, which may ask a server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def admit(self, viewer: socket.socket) -> bool:
        """Note a viewer; false if there are too many."""
        with self._lock:
            if len(self._viewers) >= _MOST_VIEWERS:
                return False
            self._viewers.add(viewer)
            return True

    def dismiss(self, viewer: socket.socket) -> None:
        """Forget a viewer."""
        with self._lock:
            self._viewers.discard(viewer)

    def hang_up(self) -> None:
        """End the connections of all viewers, also of those that do not read."""
        with self._lock:
            for viewer in self._viewers:
                try:
                    viewer.shutdown(socket.SHUT_RDWR)
                except OSError:
                    # Gone already.
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of viewers that go away; whatever else happens is a defect, and is shown as one."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    server_version, sys_version = "crowd", ""
    timeout = _STALLED

    def do_GET(self) -> None:
        """Serve the page, the pictures or the numbers."""
        if self.headers.get("Host") not in self.server.hosts:
            return self.send_error(403, "Ask for 127.0.0.1")
        if not self.server.admit(self.connection):
            return self.send_error(503, "Too many viewers")
        try:
            self._answer()
        finally:
            self.server.dismiss(self.connection)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep no log: the command line belongs to the counts."""

    def _answer(self) -> None:
        source, path = self.server.source, self.path.partition("?")[0]
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            page = _PAGE.format(title=html.escape(self.server.title), nonce=nonce)
            policy = f"default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'; "
            self._send("text/html; charset=utf-8", page.encode(), policy + f"script-src 'nonce-{nonce}'")
        elif path == "/status.json":
            self._send("application/json", source.status.encode())
        elif path == "/frame.jpg":
            _, jpeg = source.jpeg()
            if jpeg:
                self._send("image/jpeg", jpeg)
            else:
                self.send_error(503, "No frame yet")
        elif path == "/stream.mjpg":
            self._stream()
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes, policy: str = "default-src 'none'") -> None:
        self._begin(kind, policy, len(body))
        self.wfile.write(body)

    def _begin(self, kind: str, policy: str = "default-src 'none'", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def _stream(self) -> None:
        source = self.server.source
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        version = 0
        while not source.closed:
            if source.wait_newer(version, _LOOK) is None:
                continue
            version, jpeg = source.jpeg()
            if jpeg:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
