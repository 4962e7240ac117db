"""Responsive images: srcset lists and lazy-load attributes, and which address is the best."""

import operator
import re
from collections.abc import Mapping

MAX_ENTRIES = 40
"""How many entries of one srcset are looked at."""

LAZY_SRCSETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
LAZY_SOURCES = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-original-src",
    "data-hi-res-src",
    "data-image-src",
    "data-img-src",
    "data-url",
    "data-echo",
    "data-full-src",
    "data-large-file",
    "data-orig-file",
)

_ADDRESS = re.compile(r"[\s,]*(\S+)")
_DESCRIPTORS = re.compile(r"([^,(]*(?:\([^)]*\)?[^,(]*)*),?")
_UNDECODABLE = re.compile(r"image/(?:avif|jxl|heic|svg|jp2)", re.IGNORECASE)
_SRCSETS = frozenset(("srcset", *LAZY_SRCSETS))
_RESPONSIVE = frozenset((*_SRCSETS, *LAZY_SOURCES))
_RANKS = {name: rank for rank, name in enumerate((*LAZY_SOURCES, "src"))}
_NO_ADDRESS = ("data:", "about:", "blob:", "javascript:", "{", "[", "<", "%7b")


def entries(srcset: str) -> list[tuple[str, float, str]]:
    """Return (address, size, unit) for each entry; unit is "w" for pixels wide or "x" for density.

    Commas inside an address are part of it, as the HTML standard has it.
    """
    found: list[tuple[str, float, str]] = []
    srcset = srcset[:65536]
    position = 0
    while len(found) < MAX_ENTRIES and (match := _ADDRESS.match(srcset, position)):
        address = match[1].rstrip(",")
        position = match.end()
        descriptors = ""
        if address == match[1] and (rest := _DESCRIPTORS.match(srcset, position)):
            descriptors, position = rest[1], rest.end()
        if address:
            found.append((address, *_descriptor(descriptors)))
    return found


def _descriptor(text: str) -> tuple[float, str]:
    """Return size and unit of "640w" or "2x"; density 1 if it is neither."""
    for word in text.split():
        if word[-1] in "wx":
            try:
                size = float(word[:-1])
            except ValueError:
                continue
            if 0 < size < 1e6:
                return size, word[-1]
    return 1.0, "x"


def is_responsive(attributes: Mapping[str, str | None]) -> bool:
    """Say whether an img names more addresses than its src."""
    return not _RESPONSIVE.isdisjoint(attributes)


def is_address(value: str | None) -> bool:
    """Say whether an attribute holds an address and no inline data or template."""
    return bool(value) and not str(value).lstrip()[:11].lower().startswith(_NO_ADDRESS)


def is_decodable(source: Mapping[str, str | None]) -> bool:
    """Say whether a picture's source is in a format that the pipeline decodes."""
    return _UNDECODABLE.match(source.get("type") or "") is None


def by_preference(
    image: Mapping[str, str | None], sources: list[Mapping[str, str | None]]
) -> list[str]:
    """Return the addresses of an image, best first: the widest, else the densest, else the lazy.

    `image` and `sources` are the attributes of the img and of its picture's source elements.
    A placeholder in src (inline data) is left out; equals keep the order of the page.
    """
    ranked: list[tuple[bool, float, str]] = []
    plain: list[tuple[int, str]] = []
    for attributes in (image, *(source for source in sources if is_decodable(source))):
        for name, value in attributes.items():
            if not value:
                continue
            if name in _SRCSETS:
                ranked += [(unit != "w", -size, text) for text, size, unit in entries(value)]
            elif attributes is image and name in _RANKS:
                plain.append((_RANKS[name], value))
    ranked.sort(key=operator.itemgetter(0, 1))
    wide = [address for is_dense, size, address in ranked if not is_dense or size < -1]
    rest = [address for is_dense, size, address in ranked if is_dense and size >= -1]
    found = dict.fromkeys([*wide, *(value for _, value in sorted(plain)), *rest])
    return [address for address in found if is_address(address)]
