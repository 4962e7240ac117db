"""Opt-out signals: what X-Robots-Tag headers, robots metas and TDM reservations tell a crawler."""

import re
from collections.abc import Iterable, Mapping

SIGNALS = ("noindex", "nofollow", "noimageindex", "noai", "noimageai", "tdm-reservation")
"""The signals that are kept, in the order in which they are listed."""

_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_SCOPE = re.compile(r"\s*([A-Za-z0-9_.*-]+)\s*:\s*(.*)", re.DOTALL)
_MEANING = {"none": ("noindex", "nofollow")}


def _ordered(found: set[str]) -> list[str]:
    return [signal for signal in SIGNALS if signal in found]


def header_signals(values: Iterable[str], agent: str) -> list[str]:
    """Return the signals of X-Robots-Tag header lines that address every crawler or `agent`.

    A line is a list of directives; `name:` before one makes it and the rest of the line hold for
    that crawler alone, unless the name is a directive that takes a value. The date of
    `unavailable_after` may itself hold commas: its pieces are no directive we know and fall away,
    so that a "noai" behind it is seen.
    """
    found: set[str] = set()
    for value in values:
        concerned = True
        for piece in value.split(","):
            directive = piece.strip().lower()
            match = _SCOPE.fullmatch(directive)
            while match and match[1] not in _VALUED and not match[1].isdigit():
                concerned = match[1] in ("*", agent.lower())
                directive = match[2].strip()
                match = _SCOPE.fullmatch(directive)
            if concerned:
                found.update(_MEANING.get(directive, (directive,)))
    return _ordered(found)


def stored_signals(headers: Mapping[str, str], agent: str) -> list[str]:
    """Return the signals in headers with lower-case names, as a Fetched or WarcRecord holds them.

    Several lines of one header have become one there, so that a crawler's name holds to the end.
    """
    found = header_signals([headers.get("x-robots-tag", "")], agent)
    if headers.get("tdm-reservation", "").strip() == "1":
        found.append("tdm-reservation")
    return found


def meta_signals(metas: Iterable[tuple[str, str]], agent: str) -> list[str]:
    """Return the signals of a page's (name, content) metas that address every crawler or `agent`.

    `tdm-reservation` with content 1 is the W3C community's TDM reservation protocol.
    """
    found: set[str] = set()
    names = ("robots", agent.lower())
    for name, content in metas:
        name = name.strip().lower()
        if name == "tdm-reservation":
            if content.strip() == "1":
                found.add(name)
        elif name in names:
            for piece in content.lower().split(","):
                found.update(_MEANING.get(piece.strip(), (piece.strip(),)))
    return _ordered(found) if found else []


def merged(*lists: Iterable[str]) -> list[str]:
    """Return the signals of all `lists`, each once and in the order of SIGNALS."""
    return _ordered({signal for signals in lists for signal in signals})
