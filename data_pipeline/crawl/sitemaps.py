"""Sitemaps: the addresses of pages that a site lists itself (sitemaps.org, protocol 0.9).

Found through robots.txt, else at /sitemap.xml; an index leads to further files, a file may be
packed, and a plain text of addresses counts too. What is damaged gives what came before the damage.
"""

import collections
import contextlib
import itertools
import xml.parsers.expat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import Field

from data_pipeline.crawl.address import MAX_LENGTH, canonical, host_of
from data_pipeline.crawl.body import BodyError, unpacked
from data_pipeline.crawl.page import Fetched
from trawl.recipe import Recipe

MAX_BYTES = 50 << 20
"""Largest sitemap, unpacked (protocol 0.9)."""

MAX_ENTRIES = 50_000
"""Entries of one sitemap that are taken (protocol 0.9)."""

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Sitemaps(Recipe):
    """Whether and how far a crawl goes by the sitemaps of the hosts that it meets."""

    enabled: bool = False
    """Whether the pages that sitemaps list count as linked from the first pages of their host."""

    max_files: int = Field(default=50, ge=1)
    """Sitemaps read of one host, indexes among them."""

    max_addresses: int = Field(default=50_000, ge=1)
    """Addresses taken of one host, in the order of its sitemaps."""


@dataclass
class Sitemap:
    """What one file lists: pages, and further sitemaps if it is an index."""

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


class _EntityError(Exception):
    """A document declares an entity: no sitemap needs one, and one may unfold without end."""


class _Reader:
    """Takes the `loc` of each `url` and `sitemap` element from a parser."""

    def __init__(self) -> None:
        self.found = Sitemap()
        self._open: list[str] = []
        self._text = ""

    def read(self, data: bytes) -> None:
        """Read up to the end, or to the first damage."""
        parser = xml.parsers.expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._letters
        parser.EntityDeclHandler = self._refuse
        with contextlib.suppress(xml.parsers.expat.ExpatError, _EntityError, LookupError):
            parser.Parse(data, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name.rpartition(":")[2].lower())
        self._text = ""

    def _letters(self, text: str) -> None:
        if len(self._text) <= MAX_LENGTH:
            self._text += text[: MAX_LENGTH + 1]

    def _end(self, name: str) -> None:
        if self._open.pop() != "loc" or not self._open:
            return
        # The loc of an `image` or `video` in a url element is no page.
        listed = {"url": self.found.pages, "sitemap": self.found.sitemaps}.get(self._open[-1])
        if listed is not None and len(listed) < MAX_ENTRIES:
            listed.append(self._text.strip())

    def _refuse(self, *declaration: object) -> None:
        raise _EntityError


def read_sitemap(data: bytes) -> Sitemap:
    """Return what a file lists: XML, or text with an address a line, either perhaps packed."""
    if data[:2] == _GZIP:
        try:
            data = unpacked(data, "gzip", MAX_BYTES)
        except BodyError:
            return Sitemap()
    data = data.lstrip(b"\xef\xbb\xbf \t\r\n")  # what no parser takes before a declaration
    if data[:1] == b"<" or data[:2] in _UTF16:
        reader = _Reader()
        reader.read(data)
        return reader.found
    lines = (line.strip() for line in data[:MAX_BYTES].decode("utf-8", "replace").splitlines())
    found = (line for line in lines if line.startswith(("http://", "https://")))
    return Sitemap(pages=list(itertools.islice(found, MAX_ENTRIES)))


async def listed_pages(
    origin: str, named: list[str], fetch: Callable[[str], Awaitable[Fetched]], settings: Sitemaps
) -> list[str]:
    """Return the canonical addresses of pages that the sitemaps of `origin` list, each once.

    named are the sitemaps in its robots.txt; those on other hosts are left to these hosts, so
    that one process at a time talks to each. `fetch` keeps to robots.txt, limits and guard.
    """
    host = host_of(origin)
    waiting = collections.deque(named or [f"{origin}/sitemap.xml"])
    seen: set[str] = set()
    pages: dict[str, None] = {}
    while waiting and len(seen) < settings.max_files and len(pages) < settings.max_addresses:
        url = canonical(waiting.popleft())
        if url is None or url in seen or host_of(url) != host:
            continue
        seen.add(url)
        fetched = await fetch(url)
        if fetched.body is None:
            continue
        found = read_sitemap(fetched.body)
        waiting.extend(found.sitemaps[: settings.max_files])
        for page in found.pages:
            address = canonical(page)
            if address is not None and host_of(address) == host:
                pages[address] = None
    return list(pages)[: settings.max_addresses]
