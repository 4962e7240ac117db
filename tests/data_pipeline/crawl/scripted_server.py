"""A real server on loopback that answers each path with whatever bytes a test wants, and how."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from data_pipeline.crawl.settings import DownloadSettings

Script = Callable[[asyncio.StreamWriter, str], Awaitable[None]]


class ScriptedServer:
    """Answers `scripts[path]`, or 404; keeps the (host, path) of every request in `requests`."""

    def __init__(self, scripts: dict[str, Script], address: str = "127.0.0.1") -> None:
        self.scripts = scripts
        self.requests: list[tuple[str, str]] = []
        self._address = address

    async def __aenter__(self) -> "ScriptedServer":
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self._address, self._port())
        return self

    def _port(self) -> int:
        return 0

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.requests]

    def settings(self, **changes: object) -> DownloadSettings:
        """Settings under which every *.test host leads here, and nothing is waited for long."""
        values: dict[str, object] = {
            "per_host_per_second": 1000.0,
            "backoff_seconds": 0.01,
            "allow_private": ["127.0.0.1"],
            "connect_to": {"*.test": f"127.0.0.1:{self.port}"},
            "max_bytes": 1_000_000,
            "respect_robots": False,
        }
        return DownloadSettings.model_validate({**values, **changes})

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            hosts = [line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")]
            self.requests.append((hosts[0] if hosts else "", path))
            await self.scripts.get(path, answer(404, b"no such page"))(writer, path)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test has ended
        finally:
            writer.close()


def answer(status: int, body: bytes = b"", *headers: str) -> Script:
    """A plain and whole answer."""

    async def script(writer: asyncio.StreamWriter, path: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        await writer.drain()

    return script


def redirect(location: str, status: int = 302) -> Script:
    return answer(status, b"", f"Location: {location}")


def raw(*pieces: bytes, pause: float = 0.0, endless: bool = False, reset: bool = False) -> Script:
    """Exactly these bytes, with pauses between, the last again and again, or a reset at the end."""

    async def script(writer: asyncio.StreamWriter, path: str) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        while endless:
            writer.write(pieces[-1])
            await writer.drain()
            await asyncio.sleep(pause)
        if reset:
            writer.transport.abort()

    return script


def in_turn(*scripts: Script) -> Script:
    """The first answer for the first request, and so on; the last for all that follow."""
    count = 0

    async def script(writer: asyncio.StreamWriter, path: str) -> None:
        nonlocal count
        chosen = scripts[min(count, len(scripts) - 1)]
        count += 1
        await chosen(writer, path)

    return script
