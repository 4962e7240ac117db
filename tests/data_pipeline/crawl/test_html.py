"""Pages to links and candidates, with the damage that real pages have."""

import pickle
from pathlib import Path

import pytest

from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Candidate, Page
from data_pipeline.crawl.walk import MAX_LINKS
from data_pipeline.crawl.warc import read_warc

URL = "http://site.org/dir/page.html"


def page_of(body: str, head: str = "") -> Page:
    html = f"<!doctype html><html><head>{head}</head><body>{body}</body></html>"
    return extract(URL, html.encode(), "text/html; charset=utf-8")


def only(body: str, head: str = "") -> Candidate:
    candidates = page_of(body, head).candidates
    assert len(candidates) == 1, candidates
    return candidates[0]


def texts(candidate: Candidate, source: str) -> list[str]:
    return [text.text for text in candidate.texts if text.source == source]


@pytest.mark.parametrize(
    ("markup", "image"),
    [
        ("<img src=a.jpg>", "dir/a.jpg"),
        ("<IMG SRC='../a.jpg'>", "a.jpg"),
        ('<img src="images\\a.jpg">', "dir/images/a.jpg"),
        ('<img src=" a b.jpg\n">', "dir/a%20b.jpg"),
        ("<img src=//site.org:80/a.jpg#x>", "a.jpg"),
        ("<img src=data:image/gif;base64,R0 data-src=a.jpg>", "dir/a.jpg"),
        ("<img src=small.gif data-original=a.jpg>", "dir/a.jpg"),
        ("<img src=small.gif data-lazy-src=a.jpg>", "dir/a.jpg"),
        ("<img src=s.jpg srcset='m.jpg 640w, l.jpg 1280w, s.jpg 320w'>", "dir/l.jpg"),
        ("<img src=s.jpg srcset='l.jpg 2x'>", "dir/l.jpg"),
        ("<img src=s.jpg data-srcset='l.jpg 900w'>", "dir/l.jpg"),
        ("<img src=s.jpg srcset='data:image/gif;base64,xx 9w'>", "dir/s.jpg"),
        (
            "<picture><source srcset='x.avif 2000w' type=image/avif>"
            "<source srcset='l.webp 1600w' type=image/webp><img src=s.jpg></picture>",
            "dir/l.webp",
        ),
        ("<noscript><img src=a.jpg></noscript>", "dir/a.jpg"),
        ("<amp-img src=a.jpg></amp-img>", "dir/a.jpg"),
        ("<table><img src=a.jpg>", "dir/a.jpg"),
        ("<div <p><img src=a.jpg alt='unclosed", None),
        ("<img src=>", None),
        ("<img src=data:image/gif;base64,R0>", None),
        ("<img src='javascript:x'>", None),
        ("<img src='{{ item.image }}'>", None),
        ("<img alt=nothing>", None),
        ("<!-- <img src=a.jpg> -->", None),
        ("<script>'<img src=a.jpg>'</script>", None),
        ("<textarea><img src=a.jpg></textarea>", None),
    ],
)
def test_where_an_image_is(markup: str, image: str | None) -> None:
    found = [candidate.image for candidate in page_of(markup).candidates]
    assert found == ([] if image is None else [f"http://site.org/{image}"])


def test_other_addresses_of_a_picture_are_kept_in_order() -> None:
    candidate = only("<img src=s.jpg data-src=d.jpg srcset='m.jpg 640w, l.jpg 1280w'>")
    names = [url.rpartition("/")[2] for url in (candidate.image, *candidate.alternatives)]
    assert names == ["l.jpg", "m.jpg", "d.jpg", "s.jpg"]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("full/a.jpg", ["t.jpg", "full/a.jpg"]),
        ("full/a.JPEG?w=9#x", ["t.jpg", "full/a.JPEG?w=9"]),
        ("t.jpg", ["t.jpg"]),
        ("a.html", ["t.jpg"]),
        ("wiki/File:a.jpg", ["t.jpg"]),
        ("javascript:show('a.jpg')", ["t.jpg"]),
        ("//other.org/a.png", ["t.jpg", "http://other.org/a.png"]),
    ],
)
def test_the_target_of_a_thumbnail_is_another_address_of_it(target: str, names: list[str]) -> None:
    candidate = only(f'<a href="{target}" title=T><b><img src=t.jpg></b></a>')
    found = [candidate.image, *candidate.alternatives]
    assert [url.removeprefix("http://site.org/dir/") for url in found] == names
    assert texts(candidate, "anchor") == ["T"]


def test_a_target_comes_before_the_smaller_sizes() -> None:
    candidate = only("<a href=full.jpg><img src=s.jpg srcset='m.jpg 640w, l.jpg 1280w'></a>")
    names = [url.rpartition("/")[2] for url in (candidate.image, *candidate.alternatives)]
    assert names == ["l.jpg", "full.jpg", "m.jpg", "s.jpg"]


def test_base_href() -> None:
    page = page_of("<img src=a.jpg><a href=b>", '<base href="/x/y/"><base href="/no/">')
    assert page.candidates[0].image == "http://site.org/x/y/a.jpg"
    assert page.links == ["http://site.org/x/y/b"]
    assert (
        page_of("<img src=a.jpg>", "<base href='mailto:x'>")
        .candidates[0]
        .image.endswith("/dir/a.jpg")
    )


def test_texts_of_an_image() -> None:
    candidate = only(
        """<h2>Boats of <i>Norway</i></h2><p>Before the   picture.</p>
        <figure aria-label="A figure"><a href="/big" title="See it large"><img src="red-boat_01.jpg"
        alt=" A red\nboat " title="Boat" aria-label="boat at sea" width=640 height="480px"></a>
        <figcaption>A red boat &amp; its <b>crew</b></figcaption></figure><p>After it.</p>"""
    )
    assert {
        source: texts(candidate, source)
        for source in ("alt", "title", "aria", "figcaption", "anchor", "heading", "filename")
    } == {
        "alt": ["A red boat"],
        "title": ["Boat"],
        "aria": ["boat at sea", "A figure"],
        "figcaption": ["A red boat & its crew"],
        "anchor": ["See it large"],
        "heading": ["Boats of Norway"],
        "filename": ["red boat 01"],
    }
    assert "Before the picture." in texts(candidate, "surrounding")
    assert (candidate.width, candidate.height, candidate.in_link) == (640, 480, True)


@pytest.mark.parametrize(
    ("markup", "source", "expected"),
    [
        (
            "<p>Left <b>of it</b> <img src=a> right of it</p>",
            "surrounding",
            {"Left of it", "right of it"},
        ),
        ("<div><img src=a></div><p class=caption>The caption</p>", "figcaption", {"The caption"}),
        (
            "<div class=fig><img src=a><br><span class='wp-caption-text'>Cap</span></div>",
            "figcaption",
            {"Cap"},
        ),
        ("<figure><figcaption>Above</figcaption><img src=a></figure>", "figcaption", {"Above"}),
        (
            "<figure><img src=b><img src=a><figcaption>Both</figcaption></figure>",
            "figcaption",
            {"Both"},
        ),
        ("<table><tr><td><img src=a></td><td>Cell</td></tr></table>", "surrounding", {"Cell"}),
        (
            "<table><tr><td><img src=a></td></tr><tr><td>Below</td></tr></table>",
            "surrounding",
            {"Below"},
        ),
        (
            "<div><p>first</p><p>second</p></div><img src=a><div><p>third</p><p>4</p></div>",
            "surrounding",
            {"second", "third"},
        ),
        ("<ul><li><img src=a></li><li>another item</li></ul>", "surrounding", set()),
        ("<script>var x</script><img src=a><style>p{}</style><p>text</p>", "surrounding", {"text"}),
        ("<a href=x>Link text <img src=a></a>", "anchor", {"Link text"}),
        (
            "<table><tr><td><img src=b></td><td><img src=a></td></tr>"
            "<tr><td>Under b</td><td>Under <i>a</i></td></tr></table>",
            "figcaption",
            {"Under a"},
        ),
        (
            "<table><tr><td><img src=b></td><td><img src=a></td></tr>"
            "<tr><td>Under b</td><td>Under a</td></tr></table>",
            "surrounding",
            set(),
        ),
        (
            "<table><tr><td colspan=2><img src=b></td><td><p><a href=x><img src=a></a></p></td>"
            "</tr> <!-- --> <tr><td></td><td>Under b</td><td>Under a</td></tr></table>",
            "figcaption",
            {"Under a"},
        ),
        (
            "<table><tr><td><img src=b></td><td><img src=a></td></tr>"
            "<tr><td>Under b</td><td>Under <img src=c></td></tr><tr><td><img src=a></table>",
            "figcaption",
            set(),
        ),
        (
            "<table><tr><td><img src=b></td><td><img src=a></td></tr>"
            "<tr><td colspan=3>Under both</td></tr></table>",
            "figcaption",
            set(),
        ),
    ],
)
def test_texts_around_an_image(markup: str, source: str, expected: set[str]) -> None:
    candidate = page_of(markup).candidates[-1]
    assert set(texts(candidate, source)) == expected


def test_surrounding_text_is_cut_at_words_near_the_image() -> None:
    candidate = only(f"<p>{'far ' * 500}near</p><img src=a><p>close {'away ' * 500}</p>")
    before = next(text for text in texts(candidate, "surrounding") if text.endswith("near"))
    after = next(text for text in texts(candidate, "surrounding") if text.startswith("close"))
    assert len(before) <= 300
    assert len(after) <= 300
    assert set(before.split()) == {"far", "near"}
    assert set(after.split()) == {"close", "away"}


def test_a_picture_shown_twice_is_one_candidate_with_all_its_texts() -> None:
    candidate = only("<img src=a.jpg alt=one><p>x</p><img src='./a.jpg' alt=two>")
    assert texts(candidate, "alt") == ["one", "two"]
    assert candidate.dominance < only("<img src=a.jpg alt=one>").dominance


@pytest.mark.parametrize(
    ("markup", "container"),
    [
        ("<img src=a>", "other"),
        ("<main><img src=a></main>", "main"),
        ("<article><header><img src=a></header></article>", "main"),
        ("<header><img src=a></header>", "header"),
        ("<main><aside><img src=a></aside></main>", "aside"),
        ("<div role=navigation><article><img src=a></article></div>", "nav"),
        ("<footer><img src=a></footer>", "footer"),
        ("<div class='post-content'><img src=a></div>", "main"),
        ("<div id=leftSidebar><img src=a></div>", "aside"),
        ("<main><div class='ad-slot x'><p><img src=a></p></div></main>", "ad"),
        ("<main class=adventure><img src=a></main>", "main"),
        ("<div class=readme><img src=a></div>", "other"),
    ],
)
def test_containers(markup: str, container: str) -> None:
    assert only(markup).container == container


def test_dominance_orders_images_as_a_reader_would() -> None:
    page = page_of(
        """<header><img src=logo.png width=120 height=40></header>
        <main><figure><img src=hero.jpg width=800 height=600><figcaption>x</figcaption></figure>
        <p><img src=inline.jpg></p></main>
        <aside><a href=x><img src=thumb.jpg width=90 height=90></a></aside>
        <div class=advert><img src=buy.jpg width=300 height=250></div>
        <img src=pixel.gif width=1 height=1>"""
    )
    scores = {found.image.rpartition("/")[2]: found.dominance for found in page.candidates}
    assert scores["hero.jpg"] > scores["inline.jpg"] > 0.5
    assert max(scores[name] for name in ("logo.png", "thumb.jpg", "buy.jpg", "pixel.gif")) < 0.3
    assert all(0 <= score <= 1 for score in scores.values())


def test_images_of_metadata_come_last_and_only_if_the_page_does_not_show_them() -> None:
    head = """<meta property=og:title content="A title"><meta property="og:image" content="/og.jpg">
    <meta property="og:image:alt" content="og alt"><meta property=og:image content=shown.jpg>
    <script type="application/ld+json">{"@graph": [{"@type": "Article", "headline": "H",
    "license": "http://cc.org/by", "image": {"url": "ld.jpg", "caption": "C"}}]}</script>
    <script type="application/ld+json">{broken</script>"""
    page = page_of("<img src=shown.jpg>", head)
    assert [c.image.rpartition("/")[2] for c in page.candidates] == [
        "shown.jpg",
        "og.jpg",
        "ld.jpg",
    ]
    shown, og, ld = page.candidates
    assert (og.container, ld.container) == ("meta", "meta")
    assert og.dominance < shown.dominance
    assert texts(og, "alt") == ["og alt"]
    assert texts(ld, "alt") == ["C", "H"]
    assert shown.licence == "http://cc.org/by"


def test_links() -> None:
    page = page_of(
        """<a href=b.html#x>1</a><a href=b.html>2</a><a href="mailto:x@y">3</a><a name=q>4</a>
        <a href="#top">5</a><a href=c rel=nofollow>6</a><map><area href=/d></map><a href="/é ü">"""
    )
    assert page.links == [
        "http://site.org/dir/b.html",
        "http://site.org/d",
        "http://site.org/%C3%A9%20%C3%BC",
    ]
    assert page_of("<a href=x>", "<meta name=robots content=nofollow>").links == []
    many = extract(URL, b"".join(b"<a href=%d>" % n for n in range(MAX_LINKS + 99)), "text/html")
    assert len(many.links) == MAX_LINKS
    assert extract(URL, b"<a href=x><img src=y>", "text/html", with_links=False).links == []


@pytest.mark.parametrize("with_links", [True, False])
def test_robots_title_licence_and_language(with_links: bool) -> None:
    html = """<title> My
    page </title><meta name=robots content="noindex,NOAI"><meta name=tdm-reservation content=1>
    <a rel="license" href="http://cc.org/by/4.0/">x</a><p>The old harbour lies below the hill, and
    the boats come home in the evening when the wind is low.</p><img src=a.jpg>"""
    page = extract(URL, html.encode(), "text/html", with_links=with_links)
    assert page.title == "My page"
    assert page.robots == page.candidates[0].robots == ["noindex", "noai", "tdm-reservation"]
    assert page.candidates[0].licence == "http://cc.org/by/4.0/"
    assert page.language == page.candidates[0].language == "en"


@pytest.mark.parametrize(
    ("html", "content_type", "expected"),
    [
        ("é".encode(), "text/html", "é"),
        ("é".encode("latin-1"), "text/html", "é"),
        ("é€".encode("cp1252"), "text/html; charset=iso-8859-1", "é€"),
        ("é".encode(), "text/html; charset=iso-8859-1", "é"),
        ("привет мир".encode("koi8-r"), "text/html; charset=KOI8-R", "привет мир"),
        ("日本語".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "日本語"),
        ("日本語".encode("euc-jp"), "text/html;charset=euc-jp", "日本語"),
        ("中文".encode("gb18030"), "text/html; charset=gb2312", "中文"),
        ("한국어".encode("cp949"), "text/html; charset=euc-kr", "한국어"),
        ("é".encode(), "text/html; charset=utf-16", "é"),
        ("é".encode("latin-1"), "text/html; charset=no-such-thing", "é"),
        ("été".encode() + b"\xff" + "été été été été".encode(), "", "été\ufffdété été été été"),
        (b"x\0y", "text/html", "x\ufffdy"),
    ],
)
def test_encodings(html: bytes, content_type: str, expected: str) -> None:
    page = extract(URL, b"<img src=a.jpg alt='" + html + b"'>", content_type)
    assert texts(page.candidates[0], "alt") == [expected]


def test_encodings_declared_inside() -> None:
    body = "<img src=a alt='жук'>".encode("cp1251")
    for head in (
        b"<meta charset=windows-1251>",
        b"<meta http-equiv=Content-Type content='text/html; charset=windows-1251'>",
        b"<?xml version='1.0' encoding='windows-1251'?>",
    ):
        assert texts(extract(URL, head + body, "").candidates[0], "alt") == ["жук"]
    marked = b"\xef\xbb\xbf" + "<img src=a alt='жук'>".encode()
    assert texts(extract(URL, marked, "text/html; charset=koi8-r").candidates[0], "alt") == ["жук"]
    wide = "<img src=a alt='жук'>".encode("utf-16")
    assert texts(extract(URL, wide, "text/html").candidates[0], "alt") == ["жук"]


def test_pages_and_candidates_go_to_rows_and_pickle() -> None:
    page = page_of("<a href=x><img src=a.jpg alt=y></a>")
    assert Page.from_row(page.to_row()) == page
    assert Candidate.from_row(page.candidates[0].to_row()) == page.candidates[0]
    assert pickle.loads(pickle.dumps(page)) == page


def test_real_pages(shared_data: Path) -> None:
    """The pages of two real sites: captions are found, placeholders are not mistaken for them."""
    pages = {
        record.url: extract(record.url, record.body or b"", record.content_type)
        for name in ("gutenberg-things", "sparkfun")
        for record in read_warc(shared_data / "web" / f"{name}.warc.gz")
        if record.content_type.startswith("text/html")
    }
    languages = [page.language for page in pages.values() if page.candidates]
    assert languages.count("en") >= len(languages) - 2
    cookery = next(page for url, page in pages.items() if "/9938/" in url)
    assert len(cookery.candidates) > 100
    assert all("\\" not in found.image and "%5C" not in found.image for found in cookery.candidates)
    majorca = next(page for url, page in pages.items() if "/54634/" in url)
    captions = [text for found in majorca.candidates for text in texts(found, "figcaption")]
    assert any("lovely view of Palma" in caption for caption in captions)
    manual = [page for url, page in pages.items() if "sparkfun" in url]
    assert sum(bool(texts(c, "figcaption")) for page in manual for c in page.candidates) > 100
