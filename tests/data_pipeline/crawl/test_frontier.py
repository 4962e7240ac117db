"""Rounds of a live crawl."""

import random

from data_pipeline.crawl.frontier import CrawlScope, Frontier, first_round, next_round
from data_pipeline.crawl.page import Page


def crawl(web: dict[str, list[str]], seeds: list[str], scope: CrawlScope, seed: int) -> list[str]:
    """Crawl a web given as page -> links, each round in a shuffled order; return the pages."""
    fetched: list[str] = []
    frontier = first_round(seeds, scope)
    while frontier.urls:
        fetched.extend(frontier.urls)
        pages = [Page(url, links=web.get(url, [])) for url in frontier.urls]
        random.Random(seed).shuffle(pages)
        frontier = next_round(frontier, pages, scope)
    return fetched


def test_rounds_are_breadth_first_and_each_page_comes_once() -> None:
    web = {
        "http://a.org/": ["http://a.org/2", "http://A.org/1#x", "http://a.org/"],
        "http://a.org/1": ["http://a.org/3", "http://a.org/2"],
        "http://a.org/2": ["http://a.org/3"],
        "http://a.org/3": ["http://a.org/4"],
    }
    scope = CrawlScope(max_depth=2)
    pages = crawl(web, ["HTTP://a.org"], scope, 0)
    assert pages == [f"http://a.org/{n}" for n in ("", 1, 2, 3)]
    assert crawl(web, ["HTTP://a.org"], CrawlScope(max_depth=0), 0) == pages[:1]


def test_the_order_of_arrival_changes_nothing() -> None:
    chance = random.Random(5)
    names = [f"http://h{n % 5}.org/{n}" for n in range(300)]
    web = {name: chance.sample(names, 6) for name in names}
    scope = CrawlScope(max_depth=9, max_pages=120, max_pages_per_host=30)
    hosts = CrawlScope.model_validate({**scope.model_dump(), "hosts": ["*.org"]})
    runs = [crawl(web, names[:1], hosts, seed) for seed in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == len(set(runs[0])) == 120
    counts = [sum(f"//h{n}." in url for url in runs[0]) for n in range(5)]
    assert max(counts) <= 30
    assert min(counts) >= 15


def test_what_is_followed() -> None:
    scope = CrawlScope(exclude=["*/login*"])
    frontier = first_round(["http://a.org/", "mailto:x@y"], scope)
    assert frontier.urls == ("http://a.org/",)
    links = [
        "http://a.org/page",
        "http://a.org/page?utm_source=x",
        "http://a.org/x.JPG",
        "http://a.org/doc.pdf",
        "http://a.org/login?next=1",
        "http://b.org/",
        "http://sub.a.org/",
        "http://a.org/v1.2",
    ]
    following = next_round(frontier, [Page("http://a.org/", links=links)], scope)
    assert following.urls == ("http://a.org/page", "http://a.org/v1.2")
    wide = CrawlScope(hosts=["*"], strip_tracking=False)
    assert (
        len(
            next_round(
                first_round(["http://a.org/"], wide), [Page("http://a.org/", links=links)], wide
            ).urls
        )
        == 6
    )


def test_a_page_reached_by_a_redirect_is_not_fetched_again() -> None:
    scope = CrawlScope()
    frontier = first_round(["http://a.org/old"], scope)
    page = Page("http://a.org/new", links=["http://a.org/new", "http://a.org/old"])
    following: Frontier = next_round(frontier, [page], scope)
    assert following.urls == ()
