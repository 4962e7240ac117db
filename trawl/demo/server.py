"""The demo's web as a live HTTP/1.1 server on loopback: `python -m trawl.demo.server FOLDER`.

The Host header chooses the site, so the crawler reaches every `*.trawl.test` here. Beside plain
responses it does what bad hosts do: answers late, never or byte by byte, resets, cuts bodies off.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from trawl import storage
from trawl.demo.warc import reason_phrase
from trawl.errors import RequestError, WorkError

_HEAD_LIMIT = 32 << 10
_CACHED_BODIES = 512
_DRIP_SECONDS = 0.5
_NOT_FOUND = (
    b"<!doctype html><title>404</title><h1>Not found</h1><p>There is no such page here.</p>"
)


@dataclass(frozen=True)
class Request:
    """The parts of a request that the server looks at; `target` is path and query."""

    method: str
    host: str
    target: str
    headers: dict[str, str]

    @property
    def url(self) -> str:
        """The address that was asked for, without the server's port."""
        return f"http://{self.host}{self.target}"


@dataclass
class WebServer:
    """Answers requests from the routes and bodies that `write_web` left in `folder`."""

    folder: Path
    log: TextIO | None = None
    asked: set[str] = field(default_factory=set)
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.folder / "web.json"
        if not path.is_file():
            raise RequestError(f"{path}: no such file; write the web with `trawl world web` first")
        self.routes = storage.read_json(path)["routes"]
        self._body = lru_cache(maxsize=_CACHED_BODIES)(self._read_body)

    def _read_body(self, name: str, packed: bool) -> bytes:
        data = (self.folder / "store" / name).read_bytes()
        return gzip.compress(data, 1, mtime=0) if packed else data

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while (request := _parse(await reader.readuntil(b"\r\n\r\n"))) is not None:
                if not await self._answer(request, reader, writer):
                    break
        with contextlib.suppress(OSError):
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False ends the connection."""
        route = self.routes.get(request.url)
        behaviour = route.get("behaviour", {}) if route else {}
        if self.log is not None:
            line = {"method": request.method, "host": request.host, "target": request.target}
            self.log.write(json.dumps({**line, "behaviour": behaviour.get("kind", "plain")}) + "\n")
            self.log.flush()
        kind = behaviour.get("kind")
        if kind == "reset":
            writer.transport.abort()
            return False
        if kind == "hang":
            await reader.read()  # until the client gives up
            return False
        if kind == "delay":
            await asyncio.sleep(behaviour["seconds"])
        if kind == "transient" and request.url not in self.asked:
            self.asked.add(request.url)
            head = [("Retry-After", str(behaviour["retry_after"])), ("Content-Type", "text/plain")]
            return await _send(writer, request, behaviour["status"], head, b"Try again later.\n")
        if route is None:
            head = [("Content-Type", "text/html; charset=utf-8")]
            return await _send(writer, request, 404, head, _NOT_FOUND)
        return await self._send_route(writer, request, route, kind)

    async def _send_route(
        self,
        writer: asyncio.StreamWriter,
        request: Request,
        route: dict[str, Any],
        kind: str | None,
    ) -> bool:
        """Send the response that `route` describes."""
        headers = [(name, value) for name, value in route["headers"]]
        packed = bool(route.get("gzip")) and "gzip" in request.headers.get("accept-encoding", "")
        body = self._body(route["body"], packed) if route.get("body") else b""
        if packed:
            headers.append(("Content-Encoding", "gzip"))
        if kind == "truncate" and request.method == "GET":
            writer.write(_head(route["status"], [*headers, ("Content-Length", str(len(body)))]))
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return False
        if kind == "drip" and request.method == "GET":
            return await _drip(writer, route["status"], headers, body)
        return await _send(writer, request, route["status"], headers, body)


def _parse(head: bytes) -> Request | None:
    """Return the request in `head`; None if it is none that we understand."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[0] not in ("GET", "HEAD") or len(head) > _HEAD_LIMIT:
        return None
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    host = headers.get("host", "").partition(":")[0].lower()
    target = parts[1]
    if target.startswith("http://"):  # the form that a client sends to a proxy
        target = "/" + target.removeprefix("http://").partition("/")[2]
    return Request(parts[0], host, target, headers)


def _head(status: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(
    writer: asyncio.StreamWriter,
    request: Request,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
) -> bool:
    """Send a whole response; True keeps the connection."""
    keep = request.headers.get("connection", "").lower() != "close"
    extra = [
        ("Content-Length", str(len(body))),
        ("Connection", "keep-alive" if keep else "close"),
    ]
    writer.write(_head(status, [*headers, *extra]))
    if request.method == "GET":
        writer.write(body)
    await writer.drain()
    return keep


async def _drip(
    writer: asyncio.StreamWriter, status: int, headers: list[tuple[str, str]], body: bytes
) -> bool:
    """Send one byte of `body` at a time, slowly enough to outlast any patience."""
    writer.write(_head(status, [*headers, ("Content-Length", str(len(body)))]))
    for place in range(len(body)):
        writer.write(body[place : place + 1])
        await writer.drain()
        await asyncio.sleep(_DRIP_SECONDS)
    return False


async def _run(server: WebServer, port: int, ready_file: Path | None, with_stdin: bool) -> None:
    """Listen on loopback until SIGTERM, SIGINT or, if asked for, the end of standard input."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if with_stdin:
        _watch_stdin(lambda: loop.call_soon_threadsafe(ended.set))
    try:
        listener = await asyncio.start_server(
            server.converse, "127.0.0.1", port, limit=_HEAD_LIMIT, backlog=1024
        )
    except OSError as error:
        raise WorkError(f"127.0.0.1:{port}: cannot listen there ({error.strerror})") from error
    host, bound = listener.sockets[0].getsockname()[:2]
    if ready_file is not None:
        storage.write_text(ready_file, f"{host}:{bound}")
    print(f"{server.folder} is served on {host}:{bound}", flush=True)
    await ended.wait()
    listener.close()


def _watch_stdin(end: Callable[[], object]) -> None:
    """Call `end` when standard input closes, which it does when our starter is gone."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        end()

    threading.Thread(target=wait, daemon=True).start()


def serve(
    folder: Path | str,
    port: int = 0,
    ready_file: Path | None = None,
    log: Path | None = None,
    until_stdin_closes: bool = False,
) -> None:
    """Serve the web in `folder` until told to stop.

    `ready_file` gets "host:port" once the server listens; `log` gets a JSON line a request.
    Raises RequestError where there is no web, WorkError where the port is taken.
    """
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(log.open("a")) if log else None
        server = WebServer(Path(folder), lines)
        asyncio.run(_run(server, port, ready_file, until_stdin_closes))


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m trawl.demo.server", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args()
    try:
        serve(given.folder, given.port, given.ready_file, given.log, given.until_stdin_closes)
    except (RequestError, WorkError) as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
