"""Pages that nobody means well with: no markup and no bytes break, hang or fill the reader."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Page
from tests.data_pipeline.crawl.test_html import URL, page_of, texts


@pytest.mark.parametrize(
    ("html", "content_type", "error"),
    [
        (b"\x89PNG\r\n", "image/png", "not-html"),
        (b"%PDF-1.4 no markup", "", "not-html"),
        (b"{}", "application/json", "not-html"),
        (b"", "", "not-html"),
        (b"<p>" + b"x" * 20_000_001, "text/html", "too-large"),
        (b"", "text/html", None),
        (b"<p>", "", None),
    ],
)
def test_what_is_no_page(html: bytes, content_type: str, error: str | None) -> None:
    page = extract(URL, html, content_type)
    assert page.error == error
    assert page.candidates == []


@pytest.mark.parametrize("tag", ["div", "span", "b", "ul><li", "table><tr><td", "font size=1"])
def test_a_million_levels_deep(tag: str) -> None:
    html = b"<img src=first.jpg>" + f"<{tag}>".encode() * 1_000_000 + b"<img src=x>"
    page = extract(URL, html, "text/html")
    assert page.candidates[0].image == "http://site.org/dir/first.jpg"


@pytest.mark.parametrize(
    "html",
    [
        b"<div " + b" ".join(b"a%d=1" % n for n in range(200_000)) + b">",
        b"<div " + b" ".join(b"a%d='<>'" % n for n in range(200_000)) + b">",
        b"".join(b"<body a%d=1>" % n for n in range(100_000)),
    ],
)
def test_piles_of_attributes_are_refused(html: bytes) -> None:
    page = extract(URL, html, "text/html")
    assert (page.error, page.candidates) == ("too-complex", [])


def test_long_pages_are_read_in_pieces() -> None:
    body = "".join(f"<p>Text {n}<img src={n}.jpg alt='{n}'></p>" for n in range(1_500))
    page = page_of(body + "<b></b>" * 10_000 + "<p>x<img src=last.jpg></p>")
    assert len(page.candidates) == 1_501
    assert page.candidates[-1].image.endswith("/last.jpg")
    assert texts(page.candidates[700], "alt") == ["700"]


def test_a_hundred_megabytes_on_one_line_is_too_large() -> None:
    assert extract(URL, b"<p>" + b"x" * 100_000_000, "text/html").error == "too-large"


PARTS = """<img/src=a.jpg/alt="x"> <p> </p> <figure> </figure> <figcaption> <table> <tr> <td>
</table> <a/href=b> </a> <picture> <source/srcset="a,b"> <base/href="/x"> <h1> <script> </script>
<meta/name=robots/content=noai> <!-- --> <svg> <math> <template> <select> <title> <noscript>
<iframe> <![CDATA[ ]]> <?xml ?> <frameset> </body> </html> srcset="a,,b" &amp; &#0; &#xFFFFFF;
< > ' " \\ <IMG <img"""
MARKUP = st.lists(st.one_of(st.sampled_from(PARTS.split()), st.text(max_size=8)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(MARKUP, st.sampled_from(["utf-8", "utf-16", "latin-1", "shift_jis"]))
def test_no_markup_breaks_the_reader(parts: list[str], encoding: str) -> None:
    html = " ".join(parts).encode(encoding, "replace")
    page = extract(URL, html, f"text/html; charset={encoding}")
    assert Page.from_row(page.to_row()) == page
    for candidate in page.candidates:
        assert candidate.image.startswith(("http://", "https://"))
        assert 0 <= candidate.dominance <= 1
        assert all(text.text == text.text.strip() != "" for text in candidate.texts)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.text(max_size=30))
def test_no_bytes_break_the_reader(html: bytes, content_type: str) -> None:
    extract(URL, html, content_type)
    extract(URL, b"<img src=x>" + html, "text/html; " + content_type)
