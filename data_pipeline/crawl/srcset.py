"""Responsive images: srcset lists and lazy-load attributes, and which address is the best."""

import functools
import operator
import re
from collections.abc import Iterable, Mapping

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
_SRCSET = -1
_RANKS = {name: rank for rank, name in enumerate((*LAZY_SOURCES, "src"))} | dict.fromkeys(
    ("srcset", *LAZY_SRCSETS), _SRCSET
)
RESPONSIVE = frozenset(_RANKS) - {"src"}
"""Attributes of an img, other than src, that name addresses."""

_MAX_PLAIN = 4096
_NO_ADDRESS = ("data:", "about:", "blob:", "javascript:", "{", "[", "<", "%7b")

_SIZE = operator.itemgetter(1)

Entry = tuple[str, float, str]


def entries(srcset: str) -> list[Entry]:
    """Return (address, size, unit) for each entry; unit is "w" for pixels wide or "x" for density.

    Commas inside an address are part of it, as the HTML standard has it.
    """
    return _plain_entries(srcset) or _careful_entries(srcset)


def _plain_entries(srcset: str) -> list[Entry]:
    """Return the entries of a list in which each is an address and one size; [] for all others."""
    if len(srcset) > _MAX_PLAIN:
        return []
    found: list[Entry] = []
    for entry in srcset.split(","):
        words = entry.split()
        if len(words) != 2 or not (size := _descriptor(words[1]))[0]:
            return []
        found.append((words[0], *size))
    return found[:MAX_ENTRIES]


def _careful_entries(srcset: str) -> list[Entry]:
    """Read any list as the standard has it: the slow twin of `_plain_entries`."""
    found: list[Entry] = []
    srcset = srcset[:65536]
    position = 0
    while len(found) < MAX_ENTRIES and (match := _ADDRESS.match(srcset, position)):
        address = match[1].rstrip(",")
        position = match.end()
        descriptors = ""
        if address == match[1] and (rest := _DESCRIPTORS.match(srcset, position)):
            descriptors, position = rest[1], rest.end()
        if address:
            sizes = (size for size in map(_descriptor, descriptors.split()) if size[0])
            found.append((address, *next(sizes, (1.0, "x"))))
    return found


def _descriptor(word: str) -> tuple[float, str]:
    """Return size and unit of "640w" or "2x", size 0 if it is neither."""
    return _short_descriptor(word) if len(word) < 16 else (0.0, "")


@functools.lru_cache(maxsize=4096)
def _short_descriptor(word: str) -> tuple[float, str]:
    unit = word[-1]
    if unit in "wx":
        try:
            size = float(word[:-1])
        except ValueError:
            return 0.0, ""
        if 0 < size < 1e6:
            return size, unit
    return 0.0, ""


def is_responsive(attributes: Mapping[str, str | None]) -> bool:
    """Say whether an img names more addresses than its src."""
    return not RESPONSIVE.isdisjoint(attributes)


def is_address(value: str | None) -> bool:
    """Say whether an attribute holds an address and no inline data or template."""
    if not value:
        return False
    if value[0] == "/" or value[:4] == "http":
        return True
    return not value.lstrip()[:11].lower().startswith(_NO_ADDRESS)


def is_decodable(source: Mapping[str, str | None]) -> bool:
    """Say whether a picture's source is in a format that the pipeline decodes."""
    return _UNDECODABLE.match(source.get("type") or "") is None


def by_preference(
    image: Mapping[str, str | None], sources: list[Mapping[str, str | None]]
) -> Iterable[str]:
    """Return what an image names, best first: the widest, else the densest, else the lazy.

    `image` and `sources` are the attributes of the img and of its picture's source elements.
    Equals keep the order of the page. Not all of it need be an address.
    """
    listed: list[Entry] = []
    single: list[tuple[int, str]] = []
    for attributes in (image, *filter(is_decodable, sources)) if sources else (image,):
        for name in [name for name in attributes if name in _RANKS]:
            if value := attributes[name]:
                rank = _RANKS[name]
                if rank == _SRCSET:
                    listed += entries(value)
                elif attributes is image:
                    single.append((rank, value))
    if len(listed) > 1:
        listed.sort(key=_SIZE, reverse=True)
    if len(single) > 1:
        single.sort()
    found = [address for address, _, unit in listed if unit == "w"]
    dense = [entry for entry in listed if entry[2] == "x"] if len(found) < len(listed) else []
    found += [address for address, size, _ in dense if size > 1]
    found += [address for _, address in single]
    found += [address for address, size, _ in dense if size <= 1]
    return dict.fromkeys(found)
