"""Serves the page, its data and the metrics; nothing can be changed through it."""

import json
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from launch.dashboard.prometheus import CONTENT_TYPE, exposition
from launch.dashboard.reading import Reading
from trawl.errors import RequestError, TrawlError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The page holds its own style and script, and asks nobody else for anything.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
)


class Dashboard(ThreadingHTTPServer):
    """The server of one `trawl launch dashboard`."""

    daemon_threads = True

    def __init__(self, host: str, port: int, reading: Reading) -> None:
        self.reading, self.host = reading, host
        try:
            super().__init__((host, port), _Answer)
        except OSError as error:
            raise RequestError(f"--host {host} --port {port}: {error.strerror}") from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{self.host}:{self.server_address[1]}/"


class _Answer(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        """Answer one request."""
        if not self._is_for_us():
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"ask by the name localhost\n")
            return
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                self._send(HTTPStatus.OK, "text/html; charset=utf-8", page().encode())
            elif path == "/api/jobs":
                self._send(HTTPStatus.OK, "application/json", self._jobs())
            elif path == "/metrics":
                text = exposition(self.server.reading.jobs())
                self._send(HTTPStatus.OK, CONTENT_TYPE, text.encode())
            else:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")
        except TrawlError as error:
            said = f"{error}\n".encode()
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", said)

    do_HEAD = do_GET  # noqa: N815

    def _is_for_us(self) -> bool:
        """Whether a page of another site, under a name of its own for us, does not ask."""
        name = self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        return self.server.host not in _LOOPBACK or name in _LOOPBACK

    def _jobs(self) -> bytes:
        # JSON has no NaN, and a browser reads none.
        text = json.dumps({"jobs": self.server.reading.content()}, default=str)
        return text.encode() if "NaN" not in text else _without_nan(text)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing of requests: a browser makes one every few seconds."""


def _without_nan(text: str) -> bytes:
    """Return JSON text with null where Python wrote a number that is none."""
    return json.dumps(json.loads(text, parse_constant=lambda name: None)).encode()


@cache
def page() -> str:
    """Return the page: the reports' style, its own, and its script, in one text."""
    ours = files("launch.dashboard")
    style = files("trawl.report").joinpath("page.css").read_text(encoding="utf-8")
    style += ours.joinpath("dashboard.css").read_text(encoding="utf-8")
    script = ours.joinpath("dashboard.js").read_text(encoding="utf-8")
    html = ours.joinpath("dashboard.html").read_text(encoding="utf-8")
    return html.replace("/* style */", style).replace("/* script */", script)
