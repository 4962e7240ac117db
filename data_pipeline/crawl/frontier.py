"""The order of a live crawl: breadth first, in rounds, the same whatever the timing.

A round is a sorted list of addresses. All of it is fetched, in any order; the links of its pages
then make the next round. Everything here is a pure function of what the pages said.
"""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from pydantic import Field

from data_pipeline.crawl.address import canonical, host_of, path_of, without_tracking
from data_pipeline.crawl.page import Page
from trawl.recipe import Recipe

_NO_PAGE_ENDINGS = """
jpg jpeg png gif webp avif svg bmp ico tif tiff heic jxl mp3 mp4 m4a m4v ogg ogv wav webm avi mov
mkv flv pdf ps doc docx xls xlsx ppt pptx odt ods epub mobi zip gz bz2 xz 7z rar tar tgz jar exe
dmg iso apk deb rpm css js mjs json xml rss atom woff woff2 ttf otf eot wasm bin csv txt
"""
_NO_PAGES = frozenset(_NO_PAGE_ENDINGS.split())


class CrawlScope(Recipe):
    """How far a live crawl goes from its seeds."""

    max_depth: int = Field(default=3, ge=0)
    """Links followed from a seed; 0 fetches the seeds alone."""

    max_pages: int = Field(default=100_000, ge=1)
    """Pages fetched in all."""

    max_pages_per_host: int = Field(default=1_000, ge=1)
    """Pages fetched from one host."""

    hosts: list[str] = []
    """Host patterns (`*.example.org`) that are followed; empty means the hosts of the seeds."""

    exclude: list[str] = []
    """Address patterns (`*/login*`) that are not followed."""

    strip_tracking: bool = True
    """Drop query parameters such as utm_source, so that one page is not fetched twice."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """Where a crawl stands: the round to fetch now, and what has been taken before it.

    `urls` are canonical and sorted. `seen` are all addresses of this and earlier rounds,
    `per_host` how many of them belong to each host. An empty round is the end.
    """

    depth: int
    urls: tuple[str, ...]
    seen: frozenset[str] = field(repr=False)
    per_host: dict[str, int] = field(repr=False)
    hosts: tuple[str, ...] = field(repr=False)


def first_round(seeds: Iterable[str], scope: CrawlScope) -> Frontier:
    """Return the round of the seeds; seeds that are no web addresses are left out."""
    found = {url for seed in seeds if (url := _cleaned(seed, scope)) is not None}
    hosts = tuple(scope.hosts) or tuple(sorted({host_of(url) for url in found}))
    empty = Frontier(-1, (), frozenset(), {}, hosts)
    return _advance(empty, found, scope)


def next_round(frontier: Frontier, pages: Iterable[Page], scope: CrawlScope) -> Frontier:
    """Return the round after `frontier`, made of the links of its `pages` in any order.

    The address of each page counts as seen, which may differ from the one in the round by a
    redirect.
    """
    links: set[str] = set()
    seen = set(frontier.seen)
    for page in pages:
        seen.add(page.url)
        links.update(page.links)
    grown = Frontier(
        frontier.depth, frontier.urls, frozenset(seen), frontier.per_host, frontier.hosts
    )
    if frontier.depth >= scope.max_depth:
        return Frontier(frontier.depth + 1, (), grown.seen, grown.per_host, grown.hosts)
    found = {url for link in links if (url := _cleaned(link, scope)) is not None}
    return _advance(grown, {url for url in found if _in_scope(url, frontier, scope)}, scope)


def _cleaned(address: str, scope: CrawlScope) -> str | None:
    url = canonical(address)
    return without_tracking(url) if url and scope.strip_tracking else url


def _in_scope(url: str, frontier: Frontier, scope: CrawlScope) -> bool:
    """Say whether a link leads to what may be a page, on a host that is followed."""
    host = host_of(url)
    if not any(fnmatch.fnmatchcase(host, pattern) for pattern in frontier.hosts):
        return False
    ending = path_of(url).rpartition("/")[2].rpartition(".")
    if ending[1] and ending[2].lower() in _NO_PAGES:
        return False
    return not any(fnmatch.fnmatchcase(url, pattern) for pattern in scope.exclude)


def _advance(frontier: Frontier, found: set[str], scope: CrawlScope) -> Frontier:
    """Take from `found` what is new, within the budgets; hosts share what is left evenly."""
    by_host: dict[str, list[str]] = {}
    for url in sorted(found - frontier.seen):
        by_host.setdefault(host_of(url), []).append(url)
    for host, urls in by_host.items():
        del urls[max(0, scope.max_pages_per_host - frontier.per_host.get(host, 0)) :]
    in_turn = [url for turn in zip_longest(*by_host.values()) for url in turn if url is not None]
    taken = in_turn[: max(0, scope.max_pages - sum(frontier.per_host.values()))]
    per_host = dict(frontier.per_host)
    for url in taken:
        host = host_of(url)
        per_host[host] = per_host.get(host, 0) + 1
    return Frontier(
        frontier.depth + 1,
        tuple(sorted(taken)),
        frontier.seen | frozenset(taken),
        per_host,
        frontier.hosts,
    )
