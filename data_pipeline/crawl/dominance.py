"""Dominance: how likely an image is what its page is about, from HTML alone.

LAIT (ImageBERT §3) keeps "dominant" images by HTML tags and DOM features and does not say how.
Ours is a sum of weights, cut to [0, 1]:

    0.50
    + container   main 0.20, figure 0.15, header -0.25, nav -0.40, footer -0.40, aside -0.25,
                  ad -0.50, meta -0.30
    + size        both declared sides >= 300: 0.20; one of them < 100: -0.35; < 200: -0.15
    + share       0.10 if the page has at most three images, -0.10 if it has more than sixty
    + position    0.05 for the first image of the content
    - link        0.05 inside a link (thumbnails lead elsewhere)
    - name        0.35 if file, class or alt speak of a logo, icon, spacer, button, avatar, badge
    - repetition  0.25 if the page shows it more than once
"""

import functools
import re

_CONTAINERS = {
    "main": 0.20,
    "other": 0.0,
    "header": -0.25,
    "nav": -0.40,
    "footer": -0.40,
    "aside": -0.25,
    "ad": -0.50,
    "meta": -0.30,
}
_FURNITURE_WORDS = """
logo icon ico sprite spacer blank pixel button btn avatar gravatar badge bullet arrow emoji smiley
favicon tracking captcha loading spinner
logos icons sprites spacers pixels buttons btns avatars badges bullets arrows emojis smileys
"""
FURNITURE = frozenset(_FURNITURE_WORDS.split())
"""Words for what is no content."""

_WORD = re.compile(r"[a-z]+")
_FURNITURE_BYTES = frozenset(word.encode() for word in FURNITURE)
_TO_WORDS = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalpha() else 32 for code in range(256)
)
_LARGE, _SMALL, _TINY = 300, 200, 100
_FEW, _MANY = 3, 60


def names_furniture(text: str) -> bool:
    """Say whether a file name, class or alt speaks of a page's furniture, not its content."""
    if text.isascii():
        return not _FURNITURE_BYTES.isdisjoint(text.encode().translate(_TO_WORDS).split())
    return not FURNITURE.isdisjoint(_WORD.findall(text.lower()))


@functools.lru_cache(maxsize=4096)
def dominance(
    container: str,
    in_figure: bool,
    in_link: bool,
    width: int | None,
    height: int | None,
    furniture: bool,
    repeated: bool,
    is_first: bool,
    images: int,
) -> float:
    """Return the score of one of a page's images; the sides are those declared, in CSS pixels."""
    sides = [side for side in (width, height) if side is not None]
    score = 0.5 + _CONTAINERS[container]
    score += 0.15 if in_figure else 0.0
    if sides:
        shortest = min(sides)
        if shortest >= _LARGE and len(sides) > 1:
            score += 0.20
        elif shortest < _TINY:
            score -= 0.35
        elif shortest < _SMALL:
            score -= 0.15
    score += 0.10 if images <= _FEW else (-0.10 if images > _MANY else 0.0)
    score += 0.05 if is_first and container in ("main", "other") else 0.0
    score -= 0.05 if in_link else 0.0
    score -= 0.35 if furniture else 0.0
    score -= 0.25 if repeated else 0.0
    return round(min(1.0, max(0.0, score)), 3)
