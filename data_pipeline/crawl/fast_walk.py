"""The walk over a page's tree that is in use: in C where that was built, else in Python.

The extension is optional: an installation without a compiler, or with a selectolax that does not
show lexbor's functions, goes the slow way to the same results.
"""

import functools
from types import ModuleType
from typing import cast

import selectolax.lexbor
from selectolax.lexbor import LexborHTMLParser

from data_pipeline.crawl import walk as in_python
from data_pipeline.crawl.candidates import Gatherer, declared_sides, speaks_of_furniture
from data_pipeline.crawl.complexity import MAX_TAGS, pieces
from data_pipeline.crawl.dominance import FURNITURE, dominance
from data_pipeline.crawl.encoding import to_utf8
from data_pipeline.crawl.head import Head
from data_pipeline.crawl.page import Candidate, Text
from data_pipeline.crawl.srcset import RESPONSIVE
from data_pipeline.crawl.structure import BY_TAG, INDIFFERENT, container_inside
from data_pipeline.crawl.texts import (
    INLINE,
    SILENT,
    STOPS,
    file_words,
    names_caption,
    near_text,
    tidy,
)

_TAG_SETS = {
    "inline": INLINE,
    "silent": SILENT,
    "stops": STOPS,
    "indifferent": frozenset(INDIFFERENT),
    "containers": frozenset(BY_TAG),
}
_TWINS = {
    "tidy": tidy,
    "near_text": near_text,
    "file_words": file_words,
    "names_furniture": speaks_of_furniture,
    "names_caption": names_caption,
    "container_inside": container_inside,
    "declared_sides": declared_sides,
    "dominance": dominance,
    "furniture": FURNITURE,
    "lazy": RESPONSIVE,
    "Text": Text,
    "Candidate": Candidate,
}


@functools.cache
def native() -> ModuleType | None:
    """Return the extension, None where it was not built or does not fit."""
    try:
        from data_pipeline.crawl import _walk

        _walk.prepare(selectolax.lexbor.__file__, _TAG_SETS, _TWINS)
    except ImportError:
        return None
    return _walk


def walk(
    tree: LexborHTMLParser, head: Head, gatherer: Gatherer, links: dict[str, None] | None
) -> bool:
    """Tell `head`, `gatherer` and `links` of a tree's elements, as `walk.walk` does."""
    extension, root = native(), tree.root
    if extension is None or root is None:
        return in_python.walk(tree, head, gatherer, links)
    return cast(bool, extension.walk(root.mem_id, head, gatherer, links))


def candidates(gatherer: Gatherer) -> list[Candidate]:
    """Return the candidates of the pictures that `walk` gathered, as `Gatherer.candidates` does."""
    extension = native()
    if extension is None:
        return gatherer.candidates()
    return cast(list[Candidate], extension.candidates(gatherer.pictures, gatherer.page))


def pieces_of(html: bytes, content_type: str) -> list[bytes]:
    """Return a page in UTF-8, in pieces of bounded work, as `pieces(to_utf8(...))` does."""
    extension = native()
    if extension is not None:
        is_plain, tags = extension.survey(html)
        if is_plain and tags <= MAX_TAGS:
            return [html]
    return pieces(to_utf8(html, content_type))
