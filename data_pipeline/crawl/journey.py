"""One attempt of a fetch on its way from the first address to the last byte."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from data_pipeline.crawl.consent import header_signals, merged
from data_pipeline.crawl.errors import Failure
from data_pipeline.crawl.page import Fetched


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one kind of fetch goes.

    `cut` takes the first `max_bytes` of a longer body instead of failing.
    """

    ask_robots: bool
    max_bytes: int
    max_redirects: int
    cut: bool = False


class Response(Protocol):
    """An answer of either client: its head is there, its body is still to be read."""

    status: int

    @property
    def headers(self) -> "CIMultiDict[str] | CIMultiDictProxy[str]":
        """The headers, several of one name among them."""


class Journey:
    """An attempt: where it has been, how long it has taken, what it has brought."""

    def __init__(self, url: str) -> None:
        self.visited: list[str] = []
        self.url = url
        self.answered = False
        self.body: bytes | None = None
        self._result = Fetched(url, url)
        self._failure: Failure | None = None
        self._spent = 0.0

    @property
    def may_retry(self) -> bool:
        """Whether another attempt at once has a chance."""
        return self._failure is not None and self._failure.retry

    @contextlib.contextmanager
    def clock(self, seconds: float) -> Iterator[float]:
        """Give the loop time at which the attempt's time is up; waiting for a turn costs none."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.answered = False
        try:
            yield start + seconds - self._spent
        finally:
            self._spent += loop.time() - start

    def arrive(self, url: str, response: Response, agent: str) -> None:
        """Note the answer of one hop."""
        self.visited.append(url)
        self.answered = True
        result = self._result
        result.final_url, result.status = url, response.status
        result.headers = {}
        for name, value in response.headers.items():
            name = name.lower()
            known = result.headers.get(name)
            result.headers[name] = f"{known}, {value}" if known else value
        tags = header_signals(response.headers.getall("X-Robots-Tag", []), agent)
        if response.headers.get("TDM-Reservation", "").strip() == "1":
            tags.append("tdm-reservation")
        result.robots = merged(result.robots, tags)

    def fail(self, failure: Failure) -> None:
        """Note that the attempt has come to nothing."""
        self._failure = failure

    def outcome(self) -> Fetched:
        """Return what the attempt has brought."""
        if self._failure is None:
            self._result.body = self.body
        else:
            self._result.error = self._failure.reason
            self._result.detail = self._failure.detail
            self._result.transient = self._failure.transient
        return self._result
