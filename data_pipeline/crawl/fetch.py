"""The fetcher: one address in, one Fetched out, whatever the other side does.

One TLS context, one set of kept connections and one DNS cache serve all fetches of a worker. The
outcome of a fetch depends on what the hosts answer, never on the order of the other fetches.
"""

import asyncio
import contextlib
import functools
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType

import aiohttp
from yarl import URL

from data_pipeline.crawl.address import host_of
from data_pipeline.crawl.body import BodyError, read_body
from data_pipeline.crawl.curl import Answer, CurlClient
from data_pipeline.crawl.errors import failure_of, failure_of_status
from data_pipeline.crawl.guard import Guard, RefusedError
from data_pipeline.crawl.journey import Journey, Limits
from data_pipeline.crawl.page import Fetched
from data_pipeline.crawl.politeness import Politeness, retry_after_seconds
from data_pipeline.crawl.resolve import GuardedResolver, Lookup, system_lookup
from data_pipeline.crawl.robots import ROBOTS_BYTES, ROBOTS_REDIRECTS, Robots
from data_pipeline.crawl.settings import DownloadSettings
from data_pipeline.crawl.sockets import GuardedSockets
from trawl import chance

_REDIRECTS = (301, 302, 303, 307, 308)
_KEEP_ALIVE_SECONDS = 30.0
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
        self._session: aiohttp.ClientSession | None = None
        self._curl: CurlClient | None = None

    async def __aenter__(self) -> "Fetcher":
        settings = self._settings
        self._politeness = Politeness(settings)
        self._robots = Robots(self._fetch_robots, settings.agent_token)
        self._resolver = GuardedResolver(self._guard, settings.dns_seconds, self._lookup)
        if settings.http2:
            self._curl = CurlClient(settings, self._guard, self._resolver)
        connector = aiohttp.TCPConnector(
            ssl=_tls_context(settings.verify_tls),
            resolver=self._resolver,
            use_dns_cache=False,
            limit=0,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            socket_factory=GuardedSockets(self._guard),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.timeout_seconds),
            auto_decompress=False,
            trust_env=False,
            headers={
                "User-Agent": settings.agent_header,
                "Accept": "*/*",
                "Accept-Encoding": "gzip, deflate",
            },
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
        if self._curl is not None:
            await self._curl.close()
        await self._resolver.close()

    async def fetch(self, url: str) -> Fetched:
        """Fetch one address with robots.txt, redirects and retries; never raises for bad input."""
        settings = self._settings
        return await self._fetch(
            url, Limits(settings.respect_robots, settings.max_bytes, settings.max_redirects)
        )

    async def sitemaps(self, origin: str) -> list[str]:
        """Return the addresses of sitemaps that the robots.txt of `origin` names."""
        return (await self._robots.rules(origin)).sitemaps()

    async def fetch_many(self, urls: Iterable[str]) -> AsyncIterator[Fetched]:
        """Fetch each distinct address once and yield the outcomes as they come.

        Hosts proceed side by side, so that a slow one holds up none of the others. The order of
        the outcomes depends on timing; sort by `url` where it matters.
        """
        waiting: dict[str, deque[str]] = {}
        for url in dict.fromkeys(urls):
            waiting.setdefault(_host_key(url), deque()).append(url)
        done: asyncio.Queue[Fetched | Exception] = asyncio.Queue(_QUEUED_RESULTS)
        total = sum(len(host) for host in waiting.values())
        workers = [
            asyncio.create_task(self._work_off(host, done))
            for host in waiting.values()
            for _ in range(min(len(host), self._settings.per_host_connections))
        ]
        try:
            for _ in range(total):
                result = await done.get()
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work_off(self, urls: deque[str], done: "asyncio.Queue[Fetched | Exception]") -> None:
        try:
            while urls:
                await done.put(await self.fetch(urls.popleft()))
        except Exception as error:
            await done.put(error)  # else the reader would wait for ever

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
        host = host_of(url)
        async with self._politeness.turn(host):
            with journey.clock(self._settings.timeout_seconds) as deadline:
                async with asyncio.timeout_at(deadline), self._request(url, limits) as response:
                    journey.arrive(url, response, self._settings.agent_token)
                    if response.status not in _BUSY:
                        self._politeness.praise(host)
                    if response.status in _REDIRECTS and "Location" in response.headers:
                        return response.headers["Location"]
                    if not 200 <= response.status < 300:
                        journey.fail(failure_of_status(response.status))
                        return None
                    journey.body = await response.read(limits)
        return None

    @contextlib.asynccontextmanager
    async def _request(self, url: str, limits: Limits) -> AsyncIterator["Answer | _Streamed"]:
        assert self._session is not None, "use the fetcher as `async with Fetcher(...)`"
        if self._curl is not None and url.startswith("https:"):
            yield await self._curl.get(url, limits)
            return
        request = self._session.get(URL(url, encoded=True), allow_redirects=False)
        async with request as response:
            try:
                yield _Streamed(response)
            except BaseException:
                response.close()  # not drained: the rest may be endless
                raise
            if response.status >= 300:
                response.close()


class _Streamed:
    """An answer of aiohttp, whose body has yet to come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def read(self, limits: Limits) -> bytes:
        """Return the body; BodyError once it passes a limit."""
        response = self._response
        if (response.content_length or 0) > limits.max_bytes and not limits.cut:
            raise BodyError("too-large", f"Content-Length {response.content_length}")
        encoding = ", ".join(response.headers.getall("Content-Encoding", []))
        pieces = response.content.iter_any()
        body = await read_body(pieces, encoding, limits.max_bytes, limits.cut)
        if not response.content.at_eof():
            response.close()  # what is left may be endless
        return body


def _host_key(url: str) -> str:
    """Group addresses by host without judging them."""
    return url.partition("://")[2].partition("/")[0].lower()


@functools.cache
def _tls_context(verify: bool) -> ssl.SSLContext:
    """Make the one TLS context of a process; building one costs as much as a hundred fetches."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
