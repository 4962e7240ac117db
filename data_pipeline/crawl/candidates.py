"""Image candidates of one page: each picture once, with every text that the page gives it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from data_pipeline.crawl.address import Base
from data_pipeline.crawl.dominance import dominance, names_furniture
from data_pipeline.crawl.image_tables import ImageTables
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
_MAX_SOURCES = 100
_PROSE = 1000
_SENTENCE = 60
_PIXELS = re.compile(r"\s*(\d{1,5})(?:\.\d+)?(?:px)?\s*")
_STYLE_SIDES = re.compile(r"(?<![a-z-])(width|height)\s*:\s*(\d{1,5})(?:\.\d+)?px", re.IGNORECASE)

_IMAGE_ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp"))

_OWN_TEXTS = (("alt", "alt"), ("title", "title"), ("aria-label", "aria"))

Attributes = Mapping[str, str | None]


@dataclass(slots=True)
class Picture:
    """A candidate in the making: what the page has said of one picture so far.

    It holds no element, which would keep the tree of its piece of the page.
    """

    addresses: list[str]
    container: str
    in_link: bool
    in_figure: bool
    sides: tuple[int | None, int | None]
    furniture: bool
    times: int = 1
    texts: dict[tuple[str, str], None] = field(default_factory=dict)


class Gatherer:
    """Gathers the candidates of a page as its images come by in document order.

    `prose` is some of the running text beside the images, to tell the page's language by;
    `pictures` are those that img elements show, by their best address.
    """

    def __init__(self, page: str, base: Base) -> None:
        self.page = page
        self.base = base
        self.prose: list[str] = []
        self.prose_length = 0
        self.pictures: dict[str, Picture] = {}
        self._backgrounds: dict[str, Picture] = {}
        self.start_piece()

    def start_piece(self) -> None:
        """Forget the elements of a piece of the page that has been read; its tree is gone."""
        self._structure = Structure()
        self._surroundings = Surroundings()
        self._tables = ImageTables()
        self._by_figure: dict[int, list[Picture]] = {}
        self.start_backgrounds()

    def start_backgrounds(self) -> None:
        """Begin once more at the first heading of a piece, for what is shown by style."""
        self._heading: LexborNode | None = None
        self._heading_text = ""

    @property
    def has_images(self) -> bool:
        """Whether any image has come by yet."""
        return bool(self.pictures or self._backgrounds)

    def add_heading(self, node: LexborNode) -> None:
        """Take a heading: it belongs to the images after it."""
        self._heading = node
        self._heading_text = ""

    def add_figcaption(self, node: LexborNode) -> None:
        """Take a figcaption: it belongs to every image of its figure, before it or after."""
        parent = node.parent
        figure = None if parent is None else self._structure.place_of(parent).figure
        if figure is not None and (pictures := self._by_figure.get(figure.mem_id)):
            text = tidy(node.text_lexbor())
            for picture in pictures:
                picture.texts["figcaption", text] = None

    def add_image(self, node: LexborNode) -> None:
        """Take an img element, if it names an address."""
        attributes = node.attributes
        parent = node.parent
        addresses = self._addresses(node, attributes, parent)
        pictures = self.pictures
        if not addresses or len(pictures) >= MAX_CANDIDATES:
            return
        place = Place() if parent is None else self._structure.place_of(parent)
        anchor = None if place.anchor is None else place.anchor.attributes
        picture = pictures.get(addresses[0])
        if picture is None:
            picture = pictures[addresses[0]] = _picture(addresses, place, attributes)
        else:
            picture.times += 1
        target = None if anchor is None else self.full_size(anchor.get("href"))
        if target and target not in picture.addresses:
            picture.addresses.insert(1, target)
        if len(picture.texts) < 2 * _MAX_TEXTS:
            self._add_texts(picture, node, place, attributes, anchor)

    def add_background(self, node: LexborNode, written: list[str]) -> None:
        """Take a picture that an element shows behind its content, by its addresses, best first."""
        addresses = self._resolved(written)
        pictures = self._backgrounds
        if not addresses or len(pictures) >= MAX_CANDIDATES:
            return
        place, attributes = self._structure.place_of(node), node.attributes
        picture = pictures.get(addresses[0])
        if picture is None:
            picture = pictures[addresses[0]] = _picture(addresses, place, attributes)
        else:
            picture.times += 1
        if len(picture.texts) < 2 * _MAX_TEXTS:
            anchor = None if place.anchor is None else place.anchor.attributes
            picture.texts["surrounding", self._surroundings.inside(node)] = None
            self._add_texts(picture, node, place, attributes, anchor)

    def full_size(self, target: str | None) -> str | None:
        """Return the canonical address of the image file that a thumbnail links to, if it does.

        Pages about a file, as wikis have them, are called `File:NAME.jpg`.
        """
        if not target:
            return None
        path = target
        if "?" in path or "#" in path:
            path = path.partition("#")[0].partition("?")[0]
        if path[path.rfind(".") :].lower() not in _IMAGE_ENDINGS or not is_address(target):
            return None
        return None if ":" in path.rpartition("/")[2] else self.base[target]

    def _addresses(
        self, node: LexborNode, attributes: Attributes, parent: LexborNode | None
    ) -> list[str]:
        """Return the canonical addresses of an image, best first."""
        if parent is not None and parent.tag == "picture":
            return self.addresses_of(attributes, _sources(node))
        if is_responsive(attributes):
            return self.addresses_of(attributes, [])
        return self._resolved((attributes.get("src"),))

    def addresses_of(self, attributes: Attributes, sources: list[Attributes]) -> list[str]:
        """Return all that an img and its picture's source elements name, resolved, best first."""
        return self._resolved(by_preference(attributes, sources))

    def address_of(self, written: str) -> str | None:
        """Return the canonical address of what is written, None if it is none."""
        return self.base[written] if is_address(written) else None

    def _resolved(self, written: Iterable[str | None]) -> list[str]:
        """Return the canonical addresses in a list, each once."""
        found: list[str] = []
        for text in written:
            if text and (url := self.address_of(text)) is not None and url not in found:
                found.append(url)
                if len(found) > MAX_ALTERNATIVES:
                    break
        return found

    def _add_texts(
        self,
        picture: Picture,
        node: LexborNode,
        place: Place,
        attributes: Attributes,
        anchor: Attributes | None,
    ) -> None:
        """Give a picture the texts of one of its places in the page."""
        texts = picture.texts
        for name, source in _OWN_TEXTS:
            if value := attributes.get(name):
                texts[source, tidy(value)] = None
        if place.figure is not None:
            self._add_figure(picture, place.figure)
        if place.cell is not None and (beneath := self._tables.caption_of(place.cell)):
            texts["figcaption", beneath] = None
        else:
            self._add_surroundings(texts, node)
        if place.anchor is not None and anchor is not None:
            texts["anchor", tidy(anchor.get("title"))] = None
            texts["anchor", tidy(place.anchor.text_lexbor())] = None
        if self._heading is not None:
            self._heading_text = self._heading_text or tidy(self._heading.text_lexbor())
            texts["heading", self._heading_text] = None

    def _add_surroundings(self, texts: dict[tuple[str, str], None], node: LexborNode) -> None:
        """Add the texts before and after an image; some of it tells the page's language."""
        for text, element in self._surroundings.around(node):
            if self.prose_length < _PROSE and len(text) > _SENTENCE:
                self.prose.append(text)
                self.prose_length += len(text)
            caption = element is not None and len(text) < _MAX_CAPTION and is_caption(element)
            texts["figcaption" if caption else "surrounding", text] = None

    def _add_figure(self, picture: Picture, figure: LexborNode) -> None:
        """Add what a figure says before its image; a caption behind it comes by later."""
        self._by_figure.setdefault(figure.mem_id, []).append(picture)
        picture.texts["aria", tidy(figure.attributes.get("aria-label"))] = None
        first = figure.first_child
        while first is not None and first.is_text_node:
            first = first.next
        if first is not None and first.tag == "figcaption":
            picture.texts["figcaption", tidy(first.text_lexbor())] = None

    def candidates(self) -> list[Candidate]:
        """Return the candidates of `pictures`, in document order."""
        pictures = self.pictures.values()
        return [self._candidate(picture, position) for position, picture in enumerate(pictures)]

    def finish(self, candidates: list[Candidate], metadata: Metadata) -> list[Candidate]:
        """Return all candidates with their scores.

        First those of `pictures`, which are given, then images that only metadata names, then
        backgrounds.
        """
        pictures = self.pictures.values()
        if not metadata.images and not self._backgrounds:
            return candidates
        named = {url for picture in pictures for url in picture.addresses}
        if metadata.images:
            candidates += self._from_metadata(metadata, named)
            named.update(candidate.image for candidate in candidates[len(pictures) :])
        for url, picture in self._backgrounds.items():
            if url not in named and len(candidates) < MAX_CANDIDATES:
                candidates.append(self._candidate(picture, len(candidates)))
        return candidates

    def _candidate(self, picture: Picture, position: int) -> Candidate:
        width, height = picture.sides
        return Candidate(
            page=self.page,
            image=picture.addresses[0],
            texts=[Text(source, text) for source, text in picture.texts if text][:_MAX_TEXTS],
            width=width,
            height=height,
            position=position,
            in_link=picture.in_link,
            container=picture.container,
            alternatives=picture.addresses[1 : MAX_ALTERNATIVES + 1],
            dominance=dominance(
                picture.container,
                picture.in_figure,
                picture.in_link,
                width,
                height,
                picture.furniture,
                picture.times > 1,
                position == 0,
                len(self.pictures),
            ),
        )

    def _from_metadata(self, metadata: Metadata, named: set[str]) -> list[Candidate]:
        candidates: dict[str, Candidate] = {}
        for image in metadata.images:
            url = self.base[image.address] if is_address(image.address) else None
            if url is None or url in named or len(candidates) >= MAX_CANDIDATES:
                continue
            position = len(self.pictures) + len(candidates)
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
                *("meta", False, False, None, None, names_furniture(words), False),
                is_first=position == 0,
                images=position + 1,
            )
        return list(candidates.values())


def _picture(addresses: list[str], place: Place, attributes: Attributes) -> Picture:
    """Return a picture that is met for the first time."""
    words = file_words(addresses[0])
    classes, alt = attributes.get("class") or "", attributes.get("alt") or ""
    picture = Picture(
        addresses,
        place.container,
        place.anchor is not None,
        place.figure is not None,
        declared_sides(attributes),
        speaks_of_furniture(words, classes, alt),
    )
    picture.texts["filename", words] = None
    return picture


def speaks_of_furniture(words: str, classes: str, alt: str) -> bool:
    """Say whether the words in a picture's address, its class or its alt speak of furniture."""
    return names_furniture(f"{words} {classes} {alt}"[:1000])


def _sources(image: LexborNode) -> list[Attributes]:
    """Return the attributes of a picture's source elements, which come before its img."""
    found: list[Attributes] = []
    node = image.prev
    for _ in range(_MAX_SOURCES):
        if node is None:
            break
        if node.tag == "source":
            found.append(node.attributes)
        node = node.prev
    return found[::-1]


def _add_text(candidate: Candidate, source: str, text: str) -> None:
    """Add a text unless it is empty, or there already from the same source."""
    texts = candidate.texts
    if text and len(texts) < _MAX_TEXTS:
        for known in texts:
            if known.text == text and known.source == source:
                return
        texts.append(Text(source, text))


def declared_sides(attributes: Attributes) -> tuple[int | None, int | None]:
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
    if not value:
        return None
    if len(value) < 6 and value.isdecimal():
        return int(value) or None
    match = _PIXELS.fullmatch(value)
    return int(match[1]) or None if match else None
