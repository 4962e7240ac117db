"""A proxy before an S3 server that answers a share of the requests with a fault, in turn.

It listens in a thread of the test's process, so that it ends with it and can say what it did.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

from trawl import chance

FAULTS = ("error", "slow down", "reset", "lost answer", "cut answer", "stall")
_ANSWER = (
    "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n"
    "Connection: close\r\n\r\n{body}"
)
_BODY = "<Error><Code>{code}</Code><Message>not now</Message></Error>"
_FAULT_ANSWERS = {
    "error": ("500 Internal Server Error", "InternalError"),
    "slow down": ("503 Slow Down", "SlowDown"),
}


class FaultyStore:
    """The proxy; `share` of the requests go wrong."""

    def __init__(self, upstream: str, share: float, stall_seconds: float) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self._share = share
        self._stall_seconds = stall_seconds
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.conditions: set[str] = set()
        """Conditions that requests which write were made on, as "If-None-Match: *"."""
        self.url = ""

    async def serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._client, sock=listener)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _request(reader, writer)
            self.conditions |= _conditions(request)
            fault = self._draw()
            answer = b""
            if fault in (None, "lost answer", "cut answer"):
                answer = await self._forward(request)
            if fault == "stall":
                await asyncio.sleep(self._stall_seconds)
            await _answer(writer, fault, answer)
        writer.close()

    def _draw(self) -> str | None:
        self.requests += 1
        if chance.generator("faulty-store", self.requests).random() >= self._share:
            return None
        fault = FAULTS[self.faults.total() % len(FAULTS)]
        self.faults[fault] += 1
        return fault

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return one whole request, changed so that its connection is closed after it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    fields = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if "expect" in fields:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    dropped = ("connection:", "expect:")
    kept = [line for line in lines[:-2] if not line.lower().startswith(dropped)]
    body = b""
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n")
    elif "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    return "\r\n".join([*kept, "Connection: close", "", ""]).encode("latin-1") + body


def _conditions(request: bytes) -> set[str]:
    """Return the conditions of a request that writes, none of one that reads."""
    first, *fields = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    writes = first.startswith(("PUT ", "POST ", "DELETE "))
    return {field for field in fields if writes and field.lower().startswith("if-")}


async def _answer(writer: asyncio.StreamWriter, fault: str | None, answer: bytes) -> None:
    if fault in _FAULT_ANSWERS:
        status, code = _FAULT_ANSWERS[fault]
        body = _BODY.format(code=code)
        answer = _ANSWER.format(status=status, length=len(body), body=body).encode()
    elif fault == "cut answer":
        answer = answer[: len(answer) * 2 // 3]
    if fault in ("reset", "lost answer", "stall"):
        _reset_on_close(writer)
        return
    writer.write(answer)
    await writer.drain()
    if fault == "cut answer":
        _reset_on_close(writer)


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def faulty_store(
    upstream: str, share: float = 0.1, stall_seconds: float = 0.2
) -> Iterator[FaultyStore]:
    """Run a proxy before the server at the URL `upstream` while the block lasts."""
    store = FaultyStore(upstream, share, stall_seconds)
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        store.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task = loop.create_task(store.serve(listener))

        def work() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(30)
