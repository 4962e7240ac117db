"""HTML extraction against bare parsing, and with WARC reading, in pages a second on one core.

    python bench/extract.py [WARC ...]

Without arguments the pages are made here: 100 KB each, with 19 images, 90 links and 60 paragraphs,
the shape of real article pages. The peer is selectolax, which parses and does nothing more. Times
are CPU times, the least of all rounds; the tasks take turns, so that a busy machine slows all of
them alike.
"""

import argparse
import gzip
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from selectolax.lexbor import LexborHTMLParser

from data_pipeline.crawl import html
from data_pipeline.crawl.html import extract
from data_pipeline.crawl.language import language
from data_pipeline.crawl.page import WarcRecord
from data_pipeline.crawl.warc import read_warc
from trawl import chance

SENTENCE = (
    "the old harbour lies below a hill where boats come home in the evening and people of this "
    "town mend nets by small houses with red roofs under wide grey skies that bring rain"
)
WORDS = SENTENCE.split()
PAGE_BYTES = 100_000


def made_page(number: int) -> bytes:
    """Return one page of about PAGE_BYTES, the same for the same number."""
    draw = chance.generator("bench-page", number)

    def words(count: int) -> str:
        return " ".join(WORDS[index] for index in draw.integers(0, len(WORDS), count))

    parts = [f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{words(6)}</title>"]
    parts.append("<meta name=robots content=index></head><body><header><nav class='menu main'><ul>")
    parts += [f"<li><a href='/section/{words(1)}/{n}'>{words(2)}</a></li>" for n in range(40)]
    parts.append("</ul></nav></header><main id=content><article class='post entry'>")
    for n in range(60):
        parts.append(f"<h2>{words(5)}</h2>" if n % 6 == 0 else "")
        link = f"<a href='../{words(1)}-{n}.html'>{words(3)}</a>"
        parts.append(f"<p class='text'>{words(60)} {link} {words(60)} <em>{words(4)}</em></p>")
        if n % 3 == 0 and n < 57:
            image = f"/media/{words(1)}-{words(1)}-{n}"
            parts.append(
                f"<figure class='wide'><a href='{image}.html'><img class='photo lazy' width=800 "
                f"height=600 src='{image}.jpg' srcset='{image}-400.jpg 400w, {image}-800.jpg 800w' "
                f"alt='{words(8)}'></a><figcaption>{words(14)}</figcaption></figure>"
            )
    body = "".join(parts)
    filler = "".join(f"<script>var x{n} = '{words(90)}';</script>" for n in range(200))
    page = body + filler[: max(0, PAGE_BYTES - len(body) - 200)] + "</script></article></main>"
    return (page + f"<footer><p>{words(20)}</p></footer></body></html>").encode()


def write_warc(path: Path, pages: list[bytes]) -> None:
    """Write the pages as a WARC file, one gzip member each."""
    with path.open("wb") as file:
        for number, page in enumerate(pages):
            http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
            head = (
                "WARC/1.0\r\nWARC-Type: response\r\n"
                f"WARC-Target-URI: http://example.org/a/{number}.html\r\n"
                "Content-Type: application/http; msgtype=response\r\n"
                f"Content-Length: {len(http)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + http + b"\r\n\r\n", 6, mtime=0))


def timed(pages: list[bytes], rounds: int) -> dict[str, float]:
    """Return CPU seconds a page for each task."""
    url = "http://www.example.org/articles/2026/page.html"
    samples = language_samples(url, pages)
    tasks: dict[str, Callable[[bytes], object]] = {
        "parse alone (selectolax)": LexborHTMLParser,
        "extract": lambda html: extract(url, html, "text/html"),
        "extract without links": lambda html: extract(url, html, "text/html", with_links=False),
        "  of it, language": lambda html: [language(*asked) for asked in samples.get(html, ())],
    }
    least = dict.fromkeys(tasks, math.inf)
    for number in range(rounds + 1):
        spent = dict.fromkeys(tasks, 0)
        for page in pages:
            for name, task in tasks.items():
                start = time.thread_time_ns()
                task(page)
                spent[name] += time.thread_time_ns() - start
        if number:  # the first round warms up
            least = {name: min(least[name], spent[name] / 1e9 / len(pages)) for name in tasks}
    return least


def language_samples(url: str, pages: list[bytes]) -> dict[bytes, list[tuple[str, str]]]:
    """Return, for each page, what extraction asks the language of."""
    found: dict[bytes, list[tuple[str, str]]] = {}

    def ask(text: str, declared: str) -> tuple[str, float]:
        found[page].append((text, declared))
        return language(text, declared)

    with mock.patch.object(html, "language", ask):
        for page in pages:
            found[page] = []
            extract(url, page, "text/html", with_links=False)
    return found


def timed_from_warc(files: list[str], rounds: int) -> dict[str, float]:
    """Return CPU seconds a page for reading WARC files alone, and with what may be done then."""
    tasks: dict[str, Callable[[WarcRecord], object]] = {
        "WARC alone": lambda record: None,
        "WARC + parse (selectolax)": lambda record: LexborHTMLParser(record.body or b""),
        "WARC + extract without links": extract_record,
    }
    least = dict.fromkeys(tasks, math.inf)
    for _ in range(rounds):
        for name, task in tasks.items():
            least[name] = min(least[name], warc_seconds(files, task))
    return least


def warc_seconds(files: list[str], then: Callable[[WarcRecord], object]) -> float:
    """Return CPU seconds a page for reading WARC files and doing `then` with their pages."""
    pages = 0
    start = time.thread_time_ns()
    for file in files:
        for record in read_warc(file, wanted=lambda found: "html" in found.content_type):
            if record.body is not None:
                then(record)
                pages += 1
    return (time.thread_time_ns() - start) / 1e9 / pages


def extract_record(record: WarcRecord) -> None:
    extract(record.url, record.body or b"", record.content_type, with_links=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("warc", nargs="*", help="WARC files to take the pages from")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.warc
        if not files:
            files = [str(Path(folder) / "pages.warc.gz")]
            write_warc(Path(files[0]), [made_page(number) for number in range(200)])
        pages = [
            record.body
            for file in files
            for record in read_warc(file, wanted=lambda found: "html" in found.content_type)
            if record.body
        ]
        seconds = timed(pages, options.rounds)
        seconds |= timed_from_warc(files, options.rounds)
    mean = sum(map(len, pages)) / len(pages)
    print(f"{len(pages)} pages, {mean / 1000:.0f} KB on average")
    peer = seconds["parse alone (selectolax)"]
    for name, value in seconds.items():
        rate, time_us, share = 1 / value, value * 1e6, value / peer
        print(f"{name:30s} {rate:8.0f} pages/s/core {time_us:7.0f} us/page {share:5.2f} x parse")


if __name__ == "__main__":
    main()
