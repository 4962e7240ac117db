"""What crawling yields: pages, image candidates with their texts, and fetched bytes.

Plain dataclasses of plain values: they pickle, and the first three go to JSON rows and back.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from data_pipeline.crawl.response_head import NO_HEAD, ResponseHead

SOURCES = ("alt", "title", "figcaption", "aria", "surrounding", "heading", "anchor", "filename")
"""Where a candidate's text may come from."""

CONTAINERS = ("main", "other", "meta", "header", "nav", "footer", "aside", "ad")
"""The part of a page that an image stands in; `meta` is an image that only metadata names."""


@dataclass(slots=True)
class Text:
    """One text beside an image; `source` is one of SOURCES."""

    source: str
    text: str


@dataclass(slots=True)
class Candidate:
    """An image address with its texts, as found on one page.

    `image` is absolute and canonical: the largest of srcset, lazy attributes and src.
    `width` and `height` are what the page declares, in CSS pixels; the real size may differ.
    `position` counts the page's candidates in document order; `dominance` is in [0, 1].
    `robots` holds the page's and the element's opt-out signals, such as "noai".
    `alternatives` are other addresses that the page names for the same picture, best first.
    `licence` is the address or name of the licence that the page or the image declares.
    """

    page: str
    image: str
    texts: list[Text] = field(default_factory=list)
    language: str = ""
    width: int | None = None
    height: int | None = None
    position: int = 0
    in_link: bool = False
    container: str = "other"
    dominance: float = 0.0
    robots: list[str] = field(default_factory=list)
    licence: str | None = None
    alternatives: list[str] = field(default_factory=list)

    def to_row(self) -> dict[str, Any]:
        """Return the candidate as a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Candidate":
        """Return the candidate that `to_row` wrote."""
        texts = [Text(**text) for text in row["texts"]]
        return cls(**{**row, "texts": texts, "robots": list(row["robots"])})


@dataclass(slots=True)
class Page:
    """A crawled document: where its links lead and which images it shows.

    `language` is an ISO 639-1 code, or "" where there is too little text to tell, or no candidate
    to tell it for: identifying it takes longer than parsing a page.
    `links` are absolute, canonical and in document order, each once; empty when robots has
    "nofollow".
    `error` is a reason code when the bytes are no page ("not-html", "too-large"), else None.
    """

    url: str
    title: str = ""
    language: str = ""
    links: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    robots: list[str] = field(default_factory=list)
    error: str | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the page as a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Page":
        """Return the page that `to_row` wrote."""
        candidates = [Candidate.from_row(candidate) for candidate in row["candidates"]]
        return cls(**{**row, "candidates": candidates})


@dataclass(slots=True)
class Fetched:
    """The outcome of one fetch, good or bad; fetching never raises for what the web does.

    `status` is the last HTTP status, 0 when no answer came; `head` is the head of that answer.
    `body` is None exactly when `error` is a reason code: "bad-url", "private-address", "robots",
    "connection", "timeout", "too-large", "too-many-redirects", "truncated", "http-error".
    `transient` says that the same fetch may succeed later. `robots` are opt-out signals of the
    X-Robots-Tag header that concern us, such as "noai".
    """

    url: str
    final_url: str
    status: int = 0
    head: ResponseHead = NO_HEAD
    body: bytes | None = None
    error: str | None = None
    detail: str = ""
    transient: bool = False
    attempts: int = 1
    robots: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case names, several lines of one joined."""
        return {name: ", ".join(lines) for name, lines in self.head.fields.items()}


@dataclass(slots=True)
class WarcRecord:
    """One HTTP response of a WARC file, or the place where the file is damaged.

    `offset` and `length` are the bytes of the record in the file at `uri`, so that it can be read
    again alone. `error` is None, "torn" (the file ends or breaks inside the record), "bad-http",
    "too-large", "bad-encoding"; `body` is None where there is an error. `truncated` says that the
    crawler which wrote the file cut the body short.
    """

    uri: str
    offset: int
    length: int
    url: str = ""
    status: int = 0
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    truncated: bool = False
    error: str | None = None
    date: str = ""
