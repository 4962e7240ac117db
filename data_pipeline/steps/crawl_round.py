"""One round of a live crawl: plans its addresses, fetches its pages, collects their candidates.

A unit fetches the pages of one group of hosts, all of them side by side, so that robots.txt and
the limits per host hold within the unit; units of the same group never run at the same time.
"""

import asyncio
import collections
import json

import pyarrow as pa

from data_pipeline.crawl.address import host_of, origin_of
from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.frontier import Frontier, first_round, next_round
from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Fetched, Page
from data_pipeline.crawl.sitemaps import listed_pages
from data_pipeline.crawling import crawl_source, seed_addresses
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.sources.recipe import CrawlSource
from data_pipeline.steps.collect import add_page, is_page, with_signals
from data_pipeline.steps.tables import (
    CANDIDATES,
    PartitionedRows,
    Row,
    iterate_rows,
    partition_of,
    partitioned,
    read_partition,
    write_rows,
)
from data_pipeline.units import Result, Work
from trawl import storage

ADDRESSES = pa.schema([("url", pa.string())])
PAGES = pa.schema([("url", pa.string()), ("links", pa.string())])


def plan(work: Work) -> Result:
    """Write the addresses of a round by group of hosts, and where the crawl stands with it."""
    source = crawl_source(work.recipe)
    number = int(work.unit.inputs["round"])
    known: dict[str, int] = {}
    if number == 0:
        frontier = first_round(seed_addresses(source), source)
    else:
        earlier = _read_frontier(work, number - 1)
        known = earlier.per_host
        frontier = next_round(earlier, _pages(work, number - 1), source)
    groups: set[int] = set()
    with partitioned(work.place("addresses.parquet"), ADDRESSES) as rows:
        for url in frontier.urls:
            group = partition_of(host_of(url), work.recipe.collect.partitions)
            groups.add(group)
            rows.add(group, {"url": url})
    if _reads_sitemaps(source, number):
        _write_origins(work, [url for url in frontier.urls if host_of(url) not in known])
    _write_frontier(work, frontier)
    return {"counts": {"addresses": len(frontier.urls)}, "lanes": sorted(groups)}


def _reads_sitemaps(source: CrawlSource, number: int) -> bool:
    """Say whether sitemaps are read in round `number`: not in the last, which follows no link."""
    return source.sitemaps.enabled and number < source.max_depth


def _write_origins(work: Work, urls: list[str]) -> None:
    """Write the origins whose sitemaps this round reads: of hosts that are met first in it."""
    with partitioned(work.place("origins.parquet"), ADDRESSES) as rows:
        for origin in sorted({origin_of(url) for url in urls}):
            group = partition_of(host_of(origin), work.recipe.collect.partitions)
            rows.add(group, {"url": origin})


def _write_frontier(work: Work, frontier: Frontier) -> None:
    """Keep what the next round is planned from."""
    write_rows(work.place("seen.parquet"), ({"url": u} for u in sorted(frontier.seen)), ADDRESSES)
    state = {"per_host": frontier.per_host, "hosts": frontier.hosts, "urls": frontier.urls}
    storage.write_json(work.place("state.json"), state)


def _read_frontier(work: Work, number: int) -> Frontier:
    """Return where the crawl stood when round `number` was planned."""
    name = f"{number:04d}"
    state = storage.read_json(work.earlier("frontier", "state.json")[name])
    seen = iterate_rows(work.earlier("frontier", "seen.parquet")[name])
    return Frontier(
        number,
        tuple(state["urls"]),
        frozenset(row["url"] for row in seen),
        state["per_host"],
        tuple(state["hosts"]),
    )


def _pages(work: Work, number: int) -> list[Page]:
    """Return the pages of round `number` with their links alone."""
    places = work.earlier("crawl", "pages.parquet")
    return [
        Page(row["url"], links=json.loads(row["links"]))
        for unit, place in places.items()
        if unit.startswith(f"{number:04d}-")
        for row in iterate_rows(place)
    ]


def run(work: Work) -> Result:
    """Fetch the pages of one group of hosts of one round; write candidates and links."""
    name, group = f"{work.unit.inputs['round']:04d}", int(work.unit.inputs["lane"])
    urls = [
        row["url"]
        for row in read_partition(work.earlier("frontier", "addresses.parquet")[name], group)
    ]
    counts: collections.Counter[str] = collections.Counter()
    origins: list[str] = []
    if _reads_sitemaps(crawl_source(work.recipe), int(work.unit.inputs["round"])):
        place = work.earlier("frontier", "origins.parquet")[name]
        origins = [row["url"] for row in read_partition(place, group)]
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        pages = asyncio.run(_fetch(urls, origins, work.recipe, rows, counts))
    write_rows(work.place("pages.parquet"), sorted(pages, key=lambda row: row["url"]), PAGES)
    return {"counts": dict(counts)}


async def _fetch(
    urls: list[str],
    origins: list[str],
    recipe: CorpusRecipe,
    rows: PartitionedRows,
    counts: collections.Counter[str],
) -> list[Row]:
    """Fetch pages, add their candidates to `rows`, and return their links.

    What the sitemaps of `origins` list counts as the links of a page there.
    """
    pages = []
    async with Fetcher(recipe.download) as fetcher:
        for origin, links in zip(origins, await _sitemaps(origins, fetcher, recipe), strict=True):
            counts["listed in sitemaps"] += len(links)
            pages.append({"url": f"{origin}/sitemap.xml", "links": json.dumps(links)})
        async for fetched in fetcher.fetch_many(urls):
            page = page_of(fetched, recipe.download.agent_token)
            if page is None:
                counts[f"page {fetched.error or 'not-html'}"] += 1
                continue
            add_page(page, recipe, rows, counts)
            pages.append({"url": page.url, "links": json.dumps(page.links)})
    return pages


async def _sitemaps(origins: list[str], fetcher: Fetcher, recipe: CorpusRecipe) -> list[list[str]]:
    """Return the pages that the sitemaps of each origin list, the hosts side by side."""

    async def listed(origin: str) -> list[str]:
        named = await fetcher.sitemaps(origin)
        return await listed_pages(origin, named, fetcher.fetch, crawl_source(recipe).sitemaps)

    return await asyncio.gather(*map(listed, origins))


def page_of(fetched: Fetched, agent: str) -> Page | None:
    """Return the page that was fetched with the signals of its headers, None if it is none."""
    content_type = fetched.headers.get("content-type", "text/html")
    if fetched.body is None or not is_page(content_type):
        return None
    page = extract(fetched.final_url, fetched.body, content_type, agent=agent)
    return with_signals(page, fetched.robots)
