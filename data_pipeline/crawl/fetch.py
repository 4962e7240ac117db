"""The fetcher: one address in, one Fetched out, whatever the other side does.

One set of kept connections and one DNS cache serve all fetches of a worker. The outcome of a fetch
depends on what the hosts answer, never on the order of the other fetches.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from types import TracebackType

from data_pipeline.crawl.address import host_of
from data_pipeline.crawl.curl import CurlClient
from data_pipeline.crawl.errors import failure_of, failure_of_status
from data_pipeline.crawl.guard import Guard, RefusedError
from data_pipeline.crawl.journey import Journey, Limits
from data_pipeline.crawl.page import Fetched
from data_pipeline.crawl.politeness import Politeness, retry_after_seconds
from data_pipeline.crawl.resolve import GuardedResolver, Lookup, system_lookup
from data_pipeline.crawl.robots import ROBOTS_BYTES, ROBOTS_REDIRECTS, Robots
from data_pipeline.crawl.settings import DownloadSettings
from trawl import chance

_REDIRECTS = (301, 302, 303, 307, 308)
_QUEUED_RESULTS = 64
_BUSY = (429, 503)


class Fetcher:
    """Fetches addresses within the limits of `settings`; use it as `async with Fetcher(...)`.

    `lookup` replaces the system's name resolution; its answers pass the guard all the same.
    """

    def __init__(self, settings: DownloadSettings, lookup: Lookup = system_lookup) -> None:
        self._settings = settings
        self._guard = Guard(settings)
        self._lookup = lookup
        self._curl: CurlClient | None = None
        self._agent = settings.agent_token
        self._limits = Limits(settings.respect_robots, settings.max_bytes, settings.max_redirects)

    async def __aenter__(self) -> "Fetcher":
        settings = self._settings
        self._politeness = Politeness(settings)
        self._robots = Robots(self._fetch_robots, self._agent)
        self._resolver = GuardedResolver(self._guard, settings.dns_seconds, self._lookup)
        self._curl = CurlClient(settings, self._guard, self._resolver)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._curl is not None:
            self._curl.close()
        self._resolver.close()

    @property
    def _client(self) -> CurlClient:
        assert self._curl is not None, "use the fetcher as `async with Fetcher(...)`"
        return self._curl

    async def fetch(self, url: str) -> Fetched:
        """Fetch one address with robots.txt, redirects and retries; never raises for bad input."""
        return await self._fetch(url, self._limits)

    async def sitemaps(self, origin: str) -> list[str]:
        """Return the addresses of sitemaps that the robots.txt of `origin` names."""
        return (await self._robots.rules(origin)).sitemaps()

    async def fetch_many(self, urls: Iterable[str]) -> AsyncIterator[Fetched]:
        """Fetch each distinct address once and yield the outcomes as they come.

        Hosts proceed side by side, so that a slow one holds up none of the others. The order of
        the outcomes depends on timing; sort by `url` where it matters.
        """
        done: asyncio.Queue[Fetched | None] = asyncio.Queue(_QUEUED_RESULTS)

        async def serve(host: deque[str]) -> None:
            while host:
                await done.put(await self.fetch(host.popleft()))

        async def all_of_them() -> None:
            try:
                await self._work_off(urls, serve)
            finally:
                await done.put(None)

        work = asyncio.create_task(all_of_them())
        try:
            while (result := await done.get()) is not None:
                yield result
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def fetch_each(self, urls: Iterable[str], take: Callable[[Fetched], None]) -> None:
        """Fetch as `fetch_many` does, without a queue: give each outcome to `take` at once."""

        async def serve(host: deque[str]) -> None:
            while host:
                take(await self.fetch(host.popleft()))

        await self._work_off(urls, serve)

    async def _work_off(
        self, urls: Iterable[str], serve: Callable[[deque[str]], Coroutine[None, None, None]]
    ) -> None:
        """Have `serve` fetch the addresses, the hosts side by side; its first error ends it all."""
        waiting: dict[str, deque[str]] = {}
        for url in dict.fromkeys(urls):
            waiting.setdefault(_host_key(url), deque()).append(url)

        workers = [
            asyncio.create_task(serve(host))
            for host in waiting.values()
            for _ in range(min(len(host), self._settings.per_host_connections))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _fetch_robots(self, url: str) -> Fetched:
        """Fetch a robots.txt: without asking robots.txt, and only its first part counts."""
        redirects = max(self._settings.max_redirects, ROBOTS_REDIRECTS)
        return await self._fetch(url, Limits(False, ROBOTS_BYTES, redirects, cut=True))

    async def _fetch(self, url: str, limits: Limits) -> Fetched:
        """Try until it works, the error is lasting, or the attempts are used up."""
        attempt = 0
        while True:
            attempt += 1
            journey = Journey(url)
            result = await self._attempt(journey, limits)
            result.attempts = attempt
            if not journey.may_retry:
                return result
            pause = self._pause_after(result, attempt)
            if pause is None or attempt > self._settings.retries:
                return result
            await asyncio.sleep(pause)

    def _pause_after(self, result: Fetched, attempt: int) -> float | None:
        """Return the pause before another attempt, None if the host asks for more than we give.

        A host that is busy is left alone for as long by every other fetch too.
        """
        longest = self._settings.max_pause_seconds
        asked = retry_after_seconds(result.headers.get("retry-after"), time.time())
        jitter = chance.generator("fetch", result.url, attempt).uniform(0.5, 1.5)
        backoff = self._settings.backoff_seconds * 2 ** (attempt - 1) * jitter
        pause = min(max(backoff, asked or 0.0), longest)
        if result.status in _BUSY:
            self._politeness.slow_down(host_of(result.final_url), pause)
        return None if asked is not None and asked > longest else pause

    async def _attempt(self, journey: Journey, limits: Limits) -> Fetched:
        """Follow one address to its end and turn every way of failing into a reason code."""
        try:
            target = self._guard.checked_url(journey.url)
            while True:
                if limits.ask_robots and not await self._may_fetch(target, journey):
                    break
                onward = await self._hop(target, journey, limits)
                if onward is None:
                    break
                target = self._guard.checked_url(onward, target)
                if target in journey.visited or len(journey.visited) > limits.max_redirects:
                    raise RefusedError("too-many-redirects", f"redirected on to {target}")
        except Exception as error:
            journey.fail(failure_of(error, journey.answered))
        return journey.outcome()

    async def _may_fetch(self, url: str, journey: Journey) -> bool:
        """Ask robots.txt, note a refusal, and keep to the delay that it names."""
        refusal, delay = await self._robots.verdict(url)
        if delay:
            self._politeness.set_delay(host_of(url), delay)
        if refusal is not None:
            journey.fail(refusal)
        return refusal is None

    async def _hop(self, url: str, journey: Journey, limits: Limits) -> str | None:
        """Make one request; return the address it redirects to, None if it was the last."""
        turn = await self._politeness.take_turn(host_of(url))
        try:
            journey.answered = False
            started = time.monotonic()
            left = self._settings.timeout_seconds - journey.spent
            answer = await self._client.get(url, limits, left)
            journey.spent += time.monotonic() - started
            journey.arrive(url, answer, self._agent)
            if answer.status not in _BUSY:
                self._politeness.praise(turn)
        finally:
            self._politeness.end_turn(turn)
        if 200 <= answer.status < 300:
            journey.body = answer.read()
            return None
        if answer.status in _REDIRECTS and (onward := answer.head.lines("location")):
            return onward[0]
        journey.fail(failure_of_status(answer.status))
        return None


def _host_key(url: str) -> str:
    """Group addresses by host without judging them."""
    return url.partition("://")[2].partition("/")[0].lower()
