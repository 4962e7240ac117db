"""Common Crawl's WAT files: a page's images with their alt texts, and what its head says.

One JSON object a page, made by Common Crawl's `ia-web-commons` from the WARC record: the links of
the page with the element and attribute each stood in (`IMG@/src` with alt and title), its metas,
title and HTTP headers. There is no running text and no place in the page, so that candidates have
fewer texts than those of the WARC file, and their dominance goes by names and repetition alone.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_pipeline.crawl.address import Base, canonical
from data_pipeline.crawl.candidates import MAX_CANDIDATES
from data_pipeline.crawl.consent import merged, meta_signals, stored_signals
from data_pipeline.crawl.dominance import dominance, names_furniture
from data_pipeline.crawl.language import language
from data_pipeline.crawl.metadata import Metadata
from data_pipeline.crawl.page import Candidate, Page, Text
from data_pipeline.crawl.srcset import is_address
from data_pipeline.crawl.texts import file_words, tidy
from data_pipeline.sources.values import text_of

_IMAGE = "IMG@/src"
_LANGUAGES = ("html@/lang", "html@/xml:lang")
_MIN_PROBABILITY = 0.5
_SAMPLE_CHARACTERS = 1_000


def page_of(data: bytes, agent: str) -> Page | None:
    """Return the page that one record of a WAT file describes, None if it describes no page.

    Robots metas and headers are read for `agent`. Never raises, whatever the bytes are.
    """
    try:
        envelope = _part(json.loads(data), "Envelope")
    except (ValueError, RecursionError):
        return None
    response = _part(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    html = _part(response, "HTML-Metadata")
    url = canonical(text_of(_part(envelope, "WARC-Header-Metadata").get("WARC-Target-URI")))
    status = text_of(_part(response, "Response-Message").get("Status"))
    if url is None or not html or status != "200":
        return None
    page = Page(url)
    _Reading(page, html, _headers(response), agent).read()
    return page


def _part(value: Any, *names: str) -> dict[str, Any]:
    """Return the object under a path of names, empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list; a single object stands for a list of one."""
    listed = value if isinstance(value, list) else [value]
    return (entry for entry in listed if isinstance(entry, dict))


def _headers(response: dict[str, Any]) -> dict[str, str]:
    """Return the HTTP headers with lower-case names."""
    headers = _part(response, "Headers")
    return {
        name.lower(): ", ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)
        for name, value in headers.items()
    }


class _Reading:
    """One page of a WAT file while it is being read."""

    def __init__(
        self, page: Page, html: dict[str, Any], headers: dict[str, str], agent: str
    ) -> None:
        self._page, self._headers, self._agent = page, headers, agent
        self._head = _part(html, "Head")
        self._links = list(_entries(html.get("Links")))
        self._metadata = Metadata()
        base = canonical(text_of(self._head.get("Base")), page.url)
        self._base = Base(base or page.url)
        self._declared = ""

    def read(self) -> None:
        """Fill the page in."""
        page = self._page
        page.title = tidy(text_of(self._head.get("Title")))
        self._read_head()
        page.robots = merged(
            meta_signals(self._metadata.robots, self._agent),
            stored_signals(self._headers, self._agent),
        )
        page.candidates = self._images()
        page.language = self._language()
        for candidate in page.candidates:
            candidate.language = page.language
            candidate.robots = list(page.robots)
            candidate.licence = self._metadata.licence

    def _read_head(self) -> None:
        """Take the metas, and the licence that a link names."""
        for meta in _entries(self._head.get("Metas")):
            name = text_of(meta.get("name") or meta.get("property")).strip().lower()
            content = text_of(meta.get("content")).strip()
            if name in _LANGUAGES:
                self._declared = content[:2].lower()
            elif name and content:
                self._metadata.add(name, content)
        for link in (*_entries(self._head.get("Link")), *self._links):
            relation = link.get("rel")
            if relation and "license" in text_of(relation).lower() and not self._metadata.licence:
                self._metadata.licence = self._base[text_of(link.get("url"))]

    def _images(self) -> list[Candidate]:
        """Return the candidates: the images that the page shows, then those its head names."""
        shown = [link for link in self._links if link.get("path") == _IMAGE]
        addresses = [self._address(link.get("url")) for link in shown]
        times = Counter(url for url in addresses if url is not None)
        found: dict[str, Candidate] = {}
        for link, url in zip(shown, addresses, strict=True):
            if url is None or (url not in found and len(found) >= MAX_CANDIDATES):
                continue
            candidate = found.get(url)
            if candidate is None:
                candidate = found[url] = Candidate(self._page.url, url, position=len(found))
                words = file_words(url)
                self._judge(
                    candidate, f"{words} {text_of(link.get('alt'))}", times[url], len(times)
                )
                _add(candidate, "filename", words)
            _add(candidate, "alt", link.get("alt"))
            _add(candidate, "title", link.get("title"))
        for image in self._metadata.images:
            url = self._address(image.address)
            if url is None or url in found or len(found) >= MAX_CANDIDATES:
                continue
            candidate = Candidate(self._page.url, url, position=len(found), container="meta")
            found[url] = candidate
            words = file_words(url)
            self._judge(candidate, words, 1, len(found))
            _add(candidate, "filename", words)
            for text in image.texts:
                _add(candidate, "alt", text)
            _add(candidate, "title", self._metadata.title)
            _add(candidate, "surrounding", self._metadata.description)
        for candidate in found.values():
            _add(candidate, "heading", self._page.title)
        return list(found.values())

    def _address(self, written: Any) -> str | None:
        text = text_of(written)
        return self._base[text] if is_address(text) else None

    def _judge(self, candidate: Candidate, names: str, times: int, images: int) -> None:
        """Say how far the image stands out, as far as a WAT file lets one tell."""
        candidate.dominance = dominance(
            candidate.container,
            in_figure=False,
            in_link=False,
            width=None,
            height=None,
            furniture=names_furniture(names[:1000]),
            repeated=times > 1,
            is_first=candidate.position == 0,
            images=images,
        )

    def _language(self) -> str:
        """Return the language of the page's texts, or what it says where there is too little."""
        texts = [self._page.title, self._metadata.description]
        texts += [text.text for found in self._page.candidates[:40] for text in found.texts[:1]]
        texts += [text_of(link.get("text")) for link in self._links[:200]]
        code, probability = language(" ".join(texts)[:_SAMPLE_CHARACTERS])
        return code if code and probability >= _MIN_PROBABILITY else self._declared


def _add(candidate: Candidate, source: str, value: Any) -> None:
    """Add a text unless it is empty, or there already from the same source."""
    if not value:
        return
    text = Text(source, tidy(text_of(value)))
    if text.text and text not in candidate.texts:
        candidate.texts.append(text)
