"""Sitemaps: what they list, of whatever form and state, and a crawl that goes by them."""

import asyncio
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.crawl import sitemaps
from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.sitemaps import Sitemaps, listed_pages, read_sitemap
from tests.data_pipeline.build_here import build_here, reasons
from tests.data_pipeline.crawl.scripted_server import ScriptedServer, answer
from tests.data_pipeline.sources.pictures import served, write_picture

SPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
PAGES = f"""<?xml version="1.0" encoding="UTF-8"?>
<urlset {SPACE} xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
 <url><loc> http://a.test/one?a=1&amp;b=2 </loc><lastmod>2026-01-01</lastmod>
  <image:image><image:loc>http://a.test/picture.jpg</image:loc></image:image></url>
 <url><loc><![CDATA[http://a.test/two]]></loc></url>
</urlset>""".encode()
FOUND = ["http://a.test/one?a=1&b=2", "http://a.test/two"]


def _index(*places: str) -> bytes:
    entries = "".join(f"<sitemap><loc>{place}</loc></sitemap>" for place in places)
    return f"<sitemapindex {SPACE}>{entries}</sitemapindex>".encode()


@pytest.mark.parametrize(
    "data",
    [
        PAGES,
        gzip.compress(PAGES, mtime=0),
        b"\n \xef\xbb\xbf" + PAGES.partition(b"\n")[2],
        PAGES.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        PAGES.replace(b"<url>", b"<s:url>")
        .replace(b"</url>", b"</s:url>")
        .replace(b"<urlset ", b'<urlset xmlns:s="x" '),
        PAGES.replace(b"</urlset>", b"<url><loc>http://a.test/lost & <b>"),
        "\r\n".join(["# no address", *FOUND]).encode(),
    ],
    ids=["xml", "packed", "mark", "utf-16", "prefix", "damaged", "text"],
)
def test_pages_are_listed(data: bytes) -> None:
    assert read_sitemap(data).pages == FOUND


def test_an_index_lists_sitemaps() -> None:
    found = read_sitemap(_index("http://a.test/1.xml", "http://a.test/2.xml.gz"))
    assert found.sitemaps == ["http://a.test/1.xml", "http://a.test/2.xml.gz"]
    assert found.pages == []


def test_entities_do_not_unfold() -> None:
    declared = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    text = f'<!DOCTYPE urlset [<!ENTITY e0 "lol">{declared}]>'
    data = f"<?xml version='1.0'?>{text}<urlset><url><loc>&e9;</loc></url></urlset>"
    assert read_sitemap(data.encode()).pages == []
    outside = '<!DOCTYPE urlset [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    data = f"<?xml version='1.0'?>{outside}<urlset><url><loc>&x;</loc></url></urlset>"
    assert read_sitemap(data.encode()).pages == []


def test_floods_end_at_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemaps, "MAX_ENTRIES", 10)
    entries = b"<url><loc>http://a.test/x</loc></url>" * 100
    assert len(read_sitemap(b"<urlset>" + entries + b"</urlset>").pages) == 10
    assert len(read_sitemap(b"http://a.test/x\n" * 100).pages) == 10
    deep = b"<urlset>" + b"<url><loc>" * 300_000
    assert read_sitemap(deep).pages == []
    bomb = gzip.compress(b" " * (60 << 20), 1)
    assert read_sitemap(bomb) == sitemaps.Sitemap()
    long = b"<urlset><url><loc>" + b"x" * 1_000_000 + b"</loc></url></urlset>"
    assert all(len(page) < 10_000 for page in read_sitemap(long).pages)


@settings(max_examples=60, deadline=None)
@given(
    st.binary() | st.text().map(lambda text: f"<urlset><url><loc>{text}".encode("utf-8", "replace"))
)
def test_no_bytes_break_the_reader(data: bytes) -> None:
    read_sitemap(data)


def test_one_host_is_read_within_its_limits() -> None:
    async def run() -> tuple[list[str], list[str], list[str]]:
        index = _index("/relative.xml", "http://a.test/1.xml", "http://b.test/2.xml")
        again = _index("http://a.test/index.xml", *(f"http://a.test/n{n}.xml" for n in range(9)))
        scripts = {
            "/index.xml": answer(200, index),
            "/1.xml": answer(200, PAGES),
            "/robots.txt": answer(
                200, b"Sitemap: http://a.test/index.xml\nSitemap: http://a.test/again.xml"
            ),
            "/again.xml": answer(200, again),
        }
        async with ScriptedServer(scripts) as server, Fetcher(server.settings()) as fetcher:
            named = await fetcher.sitemaps("http://a.test")
            scope = Sitemaps(enabled=True, max_files=4)
            pages = await listed_pages("http://a.test", named, fetcher.fetch, scope)
            few = Sitemaps(enabled=True, max_addresses=1)
            one = await listed_pages("http://a.test", named, fetcher.fetch, few)
            return pages, one, server.paths

    pages, one, paths = asyncio.run(run())
    assert pages == FOUND
    assert one == FOUND[:1]
    # Once the robots.txt, then index, again, 1.xml and one more of the list; none of another host.
    assert paths[:5] == ["/robots.txt", "/index.xml", "/again.xml", "/1.xml", "/n0.xml"]


def test_a_crawl_goes_by_sitemaps_where_it_is_told_to(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for number in (1, 2):
        write_picture(site / f"{number}.jpg", number)
    (site / "index.html").write_text('<p>A mill</p><img src="1.jpg" alt="An old mill by a river">')
    (site / "two").mkdir()
    (site / "two" / "index.html").write_text('<img src="/2.jpg" alt="A boat on a quiet lake">')
    (site / "sitemap.xml").write_bytes(PAGES.replace(b"/two]", b"/two/]"))
    (tmp_path / "seeds.txt").write_text("http://a.test/\n")
    found = {}
    with served(site) as download:
        for name, enabled, depth in (("off", False, 2), ("on", True, 2), ("seeds", True, 0)):
            source = {"kind": "crawl", "seeds": [str(tmp_path / "seeds.txt")], "max_depth": depth}
            source["sitemaps"] = {"enabled": enabled}
            built = build_here(
                tmp_path / name,
                {
                    "collect": {"source": source, "partitions": 1},
                    "download": download,
                    "image_filter": {"natural": {"enabled": False}},
                    "score": {"enabled": False},
                },
            )
            found[name] = sorted(reasons(tmp_path / name))
            listed = built.counts["crawl"].get("listed in sitemaps", 0)
            assert listed == (2 if name == "on" else 0)
    assert found["off"] == found["seeds"] == ["http://a.test/1.jpg"]
    assert found["on"] == ["http://a.test/1.jpg", "http://a.test/2.jpg"]
