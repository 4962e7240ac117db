"""Requests by libcurl, which speaks HTTP/2 where a host offers it, within the guards.

libcurl settles the version in the TLS handshake (ALPN), puts the requests to one host on one
connection then, and resumes sessions. It never asks DNS: it is told the addresses that the guard
has checked, and each socket is made by the guard for the very address that it goes to. Proxies,
cookies, passwords of the environment and redirects are off.
"""

import asyncio
import time

from data_pipeline.crawl.address import host_of, port_of
from data_pipeline.crawl.easy import EasyHandle, is_literal
from data_pipeline.crawl.guard import Guard
from data_pipeline.crawl.journey import Answer, Limits
from data_pipeline.crawl.resolve import GuardedResolver
from data_pipeline.crawl.settings import DownloadSettings
from data_pipeline.crawl.sockets import GuardedSockets
from data_pipeline.crawl.transfers import Transfers


class CurlClient:
    """Makes requests by libcurl for one event loop, which it shares connections and names over."""

    def __init__(self, settings: DownloadSettings, guard: Guard, resolver: GuardedResolver) -> None:
        self._settings = settings
        self._resolver = resolver
        self._sockets = GuardedSockets(guard)
        self._transfers = Transfers(settings.connections)
        self._idle: list[EasyHandle] = []

    def close(self) -> None:
        """End all transfers and connections."""
        self._transfers.close()
        while self._idle:
            self._idle.pop().curl.close()

    async def get(self, url: str, limits: Limits, seconds: float) -> Answer:
        """Return the answer to one request; the body's faults come when it is read.

        TimeoutError after `seconds`; RefusedError, TransferError or another OSError where no
        answer came.
        """
        handle = self._idle.pop() if self._idle else EasyHandle(self._settings, self._sockets)
        whole = False
        try:
            host = host_of(url)
            if not is_literal(host):
                started, port = time.monotonic(), port_of(url)
                async with asyncio.timeout(seconds):
                    handle.pin(host, port, await self._resolver.resolve(host, port))
                seconds -= time.monotonic() - started
            if seconds <= 0:
                raise TimeoutError
            handle.aim(url, limits, seconds)
            failure = await self._transfers.perform(handle.curl)
            whole = True
            return handle.answer(failure)
        finally:
            handle.clear()
            if whole and len(self._idle) < self._settings.connections:
                self._idle.append(handle)
            else:
                handle.curl.close()
