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
    ],
)
def test_an_image_is_found_with_its_text(markup: str) -> None:
    page = extract("http://h.test/", f"<head>{markup}</head><body><p>text</p>".encode())
    (candidate,) = page.candidates
    assert candidate.image == "http://h.test/a.jpg"
    assert "Mill" in [text.text for text in candidate.texts]
