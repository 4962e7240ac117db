"""Common Crawl's WAT files: records in the form that its extractor writes, whole and hostile."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.crawl.page import Page
from data_pipeline.crawl.warc import METADATA, read_warc
from data_pipeline.sources.wat import page_of
from tests.data_pipeline.build_here import build_here, reasons
from tests.data_pipeline.sources.pictures import served, write_picture
from trawl import storage

MILL = "An old mill by the river"
LINKS = [
    {"path": "A@/href", "url": "/home", "text": "A page about the old mills of Kent"},
    {
        "path": "IMG@/src",
        "url": "pics/mill.jpg",
        "alt": "An old mill by the river",
        "title": "Mill",
    },
    {"path": "IMG@/src", "url": "/logo.png", "alt": "logo"},
    {"path": "IMG@/src", "url": "/logo.png"},
    {"path": "IMG@/src", "url": "data:image/gif;base64,R0lGOD"},
    {"path": "IMG@/longdesc", "url": "/about.txt"},
    {"path": "STYLE/#text", "href": "/bg.jpg"},
    {"path": "A@/href", "url": "https://creativecommons.org/licenses/by/4.0/", "rel": "license"},
]
METAS = [
    {"name": "HTML@/lang", "content": "en"},
    {"name": "robots", "content": "noimageai"},
    {"property": "og:image", "content": "//cdn.a.test/hero.jpg"},
    {"property": "og:image:alt", "content": "A sail boat on a lake"},
    {"property": "og:title", "content": "Mills and boats of the county"},
]


def record_of(
    url: str, links: list[Any], metas: list[Any], headers: dict[str, Any], **head: Any
) -> dict[str, Any]:
    """The JSON of one response in a WAT file."""
    html = {"Head": {"Metas": metas, "Title": "Mills of Kent", **head}, "Links": links}
    response = {
        "Headers": {"Content-Type": "text/html; charset=utf-8", **headers},
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "HTML-Metadata": html,
    }
    return {
        "Container": {"Filename": "CC-MAIN.warc.gz", "Offset": "1", "Compressed": True},
        "Envelope": {
            "Format": "WARC",
            "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": url},
            "Payload-Metadata": {"HTTP-Response-Metadata": response},
        },
    }


def wat_record(url: str, content: bytes) -> bytes:
    """One packed record of a WAT file."""
    head = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {url}\r\n"
        "WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + content + b"\r\n\r\n", mtime=0)


def _page(**changes: Any) -> Page:
    made = {"links": LINKS, "metas": METAS, "headers": {}, **changes}
    page = page_of(json.dumps(record_of("http://a.test/kent/p.html", **made)).encode(), "Trawl")
    assert page is not None
    return page


def test_images_come_with_their_texts_and_what_the_page_says() -> None:
    page = _page(headers={"X-Robots-Tag": ["noai", "Other: noindex"], "tdm-reservation": "1"})
    found = {candidate.image: candidate for candidate in page.candidates}
    assert list(found) == [
        "http://a.test/kent/pics/mill.jpg",
        "http://a.test/logo.png",
        "http://cdn.a.test/hero.jpg",
    ]
    mill, logo, hero = found.values()
    assert [(text.source, text.text) for text in mill.texts] == [
        ("filename", "mill"),
        ("alt", "An old mill by the river"),
        ("title", "Mill"),
        ("heading", "Mills of Kent"),
    ]
    assert ("alt", "A sail boat on a lake") in {(t.source, t.text) for t in hero.texts}
    assert hero.container == "meta"
    assert mill.dominance > hero.dominance > logo.dominance
    assert mill.robots == ["noai", "noimageai", "tdm-reservation"]
    assert mill.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert mill.language == "en"
    assert [candidate.position for candidate in found.values()] == [0, 1, 2]


def test_the_base_of_the_head_counts() -> None:
    page = _page(Base="https://static.test/x/")
    assert page.candidates[0].image == "https://static.test/x/pics/mill.jpg"


def test_a_short_page_is_of_the_language_that_it_says() -> None:
    page = _page(links=LINKS[2:3], metas=[{"name": "HTML@/lang", "content": "fr-CA"}], Title="")
    assert page.language == "fr"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"[1, 2]",
        b'{"Envelope": []}',
        b"[" * 200_000,
        json.dumps({"Envelope": {"Payload-Metadata": {"WARC-Info-Metadata": {}}}}).encode(),
        json.dumps(record_of("ftp://a.test/", [], [], {})).encode(),
    ],
)
def test_what_describes_no_page_is_none(content: bytes) -> None:
    assert page_of(content, "Trawl") is None


def test_no_value_breaks_the_reader() -> None:
    odd = [None, 1, [], {"path": "IMG@/src"}, {"path": "IMG@/src", "url": ["x"]}]
    odd += [{"path": "IMG@/src", "url": "\ud800.jpg", "alt": {"a": 1}, "title": "half \udfff"}]
    page = _page(links=odd, metas=[None, {"name": 3, "content": []}, "x"], Title=["t"], Link=7)
    for candidate in page.candidates:
        assert json.dumps(candidate.to_row()).isascii()
        for text in (candidate.image, *(text.text for text in candidate.texts)):
            text.encode()


def test_files_in_object_stores_are_read_alike(s3: str) -> None:
    page = json.dumps(record_of("http://a.test/", LINKS, METAS, {})).encode()
    storage.write_bytes(f"{s3}/wat/1.warc.wat.gz", wat_record("http://a.test/", page) * 3)
    records = list(read_warc(f"{s3}/wat/1.warc.wat.gz", kinds=METADATA))
    assert [record.body for record in records] == [page] * 3


def test_a_corpus_from_wat_files(tmp_path: Path) -> None:
    write_picture(tmp_path / "site" / "mill.jpg", 1)
    url = "http://a.test/p.html"
    links = [
        {"path": "IMG@/src", "url": name, "alt": alt}
        for name, alt in [
            ("mill.jpg", "An old mill by the river"),
            ("gone.jpg", "A boat on the lake"),
        ]
    ]
    good = json.dumps(record_of(url, links, [], {})).encode()
    closed = json.dumps(record_of("http://b.test/", links, [], {"X-Robots-Tag": "noai"})).encode()
    records = [wat_record(url, good), wat_record(url, b"{"), wat_record("http://b.test/", closed)]
    (tmp_path / "1.warc.wat.gz").write_bytes(b"".join(records))
    with served(tmp_path / "site") as download:
        built = build_here(
            tmp_path / "out",
            {
                "collect": {"source": {"kind": "wat", "uris": [str(tmp_path)]}, "partitions": 1},
                "download": download,
                "image_filter": {"natural": {"enabled": False}},
            },
        )
    assert built.counts["collect"] == {"pages": 2, "candidates": 4, "other records": 1}
    assert reasons(tmp_path / "out") == {
        "http://a.test/mill.jpg": "kept",
        "http://a.test/gone.jpg": "http-error",
        "http://b.test/mill.jpg": "opt-out",
        "http://b.test/gone.jpg": "opt-out",
    }
