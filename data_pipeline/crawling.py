"""Crawls live, in rounds: units fetch the pages of a round, then the next round is planned.

What is fetched in a round depends on the links found in the rounds before and on nothing else, not
on which page came first, so that a crawl that was killed and goes on ends where any other ends.
"""

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import Scheduler
from data_pipeline.sources.recipe import CrawlSource
from data_pipeline.units import Entry, Unit, finish_phase
from trawl import storage
from trawl.errors import RequestError

_SCHEMES = ("http://", "https://")


def crawl_source(recipe: CorpusRecipe) -> CrawlSource:
    """Return the source of a recipe that crawls."""
    source = recipe.collect.source
    assert isinstance(source, CrawlSource)
    return source


def seed_addresses(source: CrawlSource) -> list[str]:
    """Return the seeds: addresses as they stand, and those in files, one a line, `#` comments."""
    found: list[str] = []
    for seed in source.seeds:
        if seed.startswith(_SCHEMES):
            found.append(seed)
            continue
        lines = (line.strip() for line in storage.read_text(seed).splitlines())
        found.extend(line for line in lines if line and not line.startswith("#"))
    for address in found:
        if not address.startswith(_SCHEMES):
            raise RequestError(f"collect.source.seeds: {address!r} is no http address")
    if not found:
        raise RequestError("collect.source.seeds: no address in them; add one a line")
    return list(dict.fromkeys(found))


def crawl(scheduler: Scheduler, source: CrawlSource) -> None:
    """Run the rounds of a crawl until no page is left or a limit is reached."""
    entries: dict[str, Entry] = {}
    for number in range(source.max_depth + 1):
        name = f"{number:04d}"
        finish_phase(scheduler.out, "crawl", entries)
        plan = scheduler.run("frontier", [Unit("frontier", name, {"round": number})])[name]
        lanes = plan.result["lanes"]
        if not lanes:
            break
        units = [
            Unit("crawl", f"{name}-{lane:05d}", {"round": number, "lane": lane}, str(lane))
            for lane in lanes
        ]
        entries |= scheduler.run("crawl", units)
    finish_phase(scheduler.out, "crawl", entries)
