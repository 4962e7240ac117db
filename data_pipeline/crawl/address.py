"""Web addresses in one canonical spelling, resolved as browsers do (the WHATWG URL standard).

Lower-case scheme and host, punycode, no default port, no fragment, no dot segments, upper-case
percent escapes, unreserved characters unescaped, backslashes as slashes.
"""

import functools
import ipaddress
import re
from urllib.parse import unquote

import idna

MAX_LENGTH = 4096
"""Longest address that is taken, in characters."""

_PORTS = {"http": "80", "https": "443"}
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_EDGES = "".join(map(chr, range(0x21)))
_BREAKS = re.compile(r"[\t\n\r]")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
# Addresses that are canonical but for their fragment: nothing to escape, no dot segment.
_SEGMENT = r"(?:[A-Za-z0-9_~!$&'()*+,;=@:-]++(?:\.[A-Za-z0-9_~!$&'()*+,;=@:-]++)*+)"
_ABSOLUTE = re.compile(rf"https?://[a-z][a-z0-9-]*+(?:\.[a-z][a-z0-9-]*+)++(?:/{_SEGMENT}?+)++")
_AT_ORIGIN = re.compile(rf"(https?://[a-z0-9.:-]++/){_SEGMENT}?+(?:/{_SEGMENT}?+)*+")
_FROM_ROOT = re.compile(rf"(?:/{_SEGMENT})*+/?")
_FROM_FOLDER = re.compile(r"[A-Za-z0-9_-]++(?:[/.][A-Za-z0-9_-]++)*+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TRACKING = re.compile(r"(?:utm_[a-z]+|fbclid|gclid|msclkid|mc_cid|mc_eid|igshid)=[^&]*&?")


@functools.lru_cache(maxsize=1024)
def _parts(url: str) -> tuple[str, str, str, str]:
    """Split a canonical URL into scheme, authority, path and query ("?..." or "")."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    path, mark, query = (slash + path).partition("?")
    return scheme, authority, path, mark + query


class Base(dict[str, str | None]):
    """The address that a page's references start from: maps each reference to its canonical URL.

    None stands for what is no web address. A reference is resolved when it is first asked for.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        scheme, authority, path, _ = _parts(url)
        self.url = url
        self.root = f"{scheme}://{authority}"
        self.folder = self.root + path[: path.rfind("/") + 1]
        self.above = self.root + path[: path.rfind("/", 0, max(0, path.rfind("/"))) + 1 or 1]

    def __missing__(self, reference: str) -> str | None:
        found: str | None
        text = reference.partition("#")[0] if "#" in reference else reference
        if len(reference) > MAX_LENGTH:
            found = None
        elif text[:1] == "/" and _FROM_ROOT.fullmatch(text):
            found = self.root + text
        elif text[:4] == "http" and _ABSOLUTE.fullmatch(text):
            found = text
        elif _FROM_FOLDER.fullmatch(text):
            found = self.folder + text
        elif text[:3] == "../" and _FROM_FOLDER.fullmatch(text, 3):
            found = self.above + text[3:]
        else:
            found = _careful(text, self.url)
        self[reference] = found
        return found


def canonical(reference: str, base: str | None = None) -> str | None:
    """Return `reference`, found on the page with canonical address `base`, as a canonical URL.

    None for what is no web address: another scheme, user information, a broken host, too long.
    """
    if len(reference) > MAX_LENGTH:
        return None
    reference = reference.partition("#")[0]
    if _ABSOLUTE.fullmatch(reference):
        return reference
    match = _AT_ORIGIN.fullmatch(reference)
    if match and _is_canonical(match[1]):
        return reference
    return _careful(reference, base)


@functools.lru_cache(maxsize=4096)
def _is_canonical(root: str) -> bool:
    """Say whether the address of an origin's root, with any host and port, is canonical."""
    return _careful(root, None) == root


def _careful(reference: str, base: str | None) -> str | None:
    """Resolve by the whole standard what the fast paths did not recognise."""
    try:
        return _resolve(reference, base)
    except ValueError:
        return None


def _resolve(reference: str, base: str | None) -> str | None:
    """Resolve any spelling; ValueError or None if it is no web address."""
    reference = _BREAKS.sub("", reference.strip(_EDGES))
    scheme, authority, path, query = _parts(base) if base else ("", "", "/", "")
    match = _SCHEME.match(reference)
    rest, mark, new_query = (reference[match.end() :] if match else reference).partition("?")
    rest = rest.replace("\\", "/")
    if match:
        named = match[1].lower()
        if named not in _PORTS:
            return None
        if named != scheme or rest.startswith("/"):
            rest = "//" + rest.lstrip("/")
        scheme = named
    elif not base:
        return None
    if rest.startswith("//"):
        authority, slash, path = rest.lstrip("/").partition("/")
        authority, path = _authority(authority, scheme), slash + path
    elif rest.startswith("/"):
        path = rest
    elif rest:
        path = path[: path.rfind("/") + 1] + rest
    if rest or mark:
        query = f"?{_escape(new_query)}" if mark else ""
    url = f"{scheme}://{authority}{_without_dots(_escape(path).replace('?', '%3F'))}{query}"
    return url if authority and len(url) <= MAX_LENGTH else None


def _authority(text: str, scheme: str) -> str:
    """Return host and, unless it is the default, port; ValueError on user information."""
    if "@" in text:
        raise ValueError("user information in an address")
    host, _, port = text.rpartition(":")
    if not host or "]" in port or (not port.isdigit() and port):
        host, port = text, ""
    if port and int(port) > 65535:
        raise ValueError("port out of range")
    port = str(int(port)) if port else ""
    name = _host(host)
    return name if port in ("", _PORTS[scheme]) else f"{name}:{port}"


@functools.lru_cache(maxsize=4096)
def _host(text: str) -> str:
    """Return a host in lower case and punycode; ValueError if no resolver could take it."""
    if text.startswith("["):
        return f"[{ipaddress.IPv6Address(text[1:-1])}]" if text[-1] == "]" else _refuse(text)
    host = unquote(text, errors="strict")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(str(error)) from error
    host = host.lower().removesuffix(".")
    return host if _HOST.fullmatch(host) and len(host) <= 253 else _refuse(host)


def _refuse(text: str) -> str:
    raise ValueError(f"{text!r} is no host")


def _escape(text: str) -> str:
    """Percent-escape what an address may not hold, and nothing twice."""

    def escaped(match: re.Match[str]) -> str:
        found = match[0]
        if len(found) == 3:
            plain = chr(int(found[1:], 16))
            return plain if plain in _UNRESERVED else found.upper()
        return "".join(f"%{byte:02X}" for byte in _bytes(found))

    return _ESCAPE.sub(escaped, text)


def _bytes(character: str) -> bytes:
    """Return UTF-8, or the raw byte that a header decoded with surrogate escapes stood for."""
    return character.encode(
        "utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "replace"
    )


def _without_dots(path: str) -> str:
    """Remove "." and ".." segments (RFC 3986 §5.2.4) and make an empty path "/"."""
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def without_tracking(url: str) -> str:
    """Return a canonical URL without the query parameters that only trace a click."""
    head, mark, query = url.partition("?")
    if not mark:
        return url
    query = _TRACKING.sub("", query).rstrip("&")
    return f"{head}?{query}" if query else head


def host_of(url: str) -> str:
    """Return the host of a canonical URL, without port and brackets."""
    authority = _parts(url)[1]
    if authority.startswith("["):
        return authority[1 : authority.index("]")]
    return authority.partition(":")[0]


def port_of(url: str) -> int:
    """Return the port of a canonical URL, that of its scheme if it names none."""
    scheme, authority, _, _ = _parts(url)
    port = authority.rpartition("]")[2].rpartition(":")[2] if ":" in authority else ""
    return int(port if port.isdecimal() else _PORTS[scheme])


def origin_of(url: str) -> str:
    """Return scheme, host and port of a canonical URL, as "https://example.org:8443"."""
    scheme, authority, _, _ = _parts(url)
    return f"{scheme}://{authority}"


def path_of(url: str) -> str:
    """Return the path of a canonical URL, without its query."""
    return _parts(url)[2]
