"""How much work a page may make: bounds that hold before a parser sees it.

HTML parsers take time that grows with the square of the nesting depth and of the attributes of
one tag. Pages with very many tags are therefore read in pieces, each parsed for itself, and pages
that pile up attributes are refused. Ordinary pages pass through untouched.
"""

import re

import numpy as np

MAX_HTML_BYTES = 20_000_000
"""Longest page that is read."""

MAX_TAGS = 5_000
"""Tags, opening and closing, that one piece may hold."""

MAX_PIECES = 40
"""Pieces that are read of one page; what follows them is left out."""

MAX_ATTRIBUTES = 2_000
"""Attributes of one tag, and of all html and body tags, above which a page is refused."""

# Below this size even the worst page of attributes parses in about a second, and below half of it
# the deepest in a quarter.
_SMALL_BYTES = 128 << 10
_SPACE = rb"[ \t\n\f\r/]"
_ATTRIBUTE = (
    rb"(?:" + _SPACE + rb"*+=?+[^ \t\n\f\r/>=]++(?:[ \t\n\f\r]*+=[ \t\n\f\r]*+"
    rb"(?:\"[^\"]*+\"?+|'[^']*+'?+|[^ \t\n\f\r>]*+))?+)"
)
_TAG = re.compile(rb"<([a-zA-Z][^ \t\n\f\r/>]*+)((?:" + _ATTRIBUTE + rb"){0,%d}+)" % MAX_ATTRIBUTES)
_GATHERED = (b"html", b"body")


def is_hostile(html: bytes) -> bool:
    """Say whether some tag of a large page has more attributes than any honest page has."""
    if len(html) < _SMALL_BYTES:
        return False
    gathered = 0
    for match in _TAG.finditer(html):
        text = match[2]
        # Every attribute takes two bytes and more, so that a short text needs no counting.
        if len(text) >= 2 * MAX_ATTRIBUTES and _count(text) >= MAX_ATTRIBUTES:
            return True
        if match[1].lower() in _GATHERED and text:
            gathered += _count(text)
            if gathered >= MAX_ATTRIBUTES:
                return True
    return False


def _count(attributes: bytes) -> int:
    return len(re.findall(_ATTRIBUTE, attributes))


def pieces(html: bytes) -> list[bytes]:
    """Return the page in pieces of at most MAX_TAGS tags; nearly every page is one piece."""
    if len(html) < _SMALL_BYTES // 2:
        return [html]
    is_tag = np.frombuffer(html, np.uint8) == ord("<")
    if np.count_nonzero(is_tag) <= MAX_TAGS:
        return [html]
    tags = np.flatnonzero(is_tag)
    starts = [0, *tags[MAX_TAGS::MAX_TAGS].tolist()][: MAX_PIECES + 1]
    ends = [*starts[1:], len(html)]
    return [html[start:end] for start, end in zip(starts, ends, strict=True)][:MAX_PIECES]
