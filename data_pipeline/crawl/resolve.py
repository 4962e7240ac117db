"""Names to addresses: looked up once, checked by the guard, and connected to exactly as checked."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from data_pipeline.crawl.guard import Guard, RefusedError

Lookup = Callable[[str], list[str]]
"""Returns every address of a host, in order of preference; OSError if there is none. May block."""

_THREADS = 64
_MAX_HOSTS = 100_000
_FAILURE_SECONDS = 30.0
_PASSING_ERRORS = (socket.EAI_AGAIN, errno.ETIMEDOUT)


def system_lookup(host: str) -> list[str]:
    """Return the addresses of `host` from the system's resolver."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(slots=True)
class _Answer:
    """A checked look-up: addresses, or the error that it ended in."""

    expires: float
    addresses: list[str]
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: checked addresses in order of preference, and the port."""

    addresses: list[str]
    port: int


class GuardedResolver:
    """The resolver of names, with the guard between the answer and the connection.

    Answers are kept `keep_seconds`, failures for half a minute unless they may pass at once; one
    look-up runs per host however many wait for it. A connection gets the addresses that were
    checked, never the name, so an answer that changes afterwards changes nothing.
    """

    def __init__(self, guard: Guard, keep_seconds: float, lookup: Lookup = system_lookup) -> None:
        self._guard = guard
        self._keep_seconds = keep_seconds
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")
        self._answers: dict[str, _Answer] = {}
        self._under_way: dict[str, asyncio.Task[_Answer]] = {}

    async def resolve(self, host: str, port: int) -> Target:
        """Return where to connect for `host`; RefusedError or another OSError if nowhere."""
        target = self._guard.target_of(host)
        if target is not None:
            self._guard.check_address(host, target[0])
            return Target([target[0]], target[1])
        answer = await self._answer(host)
        if answer.error is not None:
            raise answer.error
        return Target(answer.addresses, port)

    def close(self) -> None:
        """Let go of the threads; look-ups under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, host: str) -> _Answer:
        kept = self._answers.get(host)
        if kept is not None and kept.expires > time.monotonic():
            return kept
        task = self._under_way.get(host)
        if task is None:
            task = asyncio.create_task(self._ask(host))
            self._under_way[host] = task
            task.add_done_callback(lambda _: self._under_way.pop(host, None))
        return await asyncio.shield(task)

    async def _ask(self, host: str) -> _Answer:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._lookup, host)
            answer = _Answer(time.monotonic() + self._keep_seconds, self._allowed(host, found))
        except (OSError, UnicodeError) as error:
            passing = isinstance(error, OSError) and error.errno in _PASSING_ERRORS
            keep = 0.0 if passing else _FAILURE_SECONDS
            problem = error if isinstance(error, OSError) else OSError(str(error))
            answer = _Answer(time.monotonic() + keep, [], problem)
        if len(self._answers) >= _MAX_HOSTS:
            self._answers.clear()
        self._answers[host] = answer
        return answer

    def _allowed(self, host: str, addresses: list[str]) -> list[str]:
        """Return those of `addresses` that pass the guard; the first refusal if none does."""
        allowed: list[str] = []
        refusal: RefusedError | None = None
        for address in addresses:
            try:
                self._guard.check_address(host, address)
                allowed.append(address)
            except RefusedError as error:
                refusal = refusal or error
        if not allowed:
            raise refusal or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
        return allowed
