"""Where bytes of strangers come in: for each such entrance, good inputs and what must hold.

An entrance is entered with any bytes. What it may say is in the return value, or in the errors
that it names; everything else that gets out is a fault.
"""

import codecs
import contextlib
import gzip
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Page, WarcRecord
from data_pipeline.crawl.warc import read_at, read_warc
from data_pipeline.images import ImageError, decode, read_header, sniff, thumbnail
from trawl import chance

SHARED = Path(__file__).parents[3] / "shared" / "data" / "web"
"""Real pages and images beside the checkout; without them there are the made ones alone."""

MAX_PIXELS = 4_000_000
MAX_BODY = 300_000
_REAL_BYTES = 200_000
_REAL_EACH = 8
_URL = "http://site.org/dir/page.html"
_PAGE = """<!doctype html><html lang=en><head><meta charset=utf-8><base href="/x/"><title>Boats
</title><meta name=robots content=noai><meta property=og:image content=/og.jpg><script
type="application/ld+json">{"@graph":[{"image":{"url":"ld.jpg","caption":"C"}}]}</script></head>
<body class="post main"><nav><a href="../b?c#d" rel="license nofollow"><img src=logo.png></a></nav>
<h1>The old <i>harbour</i></h1><figure aria-label=f><picture><source srcset="a.webp 900w, b.webp 2x"
type=image/webp><img src="a b.jpg" data-src=c.jpg srcset="d.jpg 400w" width=800 height="600px"
style="width: 3px" alt=" A red\nboat " title=t></picture><figcaption>A &amp; B</figcaption></figure>
<table><tr><td><img src='images\\a.jpg'></td><td>Cell</td></tr></table><p class=caption>Below</p>
<svg><image href=x></svg><noscript><amp-img src=n.jpg></noscript></body></html>"""


@dataclass(frozen=True)
class Entrance:
    """`seeds` makes whole inputs, some of them of real bodies of the type `kind`, if given any.

    `tokens` are pieces that matter to the reader, `enter` goes in.
    """

    kind: str
    seeds: Callable[[list[bytes]], list[bytes]]
    tokens: tuple[bytes, ...]
    enter: Callable[[bytes], None]


def real_bodies(kind: str) -> list[bytes]:
    """Return some bodies of real records of a type, small ones of every file; [] without data."""
    found: list[bytes] = []
    for file in sorted(SHARED.glob("*.warc.gz")):
        of_file: list[bytes] = []
        for record in read_warc(file, wanted=lambda record: record.content_type.startswith(kind)):
            if record.body and len(record.body) < _REAL_BYTES:
                of_file.append(record.body)
                if len(of_file) == _REAL_EACH:
                    break
        found += of_file
    return found


def _pages(real: list[bytes]) -> list[bytes]:
    return [_PAGE.encode(), _PAGE.encode("utf-16"), *real]


def _enter_html(data: bytes) -> None:
    for content_type in ("text/html", "", "text/html; charset=shift_jis"):
        page = extract(_URL, data, content_type)
        assert Page.from_row(page.to_row()) == page
        assert page.error in (None, "not-html", "too-large", "too-complex")
        for candidate in page.candidates:
            addresses = [candidate.image, *candidate.alternatives]
            assert all(url.startswith(("http://", "https://")) for url in addresses)
            assert 0 <= candidate.dominance <= 1
            assert all(text.text == text.text.strip() != "" for text in candidate.texts)
    assert extract(_URL, data, "text/html") == extract(_URL, data, "text/html")


def _record(body: bytes, headers: str = "") -> bytes:
    http = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n".encode() + body
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://site.org/a\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def _warcs(real: list[bytes]) -> list[bytes]:
    records = [
        _record(b"plain"),
        _record(b"4\r\nchun\r\n2\r\nks\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        _record(gzip.compress(bytes(20 * MAX_BODY), 9, mtime=0), "Content-Encoding: gzip\r\n"),
        *(_record(page) for page in real[:8]),
    ]
    packed = [gzip.compress(record, mtime=0) for record in records]
    return [b"".join(records[:3]), b"".join(packed[:3]), b"".join(records), b"".join(packed)]


_ERRORS = (None, "torn", "bad-http", "too-large", "bad-encoding", "truncated")


def _enter_warc(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for form, content in (("as is", data), ("packed", gzip.compress(data, 1, mtime=0))):
            file = Path(folder) / f"{form}.warc"
            file.write_bytes(content)
            records = list(read_warc(file, MAX_BODY))
            for record in records:
                assert record.error in _ERRORS, record.error
                assert record.error is None or record.body is None
                assert len(record.body or b"") <= MAX_BODY
                assert 0 <= record.offset <= record.offset + record.length <= len(content)
            for record in records[:5]:
                _read_again(file, record)


def _read_again(file: Path, record: WarcRecord) -> None:
    """A good record alone is the same as in its file."""
    again = read_at(file, record.offset, record.length, MAX_BODY)
    if record.error is None:
        assert (again.url, again.body) == (record.url, record.body)


def _images(real: list[bytes]) -> list[bytes]:
    pixels = chance.generator("fuzz-image").integers(0, 256, (40, 60, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    forms = (
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {"progressive": True}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "LA", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("BMP", "RGB", {}),
    )
    found = []
    for form, mode, options in forms:
        sink = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(sink, form, **options)
        found.append(sink.getvalue())
    return [*found, *real]


def _enter_image(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        header = read_header(data)
        assert header.kind == sniff(data)
        pixels = decode(data, MAX_PIXELS)
        assert pixels.dtype == np.uint8
        assert sorted(pixels.shape[:2]) == sorted((header.height, header.width))
        assert pixels.shape[2] == 3
        assert sniff(thumbnail(pixels, 64)) == "jpeg"


_HTML_TOKENS = rb"""
<div> <p> </p> <ul><li> <table> <tr> <td> </table> <a/href=b> </a> <font/size=1> <b> <i> <svg>
<math> <template> <select> <option> <frameset> <!-- --> <![CDATA[ ]]> <script> </script> <style>
<title> <textarea> <plaintext> <noscript> <picture> <source/srcset="a,b"> <img/src=a.jpg/alt=x>
<base/href=x> <figure> <figcaption> </figure> <h1> </h1> a=1 srcset="a,,b style="width:99999px"
&amp; &#0; &#xFFFFFF; &nosuch; " ' = > <
"""
_ODD_BYTES = (b"\xff\xfe", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\0")
_WARC_TOKENS = rb"""
WARC/1.0\r\n WARC-Type:\x20response\r\n Content-Length:\x2099999999999\r\n Content-Length:\x20-1\r\n
Transfer-Encoding:\x20chunked\r\n Content-Encoding:\x20gzip\r\n Content-Encoding:\x20deflate\r\n
HTTP/1.1\x20200\x20OK\r\n \r\n\r\n \r\n \n ffffffff\r\n 0\r\n\r\n \x1f\x8b\x08 \x00 :\x20
WARC-Target-URI:\x20<http://a.b/>\r\n
"""
_IMAGE_TOKENS = rb"""
\xff\xd8\xff \xff\xc0 \xff\xda \xff\xd9 \xff\xe1 Exif\x00\x00 \xff\xff\xff\xff \x7f\xff\xff\xff
\x00\x00\x00\x00 IHDR IDAT PLTE tRNS acTL IEND iCCP GIF89a \x21\xf9\x04 RIFF WEBP VP8L ANMF BM
"""


def _unescaped(tokens: bytes) -> tuple[bytes, ...]:
    return tuple(codecs.escape_decode(token)[0] for token in tokens.split())


ENTRANCES = {
    "html": Entrance("text/html", _pages, (*_HTML_TOKENS.split(), *_ODD_BYTES), _enter_html),
    "warc": Entrance("text/html", _warcs, _unescaped(_WARC_TOKENS), _enter_warc),
    "image": Entrance("image/", _images, _unescaped(_IMAGE_TOKENS), _enter_image),
}
