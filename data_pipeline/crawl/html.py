"""HTML pages to links and image candidates, whatever the state of the markup.

Parsing is lexbor's (selectolax), which repairs markup as browsers do; then one walk through the
tree tells those who gather what it shows.
"""

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from data_pipeline.crawl.address import Base, canonical
from data_pipeline.crawl.candidates import Gatherer
from data_pipeline.crawl.complexity import MAX_HTML_BYTES, is_hostile
from data_pipeline.crawl.consent import meta_signals
from data_pipeline.crawl.fast_walk import candidates, pieces_of, walk
from data_pipeline.crawl.head import Head
from data_pipeline.crawl.language import language
from data_pipeline.crawl.page import Page
from data_pipeline.crawl.texts import tidy
from data_pipeline.crawl.walk import HEADINGS

# glibc keeps twice the largest block freed so far of a heap's unused end; without this it gives
# each tree's memory back to the kernel and asks for it again, for up to half the time of a parse.
bytes(2 << 20)

# Browsers copy the chosen option of a list into its button, which shows nothing new.
_OPTIONS = LexborDocumentOptions.WO_EVENTS

_HTML_TYPES = ("text/html", "application/xhtml", "application/xml", "text/xml")
_SAMPLE_CHARACTERS = 240
_MIN_PROBABILITY = 0.5


def extract(
    url: str,
    html: bytes,
    content_type: str = "",
    with_links: bool = True,
    agent: str = "Trawl",
) -> Page:
    """Return the page at `url` with its links and image candidates.

    `content_type` is the HTTP header, "" if unknown. `with_links` False leaves links out, which
    is faster. Robots metas are read for `agent`. Never raises: bytes that are no page, or more
    work than an honest page makes, come back with `error` set.
    """
    page = Page(canonical(url) or url)
    page.error = _refusal(html, content_type)
    if page.error is None:
        _Reading(page, agent, with_links).read(html, content_type)
    return page


def _refusal(html: bytes, content_type: str) -> str | None:
    """Return the reason code for not reading these bytes as a page, None if they are one."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith(_HTML_TYPES):
        return "not-html"
    if not kind and b"<" not in html[:4096]:
        return "not-html"
    if len(html) > MAX_HTML_BYTES:
        return "too-large"
    return "too-complex" if is_hostile(html) else None


class _Reading:
    """One page while it is being read."""

    def __init__(self, page: Page, agent: str, with_links: bool) -> None:
        self._page = page
        self._agent = agent
        self._gatherer = Gatherer(page.url, Base(page.url))
        self._head = Head(self._gatherer)
        self._metadata = self._head.metadata
        self._links: dict[str, None] | None = {} if with_links else None
        self._declared_language = ""
        self._prose: list[str] = []

    def read(self, html: bytes, content_type: str) -> None:
        """Read all pieces of the page and fill in what they say."""
        for number, piece in enumerate(pieces_of(html, content_type)):
            tree = LexborHTMLParser(piece, options=_OPTIONS)
            self._take_language(tree)
            if number:
                self._gatherer.start_piece()
            has_styled = walk(tree, self._head, self._gatherer, self._links)
            if has_styled or self._head.backgrounds.has_rules:
                self._take_backgrounds(tree)
            self._finish_piece(tree)
        self._finish()

    def _take_language(self, tree: LexborHTMLParser) -> None:
        if not self._declared_language and (root := tree.root) is not None:
            self._declared_language = root.attributes.get("lang") or ""

    def _take_backgrounds(self, tree: LexborHTMLParser) -> None:
        """Go once more through the elements of a piece of which some show pictures by style."""
        backgrounds, gatherer = self._head.backgrounds, self._gatherer
        gatherer.start_backgrounds()
        for node in tree.css(",".join((*HEADINGS, backgrounds.selector(tree)))):
            if node.tag in HEADINGS:
                gatherer.add_heading(node)
            for picture in backgrounds.of(node):
                gatherer.add_background(node, picture)

    def _finish_piece(self, tree: LexborHTMLParser) -> None:
        """Keep some running text to tell the language by, if images did not bring enough."""
        gatherer = self._gatherer
        length = gatherer.prose_length + sum(map(len, self._prose))
        if length >= _SAMPLE_CHARACTERS or not (gatherer.has_images or self._metadata.images):
            return
        for node in tree.css("p"):
            text = tidy(node.text_lexbor())
            if len(text) > 20:
                self._prose.append(text)
                length += len(text)
            if length >= _SAMPLE_CHARACTERS:
                return

    def _finish(self) -> None:
        page = self._page
        page.title = self._head.title or ""
        page.links = list(self._links or ())
        page.robots = meta_signals(self._metadata.robots, self._agent)
        if "nofollow" in page.robots:
            page.links = []
        page.candidates = self._gatherer.finish(candidates(self._gatherer), self._metadata)
        if not page.candidates:
            return
        page.language = language_of_page = self._language()
        robots, licence = page.robots, self._metadata.licence
        for candidate in page.candidates:
            candidate.language = language_of_page
            candidate.licence = licence
            if robots:
                candidate.robots = list(robots)

    def _language(self) -> str:
        """Return the language of the page's prose, or of all its texts if there is no prose."""
        sample = " ".join((*self._prose, *self._gatherer.prose))
        if len(sample) < _SAMPLE_CHARACTERS // 2:
            texts = (text.text for found in self._page.candidates[:20] for text in found.texts)
            sample = " ".join((sample, self._page.title, *texts))
        code, probability = language(sample, self._declared_language)
        return code if probability >= _MIN_PROBABILITY else ""
