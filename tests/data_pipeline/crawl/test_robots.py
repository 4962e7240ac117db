"""robots.txt as RFC 9309 has it, through the fetcher."""

import gzip

import pytest

from data_pipeline.crawl.robots import ROBOTS_BYTES
from tests.data_pipeline.crawl.scripted_server import Script, answer, raw, redirect
from tests.data_pipeline.crawl.test_fetch import fetch_all

PAGES = {"/open": answer(200, b"open"), "/closed/x": answer(200, b"closed")}
URLS = ["http://site.test/open", "http://site.test/closed/x"]


def bodies(robots: Script | None, **changes: object) -> list[bytes | str | None]:
    """Fetch an open and a closed page; return body or reason of each."""
    scripts = PAGES if robots is None else {**PAGES, "/robots.txt": robots}
    found, _ = fetch_all(scripts, URLS, respect_robots=True, **changes)
    return [found[url].body or found[url].error for url in URLS]


RULES = b"User-agent: *\nDisallow: /closed\n"
BOTH = [b"open", b"closed"]


def test_rules_are_kept() -> None:
    assert bodies(answer(200, RULES)) == [b"open", "robots"]


def test_rules_for_us_by_name_go_before_those_for_all() -> None:
    named = b"User-agent: *\nDisallow: /\n\nUser-agent: TRAWL\nDisallow: /closed\nAllow: /\n"
    assert bodies(answer(200, named)) == [b"open", "robots"]
    assert bodies(answer(200, named), user_agent="Other/2.0") == ["robots", "robots"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_allows_everything(status: int) -> None:
    assert bodies(answer(status)) == BOTH


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_file_allows_nothing(status: int) -> None:
    found, server = fetch_all(
        {**PAGES, "/robots.txt": answer(status)}, URLS, respect_robots=True, retries=0
    )
    assert {(result.error, result.transient) for result in found.values()} == {("robots", True)}
    assert server.paths == ["/robots.txt"]


def test_an_origin_that_cannot_be_reached_keeps_its_own_reason() -> None:
    assert bodies(raw(b"", pause=60), timeout_seconds=0.2) == ["timeout", "timeout"]
    assert bodies(raw(reset=True), retries=0) == ["connection", "connection"]


def test_redirects_are_followed_to_another_host_and_given_up_as_missing() -> None:
    scripts = {
        **PAGES,
        "/robots.txt": redirect("http://www.other.test/rules"),
        "/rules": answer(200, RULES),
    }
    found, _ = fetch_all(scripts, URLS, respect_robots=True, max_redirects=0)
    assert found[URLS[1]].error == "robots"
    assert bodies(redirect("/robots.txt")) == BOTH


def test_only_the_first_part_of_a_long_file_counts() -> None:
    padding = b"#" + b"x" * 1000 + b"\n"
    early = RULES + padding * 600 + b"Disallow: /open\n"
    assert len(early) > ROBOTS_BYTES
    assert bodies(answer(200, early)) == [b"open", "robots"]
    assert bodies(raw(b"HTTP/1.1 200 OK\r\n\r\n" + RULES, padding, endless=True)) == [
        b"open",
        "robots",
    ]
    assert bodies(answer(200, gzip.compress(early * 3), "Content-Encoding: gzip")) == [
        b"open",
        "robots",
    ]


def test_bytes_that_are_no_text_allow_everything() -> None:
    assert bodies(answer(200, b"\xef\xbb\xbf\xff\xfe\0\0<html>nonsense")) == BOTH


def test_a_byte_order_mark_hides_no_rule() -> None:
    assert bodies(answer(200, b"\xef\xbb\xbf" + RULES)) == [b"open", "robots"]


def test_a_redirect_into_a_closed_part_is_refused() -> None:
    scripts = {**PAGES, "/robots.txt": answer(200, RULES), "/open": redirect("/closed/x")}
    found, server = fetch_all(scripts, URLS[:1], respect_robots=True)
    assert found[URLS[0]].error == "robots"
    assert "/closed/x" not in server.paths


def test_a_crawl_delay_is_kept_up_to_our_bound() -> None:
    slow = b"User-agent: *\nCrawl-delay: 86400\nDisallow: /closed\n"
    assert bodies(answer(200, slow), max_pause_seconds=0.01) == [b"open", "robots"]


def test_each_origin_is_asked_once() -> None:
    scripts = {f"/{n}": answer(200, b"x") for n in range(20)}
    scripts["/robots.txt"] = answer(200, b"")
    urls = [f"http://h{n % 2}.test/{n}" for n in range(20)]
    _, server = fetch_all(scripts, urls, respect_robots=True)
    asked = [host for host, path in server.requests if path == "/robots.txt"]
    assert sorted(asked) == ["h0.test", "h1.test"]
