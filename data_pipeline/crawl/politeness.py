"""Manners towards a host: so many requests a second, so many at once, and a pause when asked."""

import asyncio
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from data_pipeline.crawl.settings import DownloadSettings

_MAX_HOSTS = 50_000
_MAX_SLOWING = 16.0


@dataclass(slots=True)
class _Host:
    """One host's standing: when it may be asked next, and how much slower than the recipe says."""

    slots: asyncio.Semaphore
    next_time: float = 0.0
    delay: float = 0.0
    slowing: float = 1.0
    users: int = field(default=0)


class Politeness:
    """Gives turns to requests so that no host gets more than the recipe and the host allow.

    A host's rate halves with each 429 or 503, down to a sixteenth, and recovers with each success.
    """

    def __init__(self, settings: DownloadSettings) -> None:
        self._interval = 1.0 / settings.per_host_per_second
        self._per_host = settings.per_host_connections
        self._max_pause = settings.max_pause_seconds
        self._all = asyncio.Semaphore(settings.connections)
        self._hosts: dict[str, _Host] = {}

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _MAX_HOSTS:
                self._forget_idle()
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._per_host))
        return host

    def _forget_idle(self) -> None:
        """Drop the hosts that nobody waits for and that asked for nothing special."""
        now = time.monotonic()
        for name, host in list(self._hosts.items()):
            if not host.users and host.next_time <= now and host.slowing == 1.0:
                del self._hosts[name]

    async def take_turn(self, name: str) -> _Host:
        """Wait until host `name` may be asked; the caller holds one of its connections then.

        It gives that back by `end_turn`.
        """
        host = self._host(name)
        host.users += 1
        try:
            await host.slots.acquire()
            try:
                await self._wait(host)
                await self._all.acquire()
            except BaseException:
                host.slots.release()
                raise
        except BaseException:
            host.users -= 1
            raise
        return host

    def end_turn(self, host: _Host) -> None:
        """Give back what `take_turn` gave."""
        self._all.release()
        host.slots.release()
        host.users -= 1

    async def _wait(self, host: _Host) -> None:
        """Reserve the next moment of `host` and sleep until then, later if it asks for a pause."""
        interval = max(self._interval, host.delay) * host.slowing
        moment = max(time.monotonic(), host.next_time)
        host.next_time = moment + interval
        while (left := moment - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def set_delay(self, name: str, seconds: float) -> None:
        """Keep at least `seconds` between requests to host `name`, as its robots.txt asks."""
        self._host(name).delay = min(seconds, self._max_pause)

    def praise(self, host: _Host) -> None:
        """Note an answer of a host whose turn it is: its rate recovers."""
        if host.slowing > 1.0:
            host.slowing = max(1.0, host.slowing / 2)

    def slow_down(self, name: str, pause_seconds: float) -> None:
        """Note that host `name` wants fewer requests, and none for `pause_seconds`."""
        host = self._host(name)
        host.slowing = min(_MAX_SLOWING, host.slowing * 2)
        pause = min(pause_seconds, self._max_pause)
        host.next_time = max(host.next_time, time.monotonic() + pause)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, None if it is absent or senseless.

    `now` is the Unix time that a date in the header is compared with.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
