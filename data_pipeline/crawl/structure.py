"""Where an element stands in its page: in which container, link, figure and cell."""

import functools
import re
from dataclasses import dataclass

from selectolax.lexbor import LexborNode

from data_pipeline.crawl.texts import INLINE

BY_TAG = {
    "nav": "nav",
    "header": "header",
    "footer": "footer",
    "aside": "aside",
    "main": "main",
    "article": "main",
}
_BY_ROLE = {
    "navigation": "nav",
    "menu": "nav",
    "menubar": "nav",
    "banner": "header",
    "contentinfo": "footer",
    "complementary": "aside",
    "main": "main",
    "article": "main",
}
# Words in class and id, the strongest first. "banner" is missing: it names heroes as well as ads.
_WORDS = {
    "ad": "ad ads adv advert advertisement advertising adsense adsbox adslot sponsor sponsors "
    "sponsored promo promotion dfp doubleclick taboola outbrain cookie",
    "nav": "nav navbar navigation menu submenu breadcrumb breadcrumbs pagination pager toc tabs",
    "footer": "footer colophon copyright",
    "aside": "sidebar widget widgets related recommended popular trending share sharing social "
    "comments comment newsletter subscribe avatar author",
    "header": "header masthead topbar logo brand branding",
    "main": "main content article post entry story body-copy page-content",
}
_SPLIT = re.compile(r"[\s_-]+|(?<=[a-z])(?=[A-Z])")
_BY_WORD = {word: name for name, words in _WORDS.items() for word in words.split()}
_STRENGTH = {name: rank for rank, name in enumerate(_WORDS)}
# What is inside of these stays there, even if it calls itself a header or the content.
_CLOSED = frozenset(("ad", "nav", "footer", "aside"))
INDIFFERENT = INLINE | {"body", "html", "-document", "p", "center", "tr", "tbody"}
_CELLS = ("td", "th")
MAX_NAMES = 510
"""Longest class and id together that are taken for names, in characters."""

MAX_ROLE = 32
"""Longest role that is looked at, in characters."""

_MAX_ANCESTORS = 256


@dataclass(slots=True)
class Place:
    """What an element's ancestors, itself included, say about everything inside it."""

    container: str = "other"
    anchor: LexborNode | None = None
    figure: LexborNode | None = None
    cell: LexborNode | None = None


def container_named(names: str) -> str | None:
    """Return the container that class and id `names` speak of, None if they do not."""
    words = (word.lower() for word in _SPLIT.split(names))
    found = {_BY_WORD[word] for word in words if word in _BY_WORD}
    return min(found, key=_STRENGTH.__getitem__, default=None)


class Structure:
    """Knows the places of a page's elements; ancestors that images share are read once."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}

    def place_of(self, node: LexborNode) -> Place:
        """Return the place that the inside of `node` is."""
        places = self._places
        place = places.get(node.mem_id)
        if place is not None:
            return place
        unknown = [node]
        current = node.parent
        while current is not None and len(unknown) < _MAX_ANCESTORS:
            place = places.get(current.mem_id)
            if place is not None:
                break
            unknown.append(current)
            current = current.parent
        inner = place or Place()
        for element in reversed(unknown):
            inner = places[element.mem_id] = _inside(element, inner)
        return inner


def _inside(element: LexborNode, outer: Place) -> Place:
    """Return the place that `element` makes in `outer`."""
    tag = element.tag or ""
    if tag == "a":
        return Place(outer.container, element, outer.figure, outer.cell)
    if tag in INDIFFERENT:
        return outer
    figure = element if tag == "figure" else outer.figure
    container = _container_of(outer.container, tag, element)
    cell = element if tag in _CELLS else outer.cell
    if figure is outer.figure and cell is outer.cell and container == outer.container:
        return outer
    return Place(container, outer.anchor, figure, cell)


def _container_of(outer: str, tag: str, element: LexborNode) -> str:
    attributes = element.attributes
    classes, identity = attributes.get("class") or "", attributes.get("id") or ""
    role = attributes.get("role") or ""
    if len(classes) + len(identity) > MAX_NAMES:
        classes = identity = ""
    if len(role) > MAX_ROLE:
        role = ""
    if classes or identity or role or tag in BY_TAG:
        return container_inside(outer, tag, classes, identity, role)
    return outer


@functools.lru_cache(maxsize=16384)
def container_inside(outer: str, tag: str, classes: str, identity: str, role: str) -> str:
    """Return the container inside an element, by its tag, class, id and role, in `outer`."""
    named = container_named(f"{classes} {identity}")
    own = named if named == "ad" else _BY_ROLE.get(role) or BY_TAG.get(tag) or named
    return _container(outer, own)


def _container(outer: str, own: str | None) -> str:
    """Return what `own` container counts as inside `outer`: an article's header is content."""
    if own is None or outer == "ad":
        return outer
    if own in ("header", "main") and outer in _CLOSED:
        return outer
    if own == "header" and outer == "main":
        return outer
    return own
