"""Image candidates of one page: each picture once, with every text that the page gives it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from data_pipeline.crawl.address import Base
from data_pipeline.crawl.dominance import dominance, names_furniture
from data_pipeline.crawl.metadata import Metadata
from data_pipeline.crawl.page import Candidate, Text
from data_pipeline.crawl.srcset import by_preference, is_address, is_responsive
from data_pipeline.crawl.structure import Place, Structure
from data_pipeline.crawl.texts import Surroundings, file_words, is_caption, tidy

MAX_CANDIDATES = 2_000
"""Images of one page that are taken; the rest of a longer page is left out."""

MAX_ALTERNATIVES = 4
"""Further addresses of one picture that are kept."""

_MAX_TEXTS = 24
_MAX_CAPTION = 300
_PROSE = 1000
_SENTENCE = 60
_PIXELS = re.compile(r"\s*(\d{1,5})(?:\.\d+)?(?:px)?\s*")
_STYLE_SIDES = re.compile(r"(?<![a-z-])(width|height)\s*:\s*(\d{1,5})(?:\.\d+)?px", re.IGNORECASE)

Attributes = Mapping[str, str | None]


@dataclass(slots=True)
class _Found:
    """A candidate in the making: what its score needs beside it."""

    candidate: Candidate
    in_figure: bool
    furniture: bool
    figure_id: int = 0
    times: int = 1


@dataclass(slots=True)
class Gatherer:
    """Gathers the candidates of a page as its images come by in document order.

    `prose` is some of the running text beside the images, to tell the page's language by.
    """

    page: str
    base: Base
    structure: Structure = field(default_factory=Structure)
    surroundings: Surroundings = field(default_factory=Surroundings)
    heading: LexborNode | None = None
    prose: list[str] = field(default_factory=list)
    prose_length: int = 0
    _heading_text: str = ""
    _found: dict[str, _Found] = field(default_factory=dict)
    _by_figure: dict[int, list[_Found]] = field(default_factory=dict)
    _sources: dict[int, list[Attributes]] = field(default_factory=dict)

    def start_piece(self) -> None:
        """Forget the elements of a piece of the page that has been read; its tree is gone."""
        self.structure = Structure()
        self.surroundings = Surroundings()
        self.heading = None
        self._by_figure.clear()
        self._sources.clear()

    def add_source(self, node: LexborNode) -> None:
        """Take a picture's source element, which comes before its img."""
        parent = node.parent
        if parent is not None and parent.tag == "picture":
            self._sources.setdefault(parent.mem_id, []).append(node.attributes)

    def add_heading(self, node: LexborNode) -> None:
        """Take a heading: it belongs to the images after it."""
        self.heading = node
        self._heading_text = ""

    def add_figcaption(self, node: LexborNode) -> None:
        """Take a figcaption: it belongs to every image of its figure, before it or after."""
        figure = self.structure.place_of(node).figure
        text = tidy(node.text_lexbor())
        if figure is None or not text:
            return
        for found in self._by_figure.get(figure.mem_id, ()):
            _add_text(found.candidate, "figcaption", text)

    def add_image(self, node: LexborNode) -> None:
        """Take an img element, if it names an address."""
        attributes = node.attributes
        addresses = self._addresses(node, attributes)
        if not addresses or len(self._found) >= MAX_CANDIDATES:
            return
        parent = node.parent
        place = Place() if parent is None else self.structure.place_of(parent)
        known = self._found.get(addresses[0])
        if known is None:
            known = self._new(place, attributes, addresses)
        else:
            known.times += 1
        self._add_texts(known, node, place, attributes)

    def _addresses(self, node: LexborNode, attributes: Attributes) -> list[str]:
        """Return the canonical addresses of an image, best first."""
        sources: list[Attributes] = []
        if self._sources and (parent := node.parent) is not None:
            sources = self._sources.get(parent.mem_id, [])
        if sources or is_responsive(attributes):
            written = by_preference(attributes, sources)[: 2 * MAX_ALTERNATIVES]
        else:
            source = attributes.get("src")
            written = [source] if source and is_address(source) else []
        found = [url for text in written if (url := self.base[text]) is not None]
        return found if len(found) < 2 else list(dict.fromkeys(found))

    def _new(self, place: Place, attributes: Attributes, addresses: list[str]) -> _Found:
        """Make the candidate of a picture that is met for the first time."""
        candidate = Candidate(
            self.page,
            addresses[0],
            position=len(self._found),
            in_link=place.anchor is not None,
            container=place.container,
            alternatives=addresses[1 : MAX_ALTERNATIVES + 1],
        )
        candidate.width, candidate.height = _declared_sides(attributes)
        words = file_words(addresses[0])
        furniture = names_furniture(
            f"{words} {attributes.get('class') or ''} {attributes.get('alt') or ''}"[:1000]
        )
        found = _Found(candidate, place.figure is not None, furniture)
        self._found[addresses[0]] = found
        if words:
            candidate.texts.append(Text("filename", words))
        return found

    def _add_texts(
        self, found: _Found, node: LexborNode, place: Place, attributes: Attributes
    ) -> None:
        """Give a picture the texts of one of its places in the page."""
        candidate = found.candidate
        for name, source in (("alt", "alt"), ("title", "title"), ("aria-label", "aria")):
            if value := attributes.get(name):
                _add_text(candidate, source, tidy(value))
        if place.figure is not None:
            self._by_figure.setdefault(place.figure.mem_id, []).append(found)
            _add_text(candidate, "aria", tidy(place.figure.attrs.get("aria-label")))
            self._add_earlier_caption(found, place.figure)
        for text, element in self.surroundings.around(node):
            if self.prose_length < _PROSE and len(text) > _SENTENCE:
                self.prose.append(text)
                self.prose_length += len(text)
            caption = element is not None and len(text) < _MAX_CAPTION and is_caption(element)
            _add_text(candidate, "figcaption" if caption else "surrounding", text)
        if place.anchor is not None:
            _add_text(candidate, "anchor", tidy(place.anchor.attrs.get("title")))
            _add_text(candidate, "anchor", tidy(place.anchor.text_lexbor()))
        if self.heading is not None:
            self._heading_text = self._heading_text or tidy(self.heading.text_lexbor())
            _add_text(candidate, "heading", self._heading_text)

    def _add_earlier_caption(self, found: _Found, figure: LexborNode) -> None:
        """Add the caption of a figure that puts it before the image."""
        first = figure.first_child
        while first is not None and first.is_text_node:
            first = first.next
        if first is not None and first.tag == "figcaption":
            _add_text(found.candidate, "figcaption", tidy(first.text_lexbor()))

    def finish(self, metadata: Metadata) -> list[Candidate]:
        """Return the candidates with their scores, those that only metadata names last."""
        images = len(self._found)
        for found in self._found.values():
            candidate = found.candidate
            sides = [side for side in (candidate.width, candidate.height) if side is not None]
            candidate.dominance = dominance(
                candidate.container,
                found.in_figure,
                candidate.in_link,
                sides,
                found.furniture,
                found.times > 1,
                candidate.position,
                images,
            )
        named = {url for found in self._found.values() for url in _all_addresses(found.candidate)}
        candidates = [found.candidate for found in self._found.values()]
        return candidates + self._from_metadata(metadata, named)

    def _from_metadata(self, metadata: Metadata, named: set[str]) -> list[Candidate]:
        candidates: dict[str, Candidate] = {}
        for image in metadata.images:
            url = self.base[image.address] if is_address(image.address) else None
            if url is None or url in named or len(candidates) >= MAX_CANDIDATES:
                continue
            position = len(self._found) + len(candidates)
            candidate = candidates.setdefault(
                url, Candidate(self.page, url, position=position, container="meta")
            )
            for text in image.texts:
                _add_text(candidate, "alt", tidy(text))
            _add_text(candidate, "title", tidy(metadata.title))
            _add_text(candidate, "surrounding", tidy(metadata.description))
            words = file_words(url)
            _add_text(candidate, "filename", words)
            candidate.dominance = dominance(
                "meta", False, False, [], names_furniture(words), False, position, position + 1
            )
        return list(candidates.values())


def _all_addresses(candidate: Candidate) -> list[str]:
    return [candidate.image, *candidate.alternatives]


def _add_text(candidate: Candidate, source: str, text: str) -> None:
    """Add a text unless it is empty, or there already from the same source."""
    texts = candidate.texts
    if text and len(texts) < _MAX_TEXTS:
        for known in texts:
            if known.text == text and known.source == source:
                return
        texts.append(Text(source, text))


def _declared_sides(attributes: Attributes) -> tuple[int | None, int | None]:
    """Return the width and height that attributes or style give in pixels; 0 counts as none."""
    width, height = _side(attributes.get("width")), _side(attributes.get("height"))
    style = attributes.get("style")
    if style and len(style) < 2000:
        for match in _STYLE_SIDES.finditer(style):
            if match[1].lower() == "width":
                width = int(match[2]) or None
            else:
                height = int(match[2]) or None
    return width, height


def _side(value: str | None) -> int | None:
    match = _PIXELS.fullmatch(value) if value else None
    return int(match[1]) or None if match else None
