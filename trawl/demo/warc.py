"""Writes WARC 1.1 files whose bytes depend on their content alone.

Each record is a gzip member of its own, without a time stamp, so that readers can seek to it.
Source of the format: ISO 28500:2017.
"""

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "trawl.test")
_GZIP_WINDOW = 31
_REASON_PHRASES = {
    200: "OK",
    301: "Moved Permanently",
    302: "Found",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    404: "Not Found",
    410: "Gone",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Exchange:
    """One response as an archive keeps it; `truncated` says that the body ended too early."""

    url: str
    date: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool = False


def reason_phrase(status: int) -> str:
    """Return the words that follow `status` on the first line of a response."""
    return _REASON_PHRASES.get(status, "Unknown")


def warc_bytes(name: str, date: str, exchanges: Iterable[Exchange]) -> Iterable[bytes]:
    """Yield the gzip members of the file `name`: a warcinfo record, then a record an exchange."""
    info = f"software: trawl\r\nformat: WARC File Format 1.1\r\nisPartOf: {name}\r\n".encode()
    fields = [
        ("WARC-Type", "warcinfo"),
        ("WARC-Record-ID", _record_id("warcinfo", name)),
        ("WARC-Date", date),
        ("WARC-Filename", name),
        ("Content-Type", "application/warc-fields"),
    ]
    yield _member(fields, info, level=6)
    for exchange in exchanges:
        yield _response(exchange)


def _record_id(kind: str, name: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(_NAMESPACE, f'{kind} {name}')}>"


def _digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _response(exchange: Exchange) -> bytes:
    """Return the response record of `exchange`, compressed."""
    lines = [f"HTTP/1.1 {exchange.status} {reason_phrase(exchange.status)}"]
    lines += [f"{name}: {value}" for name, value in exchange.headers]
    block = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + exchange.body
    fields = [
        ("WARC-Type", "response"),
        ("WARC-Record-ID", _record_id("response", exchange.url)),
        ("WARC-Date", exchange.date),
        ("WARC-Target-URI", exchange.url),
        ("WARC-IP-Address", "127.0.0.1"),
        ("WARC-Payload-Digest", _digest(exchange.body)),
        ("WARC-Block-Digest", _digest(block)),
        ("Content-Type", "application/http; msgtype=response"),
    ]
    if exchange.truncated:
        fields.append(("WARC-Truncated", "disconnect"))
    is_text = any(value.startswith("text/") for _, value in exchange.headers)
    return _member(fields, block, level=6 if is_text else 1)


def _member(fields: list[tuple[str, str]], block: bytes, level: int) -> bytes:
    """Return one record as a gzip member; zlib writes no time stamp into its header."""
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"WARC/1.1\r\n{head}Content-Length: {len(block)}\r\n\r\n"
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
    return packer.compress(head.encode() + block + b"\r\n\r\n") + packer.flush()
