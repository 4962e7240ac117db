"""The walk in C and the walk in Python say the same of every page, to the last character."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipeline.crawl import fast_walk
from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Page
from data_pipeline.crawl.warc import read_warc
from tests.fuzz.entrances import _HTML_TOKENS, _ODD_BYTES, _PAGE
from trawl.demo.pages import page_html
from trawl.demo.planning import plan_web

URL = "http://site.org/dir/sub/page.html?q"
WEB = Path(__file__).parents[4] / "shared" / "data" / "web"

NATIVE = fast_walk.native()

pytestmark = pytest.mark.skipif(
    NATIVE is None, reason="the extension is not built: pip install --editable ."
)


@pytest.fixture(autouse=True)
def both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `fast_walk` ask `Ways` which of its walks is wanted."""
    monkeypatch.setattr(fast_walk, "native", Ways.take)


class Ways:
    in_python = False
    asked: list[bool] = []

    @classmethod
    def take(cls) -> object:
        cls.asked.append(cls.in_python)
        return None if cls.in_python else NATIVE


def read(in_python: bool, url: str, html: bytes, content_type: str, with_links: bool) -> Page:
    Ways.in_python, Ways.asked = in_python, []
    page = extract(url, html, content_type, with_links)
    assert set(Ways.asked) <= {in_python}
    return page


def agree(
    url: str, html: bytes, content_type: str = "text/html", links: tuple[bool, ...] = (False, True)
) -> Page:
    for with_links in links:
        native = read(False, url, html, content_type, with_links)
        assert native == read(True, url, html, content_type, with_links)
    return native


def test_the_walk_in_c_is_the_one_that_runs() -> None:
    read(False, URL, b"<img src=a.jpg>", "text/html", True)
    assert Ways.asked == [False, False, False]


@pytest.mark.parametrize("tags", [0, 1, 254, 255, 256, 5000, 5001, 20_000])
@pytest.mark.parametrize("odd", [b"", b"\x1b(B", "é".encode(), b"\xff"])
def test_the_survey_before_the_parse(tags: int, odd: bytes) -> None:
    html = b"<b>x" * tags + odd + b" " * 70_000
    assert NATIVE is not None
    assert NATIVE.survey(html) == (not odd, tags)
    Ways.in_python = False
    native = fast_walk.pieces_of(html, "")
    Ways.in_python = True
    assert fast_walk.pieces_of(html, "") == native


MARKUP = (
    *(token.decode() for token in _HTML_TOKENS.split()),
    *_PAGE.replace("><", ">\0<").split("\0"),
    *("boat ", "\n ", "\xa0", "é", "x" * 290 + " ", "a b " * 90, "<span>Red</span>", "<br>"),
    *("<td>", "<td colspan=2>", "<td rowspan=2>", "<td colspan=0>", "</tr><tr>", "<tr><td>"),
    *(
        "<div class='AD x'>",
        "<div id=main role=banner>",
        "<div class=caption>",
        "<p class=Légende>",
    ),
    *(
        "<img src=logo.gif>",
        "<img src='/a/b.png' alt='É  b' width=40 height=1e3>",
        "<img src=//x/y>",
    ),
    *(
        "<img data-src=l.jpg src=s.jpg>",
        "<img srcset='a 1x, b 2x' src=a>",
        "<img srcset='a,b 1.5x'>",
    ),
    *(
        "<a href='big.JPG#x' title=T>",
        "<a style='background:url(s.jpg)'>",
        "<a rel=LICENSE href=/l>",
    ),
    *(
        "<i style='background: URL(t.jpg)'>",
        "<base href=/other/>",
        "<style>.caption{background:url(u.jpg)}",
    ),
    *(
        "<h2>A <b>head",
        "<meta property=og:image content=m.jpg>",
        "<link itemprop=image href=i.jpg>",
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(MARKUP), max_size=40).map("".join))
@example(_PAGE)
@example("<div class=nav>" * 300 + "<figure class=ad><img src=a.jpg><figcaption>F" + "<b>" * 300)
@example("".join(f"<p>{'w' * n} {'v ' * n}<img src={n}.jpg>" for n in range(280, 320)))
@example("".join(f"<a href=#{n}><img src=a.jpg alt=' {n}'></a>" for n in range(2100)))
@example("".join(f"<img src={n}.jpg>" for n in range(2100)) + "<p>" * 4000)
def test_made_pages(html: str) -> None:
    agree(URL, html.encode())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from((*_ODD_BYTES, *map(str.encode, MARKUP))), max_size=20).map(b"".join)
)
def test_odd_bytes(html: bytes) -> None:
    agree(URL, html, "")


@pytest.mark.parametrize("url", ["http://é ü/x/", "", "x", "ftp://a/b/c", "http://exämple.org/ü/é"])
def test_odd_addresses_of_pages(url: str) -> None:
    found = agree(url, (_PAGE + "<a href=../z>z</a><img src=/r.jpg><img src=up.jpg>").encode())
    agree(url, b"<a href=../z>z</a><img src=/r.jpg><img src=up.jpg><base href=y><img src=../v.jpg>")
    assert found.error is None


def test_the_demo_web() -> None:
    web = plan_web(3, 40)
    found = [agree(page.url, page_html(3, page)) for page in web.pages]
    assert sum(len(page.candidates) for page in found) > len(found)


def real_pages() -> Iterator[Path]:
    return iter(sorted(WEB.glob("*.warc.gz")))


@pytest.mark.skipif(not WEB.is_dir(), reason="real pages lie beside the checkout of some machines")
@pytest.mark.parametrize("file", real_pages(), ids=lambda file: file.name.partition(".")[0])
def test_real_pages(file: Path) -> None:
    pages = 0
    for record in read_warc(file, wanted=lambda record: "html" in record.content_type):
        if record.body is not None:
            agree(record.url, record.body, record.content_type, (pages % 2 == 0,))
            pages += 1
    assert pages


def test_extension_without_lexbor_is_refused() -> None:
    from data_pipeline.crawl import _walk

    with pytest.raises(ImportError, match="not loaded"):
        _walk.prepare("/nowhere/lexbor.so", fast_walk._TAG_SETS, fast_walk._TWINS)
    with pytest.raises(ImportError, match="no lxb_dom"):
        _walk.prepare(_walk.__file__, fast_walk._TAG_SETS, fast_walk._TWINS)
