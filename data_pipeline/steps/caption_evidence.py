"""`score.model: text`: how much a text looks like a caption, from all the texts of a candidate.

For webs whose objects no detector at hand knows. Captions, alts and titles are trusted as their
source is. Text that merely stands near gains if it shares words with what else names the picture
(file name, alt, title, heading), or if it is a short block of its own behind the picture, as
captions without markup are; a heading gains by shared words alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_pipeline.steps.text_repair import repair
from data_pipeline.steps.text_rules import phrases, words_of

VERSION = "text-1"
NAME = "text"

_SHARED = 0.5  # for a word shared with another name of the picture
_HEADED = 0.2  # for one shared with a heading, which is of the prose around as much
_BLOCK = 0.3  # for a block of its own
_CUE = 0.2  # for words that speak of a picture
_NARRATED = -0.2  # for words of a teller or to a reader
_MOST = 0.9  # what is marked as a caption comes first all the same

_NEAR = ("surrounding", "heading", "anchor", "filename")
_NAMING = ("alt", "title", "figcaption", "aria", "filename", "heading")
_BLOCK_LETTERS = 280  # a longer block may have been cut
_BLOCK_WORDS = (3, 45)
_CUES = re.compile(
    r"\b(?:photo(?:graph)?(?:ed|s)?|view|seen|showing|shows?|shown|pictured|portrait|close-?up|"
    r"left|right|above|below|foreground|background|from (?:the )?(?:col|north|south|east|west))\b",
    re.IGNORECASE,
)
_TELLER = re.compile(r"\b(?:I|we|you|your|my|our|us|me)\b", re.IGNORECASE)
_COMMON = frozenset(
    ("the", "and", "for", "with", "from", "this", "that", "are", "was", "were", "has", "had")
    + ("have", "not", "but", "its", "their", "his", "her", "into", "over", "under", "when", "where")
    + ("which", "will", "can", "may", "than", "then", "there", "these", "those", "they", "also")
    + ("fig", "figure", "plate", "illustration", "chapter", "part", "page", "about", "introduction")
)


@dataclass(frozen=True)
class Nearby:
    """What the texts of one candidate say together: words by source, and blocks of their own."""

    names: tuple[tuple[str, frozenset[str]], ...]
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> "Nearby":
        """Read the raw texts (source, text) of a candidate."""
        names, blocks = [], []
        for source, raw in texts:
            if source in _NAMING:
                names.append((source, stems(raw)))
            elif source == "surrounding":
                text = repair(raw)
                if is_block(text):
                    blocks.append(text)
        return cls(tuple(names), tuple(blocks))


def stems(text: str) -> frozenset[str]:
    """Return the telling words of a text in lower case, without a plural's ending."""
    words = (word.lower() for part in words_of(text) for word in part.split("-"))
    telling = {word for word in words if len(word) > 2 and word not in _COMMON}
    telling -= phrases().placeholder
    return frozenset(word.removesuffix("s") for word in telling if not word.isdigit())


def is_block(text: str) -> bool:
    """Say whether text from beside a picture is all of a short block, not the end of a long one."""
    low, high = _BLOCK_WORDS
    return len(text) < _BLOCK_LETTERS and low <= len(words_of(text)) <= high


def trust_of(text: str, source: str, trust: float, nearby: Nearby) -> float:
    """Return how far `text` is trusted as the caption of its picture, 0 to 1.

    `trust` is that in its source, which is the last word for what is marked as a caption.
    """
    if source not in _NEAR:
        return trust
    own = stems(text)
    shared = [own & words for name, words in nearby.names if name not in (source, "heading")]
    trust += _SHARED * any(shared)
    if source != "heading":
        trust += _HEADED * any(own & words for name, words in nearby.names if name == "heading")
    if source == "surrounding" and any(text in block for block in nearby.blocks):
        trust += _BLOCK
    trust += _CUE * bool(_CUES.search(text)) + _NARRATED * bool(_TELLER.search(text))
    return round(min(max(trust, 0.0), _MOST), 4)
