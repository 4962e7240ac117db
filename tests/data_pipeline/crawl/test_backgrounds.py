"""Pictures that pages show by style: where they are, and what stands by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.crawl.backgrounds import MAX_RULES, Backgrounds, pictures
from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Candidate


def candidates_of(body: str, head: str = "") -> list[Candidate]:
    html = f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>"
    return extract("http://h.test/", html.encode(), "text/html; charset=utf-8").candidates


def images_of(body: str, head: str = "") -> list[str]:
    found = candidates_of(body, head)
    return [candidate.image.removeprefix("http://h.test/") for candidate in found]


@pytest.mark.parametrize(
    ("declarations", "expected"),
    [
        ("background-image: url(a.jpg)", [["a.jpg"]]),
        ("BACKGROUND:#fff URL( 'a b.jpg' ) no-repeat; color: red", [["a b.jpg"]]),
        ('background: url("a(1).jpg"), url(b.jpg)', [["a(1).jpg"], ["b.jpg"]]),
        ("background: linear-gradient(rgb(0, 0, 0), red), url(a.jpg)", [["a.jpg"]]),
        (
            "background: url(data:image/png;base64,AA==), url(b.jpg)",
            [["data:image/png;base64,AA=="], ["b.jpg"]],
        ),
        ("background-image: image-set(url(a.jpg) 1x, url('b.jpg') 2x)", [["b.jpg", "a.jpg"]]),
        (r"background: url(a\(1\).jpg)", [["a(1).jpg"]]),
        (r"background: url('a\20 b.jpg')", [["a b.jpg"]]),
        ("background: url('a.jpg", [["a.jpg"]]),
        ("list-style-image: url(a.jpg); cursor: url(b.cur)", []),
        ("border-image: url(a.jpg); --my-background: url(b.jpg)", []),
        ("background: none; mask: url(a.svg)", []),
    ],
)
def test_what_declarations_show(declarations: str, expected: list[list[str]]) -> None:
    assert pictures(declarations) == expected


@pytest.mark.parametrize(
    ("body", "head", "expected"),
    [
        ("<div style='background-image:url(&quot;/a.jpg&quot;)'>", "", ["a.jpg"]),
        ("<a href=x style='background:url(a.jpg)'>x</a>", "", ["a.jpg"]),
        ("<div style='background:url(data:image/gif;base64,R0)'>", "", []),
        ("<p style='color:red'>url(a.jpg)</p>", "", []),
        ("<p class='big hero'>x", "<style>.hero { background: url(a.jpg) }</style>", ["a.jpg"]),
        (
            "<p id=top>x",
            "<style>/* x */ b, p#top::before{background:url(a.jpg)}</style>",
            ["a.jpg"],
        ),
        ("<p class=hero>x", "<style>@media print{.hero{background:url(a.jpg)}}</style>", ["a.jpg"]),
        ("<p class=other>x", "<style>.hero{background:url(a.jpg)}</style>", []),
        ("<p class=hero>x", "<style>body .hero{background:url(a.jpg)}</style>", []),
        ("<p>x", "<style>@font-face{src:url(a.woff)} p{background:url(b.jpg)}</style>", []),
        ("<p class=hero>x<style>.hero{background:url(a.jpg)}</style>", "", ["a.jpg"]),
    ],
)
def test_where_a_background_is(body: str, head: str, expected: list[str]) -> None:
    assert images_of(body, head) == expected


def test_a_background_has_the_texts_of_its_element_and_place() -> None:
    (candidate,) = candidates_of(
        """<h2>Boats</h2><main><p>Before the picture.</p>
        <div class=hero role=img aria-label="A red boat" title="Boat" style="width: 640px;
        height: 480px; background: url(red-boat.jpg) center"><h3>Out at sea</h3></div></main>"""
    )
    assert {(text.source, text.text) for text in candidate.texts} == {
        ("filename", "red boat"),
        ("aria", "A red boat"),
        ("title", "Boat"),
        ("surrounding", "Out at sea"),
        ("surrounding", "Before the picture."),
        ("heading", "Boats"),
    }
    assert (candidate.width, candidate.height, candidate.container) == (640, 480, "main")
    assert candidate.language == "en"


def test_backgrounds_come_last_and_only_if_nothing_else_shows_them() -> None:
    head = "<meta property=og:image content=og.jpg><style>.a{background:url(rule.jpg)}</style>"
    body = "<div class=a style='background:url(style.jpg),url(shown.jpg),url(og.jpg)'>x</div>"
    found = candidates_of(f"{body}<img src=shown.jpg>{body}", head)
    names = [candidate.image.rpartition("/")[2] for candidate in found]
    assert names == ["shown.jpg", "og.jpg", "style.jpg", "rule.jpg"]
    assert [candidate.position for candidate in found] == [0, 1, 2, 3]


def test_of_many_rules_the_first_count() -> None:
    sheet = "".join(f".c{n}{{background:url({n}.jpg)}}" for n in range(2 * MAX_RULES))
    body = "".join(f"<p class=c{n}>x</p>" for n in range(2 * MAX_RULES))
    assert images_of(body, f"<style>{sheet}</style>") == [f"{n}.jpg" for n in range(MAX_RULES)]


PIECES = st.sampled_from(
    [
        "background",
        ":",
        "url(",
        ")",
        "'",
        '"',
        "{",
        "}",
        ";",
        "a",
        ".a",
        "#b",
        "/*",
        "*/",
        "\\",
        " ",
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_no_sheet_breaks_the_reader(css: str) -> None:
    Backgrounds().add_sheet(css)
    pictures(css)
    assert (
        extract("http://h.test/", f"<style>{css}</style><p style='{css}'>".encode()).error is None
    )
