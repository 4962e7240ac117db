"""The texts beside an image: what stands before and after it, and what its file is called."""

import re
from urllib.parse import unquote

from selectolax.lexbor import LexborNode

MAX_TEXT = 500
"""Longest text that is kept, in characters."""

MAX_SURROUNDING = 300
"""How much of the block before or after an image is kept: the end that is nearer to it."""

_INLINE_TAGS = """
a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr noscript
picture q s samp small span strike strong sub sup time tt u var wbr
"""
_SILENT_TAGS = """
script style template iframe object embed svg math canvas video audio select button input textarea
form nav img source br hr link meta amp-img map -comment -doctype
"""
INLINE = frozenset(_INLINE_TAGS.split())
"""Elements that stand in a line of text and do not break it."""

_SILENT = frozenset(_SILENT_TAGS.split())
_STOPS = frozenset(("body", "html", "head", "-document", "li", "table", "dl", "main"))
_MAX_LEVELS = 4
_MAX_HOPS = 8
_MAX_DESCENT = 6
_RAW = 4 * MAX_SURROUNDING
_CAPTION_WORDS = ("caption", "legend", "cutline")
_LETTER = re.compile(r"[^\W\d_]")
_PARTS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")


def tidy(text: str | None) -> str:
    """Return `text` with single spaces, at most MAX_TEXT characters of it."""
    return " ".join(text[: 4 * MAX_TEXT].split())[:MAX_TEXT] if text else ""


def file_words(url: str) -> str:
    """Return the words in the name of the file at a canonical `url`, "" if there are none."""
    name = url.partition("?")[0].rpartition("/")[2]
    stem = (name.rpartition(".")[0] or name)[:MAX_TEXT]
    if "%" in stem:
        stem = unquote(stem)
    words = _PARTS.sub(" ", stem).strip()
    return words if _LETTER.search(words) else ""


def is_caption(node: LexborNode) -> bool:
    """Say whether an element calls itself a caption."""
    if node.tag == "figcaption":
        return True
    name = node.attrs.get("class")
    if not name:
        return False
    name = name.lower()
    return any(word in name for word in _CAPTION_WORDS)


Neighbour = tuple[str, LexborNode | None]
"""A text beside an image, and the element that it is all of; None where it stands free."""


class Surroundings:
    """Finds the texts next to images, reading each block of a page only once."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, bool], str] = {}

    def around(self, node: LexborNode) -> list[Neighbour]:
        """Return the nearest text after a node and the nearest before it, as far as there are.

        Looks at the neighbours, then at those of the parents, a few levels up.
        """
        found: dict[bool, Neighbour] = {}
        top = node
        for _ in range(_MAX_LEVELS):
            for after in (True, False):
                if after not in found and (neighbour := self._along(top, after)) is not None:
                    found[after] = neighbour
            if len(found) == 2:
                break
            parent = top.parent
            if parent is None or parent.tag in _STOPS:
                break
            top = parent
        return [found[after] for after in (True, False) if after in found]

    def _along(self, top: LexborNode, after: bool) -> Neighbour | None:
        """Read the inline run next to `top`, or the first block that holds text."""
        run: list[str] = []
        element: LexborNode | None = None
        node = top.next if after else top.prev
        for _ in range(_MAX_HOPS):
            if node is None:
                break
            if node.is_text_node:
                text = (node.text_content or "").strip()
                if text:
                    run.append(text)
            elif (tag := node.tag) in INLINE:
                text = self._block(node, after)
                if text:
                    run.append(text)
                    element = node
            elif tag not in _SILENT:
                if run:
                    break
                text = self._block(node, after)
                if text:
                    return text, node
            elif run and tag in ("img", "amp-img"):
                break
            node = node.next if after else node.prev
        if not run:
            return None
        joined = _near(" ".join(run if after else reversed(run)), after)
        return joined, element if len(run) == 1 else None

    def _block(self, node: LexborNode, after: bool) -> str:
        """Return the text of an element's end that is nearer to the image."""
        key = (node.mem_id, after)
        known = self._blocks.get(key)
        if known is None:
            known = _near(_nearest_block(node, after).text_lexbor(), after)
            self._blocks[key] = known
        return known


def _near(text: str, after: bool) -> str:
    """Return whole words from the beginning of what comes after, or the end of what comes before.

    Cuts to MAX_SURROUNDING characters.
    """
    if after:
        joined = " ".join(text[:_RAW].split())
        if len(joined) <= MAX_SURROUNDING:
            return joined
        return joined[:MAX_SURROUNDING].rpartition(" ")[0] or joined[:MAX_SURROUNDING]
    joined = " ".join(text[-_RAW:].split())
    if len(joined) <= MAX_SURROUNDING:
        return joined
    return joined[-MAX_SURROUNDING:].partition(" ")[2] or joined[-MAX_SURROUNDING:]


def _nearest_block(node: LexborNode, after: bool) -> LexborNode:
    """Descend to the first or last block inside `node` that holds text itself."""
    for _ in range(_MAX_DESCENT):
        child = node.first_child if after else node.last_child
        while child is not None and child.is_text_node and not (child.text_content or "").strip():
            child = child.next if after else child.prev
        if child is None or child.is_text_node:
            break
        tag = child.tag
        if tag in INLINE or tag in _SILENT:
            break
        node = child
    return node
