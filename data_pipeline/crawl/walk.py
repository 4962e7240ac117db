"""One pass over a page's tree: who takes what of each element.

One CSS query brings the elements that matter in document order; nothing here recurses, so that
depth costs no stack. `native/walk.c` does the same some ten times as fast, where it was built; this
is its slow twin.
"""

from collections.abc import Callable, Mapping

from selectolax.lexbor import LexborHTMLParser, LexborNode

from data_pipeline.crawl.backgrounds import STYLED
from data_pipeline.crawl.candidates import Gatherer
from data_pipeline.crawl.head import Head
from data_pipeline.crawl.metadata import Attributes

MAX_LINKS = 5_000
"""Links of one page that are taken."""

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_SELECTOR = ",".join(
    (*HEADINGS, "img,figcaption,meta,base,title,link,script[type],amp-img,style", STYLED)
)


def walk(
    tree: LexborHTMLParser, head: Head, gatherer: Gatherer, links: dict[str, None] | None
) -> bool:
    """Tell `head` and `gatherer` of a tree's elements, and put where links lead into `links`.

    Links are left out if that is None. Returns whether some element was selected for its style
    alone, so that the page may show pictures as backgrounds.
    """
    return _Walk(head, gatherer, links).through(tree)


class _Walk:
    """A pass over one tree."""

    def __init__(self, head: Head, gatherer: Gatherer, links: dict[str, None] | None) -> None:
        self._head = head
        self._gatherer = gatherer
        self._links = links
        self._has_styled = False

    def through(self, tree: LexborHTMLParser) -> bool:
        """Go through the tree; return whether an element was selected for its style alone."""
        takers, otherwise = self._takers(), self._see_styled
        selector = f"{_SELECTOR},{'a[rel]' if self._links is None else 'a,area'}"
        for node in tree.css(selector):
            takers.get(node.tag or "", otherwise)(node)
        return self._has_styled

    def _takers(self) -> Mapping[str, Callable[[LexborNode], None]]:
        """Return who takes the elements of each name.

        No attribute: a cycle would leave the tree, a megabyte or more, to the garbage collector.
        """
        head, gatherer = self._head, self._gatherer
        return dict.fromkeys(HEADINGS, gatherer.add_heading) | {
            "a": self._take_link,
            "area": self._take_link,
            "img": gatherer.add_image,
            "amp-img": gatherer.add_image,
            "meta": lambda node: head.take_meta(node.attributes, _parent_attributes(node)),
            "link": lambda node: head.take_relation(node.attributes, _parent_attributes(node)),
            "figcaption": gatherer.add_figcaption,
            "base": lambda node: head.take_base(node.attributes.get("href") or ""),
            "script": self._take_script,
            "style": lambda node: head.take_sheet(node.text_lexbor()),
            "title": lambda node: head.take_title(node.text_lexbor()),
        }

    def _see_styled(self, _: LexborNode) -> None:
        self._has_styled = True

    def _take_script(self, node: LexborNode) -> None:
        if "ld+json" in (node.attributes.get("type") or ""):
            self._head.take_json(node.text_lexbor())

    def _take_link(self, node: LexborNode) -> None:
        attributes, links = node.attributes, self._links
        if "style" in attributes:
            self._has_styled = True
        address = attributes.get("href")
        if not address:
            return
        relation = attributes.get("rel")
        if relation:
            self._head.take_licence(relation, address)
            if "nofollow" in relation:
                return
        if links is not None and address[0] != "#" and len(links) < MAX_LINKS:
            link = self._gatherer.base[address]
            if link is not None:
                links[link] = None


def _parent_attributes(node: LexborNode) -> Attributes:
    """Return the attributes of an element's parent, if the element is part of microdata."""
    if not node.attributes.get("itemprop") or node.parent is None:
        return {}
    return node.parent.attributes
