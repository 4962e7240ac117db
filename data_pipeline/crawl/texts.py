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

SILENT = frozenset(_SILENT_TAGS.split())
"""Elements that say nothing, or whose text is not for readers."""

STOPS = frozenset(("body", "html", "head", "-document", "li", "table", "dl", "main"))
"""Elements out of which no text beside an image is looked for."""

_MAX_LEVELS = 4
_MAX_HOPS = 8
_MAX_DESCENT = 6
_RAW = 4 * MAX_SURROUNDING
_MOSTLY_ENOUGH = MAX_SURROUNDING + 40
_CAPTION = re.compile("caption|legend|cutline", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_PARTS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_BREAKS_TO_SPACES = str.maketrans(dict.fromkeys(map(chr, range(128)), " ")) | {
    ord(character): character for character in "abcdefghijklmnopqrstuvwxyz0123456789"
}


def tidy(text: str | None) -> str:
    """Return `text` with single spaces, at most MAX_TEXT characters of it."""
    if text and text.isprintable() and len(text) < MAX_TEXT and "  " not in text:
        return text.strip(" ")  # no other white space is printable
    return " ".join(text[: 4 * MAX_TEXT].split())[:MAX_TEXT].rstrip() if text else ""


def file_words(url: str) -> str:
    """Return the words in the name of the file at a canonical `url`, "" if there are none."""
    name = url.partition("?")[0].rpartition("/")[2]
    stem = (name.rpartition(".")[0] or name)[:MAX_TEXT]
    if "%" in stem:
        stem = unquote(stem)
    if stem.islower() and stem.isascii():
        return " ".join(stem.translate(_BREAKS_TO_SPACES).split())
    return _words_of(stem)


def _words_of(stem: str) -> str:
    """Return the words of any file name; the slow twin of translating those in small letters."""
    words = _PARTS.sub(" ", stem).strip()
    return words if _LETTER.search(words) else ""


def is_caption(node: LexborNode) -> bool:
    """Say whether an element calls itself a caption."""
    return node.tag == "figcaption" or names_caption(node.attributes.get("class") or "")


def names_caption(classes: str) -> bool:
    """Say whether a class calls its element a caption."""
    return _CAPTION.search(classes) is not None


Neighbour = tuple[str, LexborNode | None]
"""A text beside an image, and the element that it is all of; None where it stands free."""


class Surroundings:
    """Finds the texts next to images, reading each block of a page only once."""

    def __init__(self) -> None:
        self._blocks: dict[int, str] = {}

    def around(self, node: LexborNode) -> list[Neighbour]:
        """Return the nearest text after a node and the nearest before it, as far as there are.

        Looks at the neighbours, then at those of the parents, a few levels up.
        """
        after: Neighbour | None = None
        before: Neighbour | None = None
        top = node
        for _ in range(_MAX_LEVELS):
            if after is None and (neighbour := top.next) is not None:
                after = self._along(neighbour, True)
            if before is None and (neighbour := top.prev) is not None:
                before = self._along(neighbour, False)
            if after is not None and before is not None:
                return [after, before]
            parent = top.parent
            if parent is None or parent.tag in STOPS:
                break
            top = parent
        return [found for found in (after, before) if found is not None]

    def inside(self, node: LexborNode) -> str:
        """Return the first text inside a node, as far as it is near the beginning."""
        return self._block(node, True)

    def _along(self, first: LexborNode, after: bool) -> Neighbour | None:
        """Read the inline run that begins with `first`, or the first block that holds text."""
        run: list[str] = []
        element: LexborNode | None = None
        node: LexborNode | None = first
        for _ in range(_MAX_HOPS):
            if node is None:
                break
            tag = node.tag
            if tag == "-text":
                text = (node.text_content or "").strip()
                if text:
                    run.append(text)
            elif tag in INLINE:
                text = self._block(node, after)
                if text:
                    run.append(text)
                    element = node
            elif tag not in SILENT:
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
        joined = near_text(" ".join(run if after else reversed(run)), after)
        return joined, element if len(run) == 1 else None

    def _block(self, node: LexborNode, after: bool) -> str:
        """Return the text of an element's end that is nearer to the image."""
        key = node.mem_id + after  # an address is even
        known = self._blocks.get(key)
        if known is None:
            known = near_text(_nearest_block(node, after).text_lexbor(), after)
            self._blocks[key] = known
        return known


def near_text(text: str, after: bool) -> str:
    """Return whole words from the beginning of what comes after, or the end of what comes before.

    Cuts to MAX_SURROUNDING characters.
    """
    joined = _collapsed(text[:_MOSTLY_ENOUGH] if after else text[-_MOSTLY_ENOUGH:])
    if len(joined) <= MAX_SURROUNDING:
        if len(text) <= _MOSTLY_ENOUGH:
            return joined
        joined = _collapsed(text[:_RAW] if after else text[-_RAW:])
        if len(joined) <= MAX_SURROUNDING:
            return joined
    if after:
        return joined[:MAX_SURROUNDING].rpartition(" ")[0] or joined[:MAX_SURROUNDING]
    return joined[-MAX_SURROUNDING:].partition(" ")[2] or joined[-MAX_SURROUNDING:]


def _collapsed(text: str) -> str:
    """Return `text` with single spaces; text that has them already is not taken apart."""
    if text.isprintable() and "  " not in text:  # no other white space is printable
        return text.strip(" ")
    return " ".join(text.split())


def _nearest_block(node: LexborNode, after: bool) -> LexborNode:
    """Descend to the first or last block inside `node` that holds text itself."""
    for _ in range(_MAX_DESCENT):
        child = node.first_child if after else node.last_child
        while child is not None and child.tag == "-text" and not (child.text_content or "").strip():
            child = child.next if after else child.prev
        if child is None or child.tag == "-text":
            break
        tag = child.tag
        if tag in INLINE or tag in SILENT:
            break
        node = child
    return node
