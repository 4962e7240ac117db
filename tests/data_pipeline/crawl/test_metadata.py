"""Images that only a page's metadata names."""

import pytest

from data_pipeline.crawl.html import extract


@pytest.mark.parametrize(
    "markup",
    [
        '<meta name="twitter:image:src" content="/a.jpg"><meta property="og:title" content="Mill">',
        '<script type="application/ld+json">{"@graph": [{"@type": ["ImageObject", "CreativeWork"],'
        ' "contentUrl": "/a.jpg", "name": "Mill"}]}</script>',
        '<script type="application/ld+json">{"@type": "Article", "headline": "Mill",'
        ' "image": {"@type": "ImageObject", "url": "/a.jpg"}}</script>',
        '<meta property="og:title" content="Mill"><link rel="shortcut image_src" href="/a.jpg">',
        '<meta property="og:title" content="Mill"><meta itemprop="name image" content="/a.jpg">',
        '<meta property="og:title" content="Mill"><link itemprop=image href="/a.jpg">',
    ],
)
def test_an_image_is_found_with_its_text(markup: str) -> None:
    page = extract("http://h.test/", f"<head>{markup}</head><body><p>text</p>".encode())
    (candidate,) = page.candidates
    assert candidate.image == "http://h.test/a.jpg"
    assert "Mill" in [text.text for text in candidate.texts]


def images_of(body: str) -> list[str]:
    page = extract("http://h.test/", f"<body>{body}".encode())
    return [candidate.image.removeprefix("http://h.test/") for candidate in page.candidates]


def test_microdata_name_images_and_nothing_else() -> None:
    assert images_of("<div itemprop=image itemscope><meta itemprop=url content=a.jpg></div>") == [
        "a.jpg"
    ]
    assert images_of("<div itemprop=image itemscope><link itemprop=contentUrl href=a.jpg>") == [
        "a.jpg"
    ]
    assert images_of("<div itemprop=logo itemscope><meta itemprop=url content=a.jpg></div>") == []
    assert images_of("<meta itemprop=name content=image><link itemprop=url href=a.jpg>") == []


def test_an_image_that_the_page_shows_is_no_second_candidate() -> None:
    head = "<link rel=image_src href=a.jpg><meta itemprop=image content=a.jpg>"
    assert images_of(f"{head}<img itemprop=image src=a.jpg>") == ["a.jpg"]
    assert images_of(f"{head}<a href=a.jpg><img src=t.jpg></a>") == ["t.jpg"]
