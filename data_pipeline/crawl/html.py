"""HTML pages to links and image candidates, whatever the state of the markup.

Parsing is lexbor's (selectolax), which repairs markup as browsers do. One CSS query brings the
elements that matter in document order; nothing here recurses, so that depth costs no stack.
"""

from collections.abc import Callable, Mapping

from selectolax.lexbor import LexborHTMLParser, LexborNode

from data_pipeline.crawl.address import Base, canonical
from data_pipeline.crawl.backgrounds import STYLED, Backgrounds
from data_pipeline.crawl.candidates import Gatherer
from data_pipeline.crawl.complexity import MAX_HTML_BYTES, is_hostile, pieces
from data_pipeline.crawl.consent import meta_signals
from data_pipeline.crawl.encoding import to_utf8
from data_pipeline.crawl.language import language
from data_pipeline.crawl.metadata import Metadata
from data_pipeline.crawl.page import Page
from data_pipeline.crawl.texts import tidy

MAX_LINKS = 5_000
"""Links of one page that are taken."""

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_SELECTOR = ",".join(
    (*_HEADINGS, "img,figcaption,meta,base,title,link,script[type],amp-img,style", STYLED)
)
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
        self._with_links = with_links
        self._gatherer = Gatherer(page.url, Base(page.url))
        self._metadata = Metadata()
        self._backgrounds = Backgrounds()
        self._has_styled = False
        self._links: dict[str, None] = {}
        self._title: str | None = None
        self._declared_language = ""
        self._prose: list[str] = []

    def read(self, html: bytes, content_type: str) -> None:
        """Read all pieces of the page and fill in what they say."""
        text = to_utf8(html, content_type)
        selector = f"{_SELECTOR},{'a,area' if self._with_links else 'a[rel]'}"
        takers, otherwise = self._takers(), self._see_styled
        for piece in pieces(text):
            tree = LexborHTMLParser(piece)
            self._take_language(tree)
            self._gatherer.start_piece()
            for node in tree.css(selector):
                takers.get(node.tag or "", otherwise)(node)
            self._take_backgrounds(tree)
            self._finish_piece(tree)
        self._finish()

    def _takers(self) -> Mapping[str, Callable[[LexborNode], None]]:
        """Return who takes the elements of each name.

        No attribute: a cycle would leave the tree, a megabyte or more, to the garbage collector.
        """
        gatherer = self._gatherer
        return dict.fromkeys(_HEADINGS, gatherer.add_heading) | {
            "a": self._take_link,
            "area": self._take_link,
            "img": gatherer.add_image,
            "amp-img": gatherer.add_image,
            "meta": self._metadata.add_meta,
            "figcaption": gatherer.add_figcaption,
            "base": self._take_base,
            "link": self._take_relation,
            "script": self._take_script,
            "style": self._take_sheet,
            "title": self._take_title,
        }

    def _take_language(self, tree: LexborHTMLParser) -> None:
        if not self._declared_language and (root := tree.root) is not None:
            self._declared_language = root.attributes.get("lang") or ""

    def _take_base(self, node: LexborNode) -> None:
        base = canonical(node.attributes.get("href") or "", self._page.url)
        if base is not None and self._gatherer.base.url == self._page.url:
            self._gatherer.base = Base(base)

    def _take_title(self, node: LexborNode) -> None:
        if self._title is None:
            self._title = tidy(node.text_lexbor())

    def _take_sheet(self, node: LexborNode) -> None:
        self._backgrounds.add_sheet(node.text_lexbor())

    def _see_styled(self, _: LexborNode) -> None:
        """Note an element that was selected for its style alone."""
        self._has_styled = True

    def _take_backgrounds(self, tree: LexborHTMLParser) -> None:
        """Go once more through the elements of a piece of which some show pictures by style."""
        backgrounds, gatherer = self._backgrounds, self._gatherer
        if not self._has_styled and not backgrounds.has_rules:
            return
        gatherer.start_backgrounds()
        for node in tree.css(",".join((*_HEADINGS, backgrounds.selector(tree)))):
            if node.tag in _HEADINGS:
                gatherer.add_heading(node)
            for picture in backgrounds.of(node):
                gatherer.add_background(node, picture)
        self._has_styled = False

    def _take_link(self, node: LexborNode) -> None:
        attributes = node.attributes
        if "style" in attributes:
            self._has_styled = True
        address = attributes.get("href")
        if not address:
            return
        relation = attributes.get("rel")
        if relation:
            self._take_licence(relation, address)
            if "nofollow" in relation:
                return
        if self._with_links and address[0] != "#" and len(self._links) < MAX_LINKS:
            link = self._gatherer.base[address]
            if link is not None:
                self._links[link] = None

    def _take_script(self, node: LexborNode) -> None:
        if "ld+json" in (node.attributes.get("type") or ""):
            self._metadata.add_json(node.text_lexbor())

    def _take_relation(self, node: LexborNode) -> None:
        attributes = node.attributes
        relation, address = attributes.get("rel") or "", attributes.get("href") or ""
        self._take_licence(relation, address)
        if "image_src" in relation.lower() and address:
            self._metadata.add_image(address)
        if attributes.get("itemprop"):
            self._metadata.add_item(node, address)

    def _take_licence(self, relation: str, address: str) -> None:
        if "license" in relation.lower() and not self._metadata.licence:
            self._metadata.licence = self._gatherer.base[address]

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
        page.title = self._title or ""
        page.links = list(self._links)
        page.robots = meta_signals(self._metadata.robots, self._agent)
        if "nofollow" in page.robots:
            page.links = []
        page.candidates = self._gatherer.finish(self._metadata)
        if not page.candidates:
            return
        page.language = self._language()
        for candidate in page.candidates:
            candidate.language = page.language
            candidate.robots = list(page.robots)
            candidate.licence = self._metadata.licence

    def _language(self) -> str:
        """Return the language of the page's prose, or of all its texts if there is no prose."""
        sample = " ".join((*self._prose, *self._gatherer.prose))
        if len(sample) < _SAMPLE_CHARACTERS // 2:
            texts = (text.text for found in self._page.candidates[:20] for text in found.texts)
            sample = " ".join((sample, self._page.title, *texts))
        code, probability = language(sample, self._declared_language)
        return code if probability >= _MIN_PROBABILITY else ""
