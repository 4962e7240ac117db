"""robots.txt as RFC 9309 has it: read once per origin, and asked before every fetch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from data_pipeline.crawl.address import origin_of
from data_pipeline.crawl.errors import Failure
from data_pipeline.crawl.page import Fetched

ROBOTS_BYTES = 500 << 10
"""How much of a robots.txt counts (RFC 9309 §2.5)."""

ROBOTS_REDIRECTS = 5
"""How many redirects of a robots.txt are followed at least (RFC 9309 §2.3.1.2)."""

_MAX_ORIGINS = 20_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What one origin allows: what its file says, or everything, or nothing for a reason."""

    parsed: Protego | None = None
    refusal: Failure | None = None
    delay: float = 0.0

    def verdict(self, url: str, agent: str) -> Failure | None:
        """Return why `agent` may not fetch `url`, None if it may."""
        if self.parsed is None or self.parsed.can_fetch(url, agent):
            return self.refusal
        return Failure("robots", f"robots.txt disallows {url}")

    def sitemaps(self) -> list[str]:
        """Return the addresses of sitemaps that the file names, in its order."""
        return [] if self.parsed is None else list(self.parsed.sitemaps)


def rules_of(answer: Fetched, agent: str) -> Rules:
    """Return the rules that the answer for a robots.txt stands for (RFC 9309 §2.3.1).

    A file: its first 500 KiB. A 4xx, or redirects without end: everything is allowed. 429, a 5xx
    or no answer: nothing is, and where no answer came, its reason is given instead of "robots".
    """
    if answer.body is not None:
        parsed = Protego.parse(answer.body.decode("utf-8", "replace").lstrip("\ufeff"))
        return Rules(parsed, delay=_delay(parsed, agent))
    if answer.error == "too-many-redirects":
        return Rules()
    if answer.error != "http-error":
        detail = f"robots.txt: {answer.detail}"
        return Rules(refusal=Failure(answer.error or "robots", detail, answer.transient))
    if answer.status >= 500 or answer.status == 429:
        return Rules(refusal=Failure("robots", f"robots.txt answered {answer.status}", True))
    return Rules()


def _delay(parsed: Protego, agent: str) -> float:
    """Return the seconds between requests that the file asks `agent` for."""
    delay = parsed.crawl_delay(agent) or 0.0
    rate = parsed.request_rate(agent)
    if rate is not None and rate.requests > 0:
        delay = max(delay, rate.seconds / rate.requests)
    return max(0.0, float(delay))


class Robots:
    """The robots.txt of every origin met, each fetched once however many ask for it at once."""

    def __init__(self, fetch: Callable[[str], Awaitable[Fetched]], agent: str) -> None:
        self._fetch = fetch
        self._agent = agent
        self._rules: dict[str, asyncio.Task[Rules]] = {}

    async def verdict(self, url: str) -> tuple[Failure | None, float]:
        """Return why the canonical `url` may not be fetched, if so, and its host's delay."""
        rules = await self.rules(origin_of(url))
        return rules.verdict(url, self._agent), rules.delay

    async def rules(self, origin: str) -> Rules:
        """Return what `origin` allows, fetched if it is not known yet."""
        task = self._rules.get(origin)
        if task is None:
            if len(self._rules) >= _MAX_ORIGINS:
                self._forget()
            task = self._rules[origin] = asyncio.create_task(self._read(origin))
        return task.result() if task.done() else await asyncio.shield(task)

    async def _read(self, origin: str) -> Rules:
        return rules_of(await self._fetch(f"{origin}/robots.txt"), self._agent)

    def _forget(self) -> None:
        """Drop the older half of the files that have been read."""
        read = [origin for origin, task in self._rules.items() if task.done()]
        for origin in read[: _MAX_ORIGINS // 2]:
            del self._rules[origin]
