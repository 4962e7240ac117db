"""The end of a long file of JSON lines, and lines spread over it, without reading the rest."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trawl import storage

_BLOCK = 64 << 10
_LINE = 4 << 10


def last_lines(uri: str | Path, count: int, most_bytes: int = 8 << 20) -> list[bytes]:
    """Return the last `count` whole lines of the file at `uri`, fewer where they are very long.

    At most `most_bytes` are read. A last line that has no end yet is left out; no file, no lines.
    """
    try:
        start = size = storage.size(uri)
    except storage.NotFoundError:
        return []
    data = b""
    while start > 0 and data.count(b"\n") <= count and len(data) < most_bytes:
        begin = max(0, start - _BLOCK)
        data = storage.read_range(uri, begin, start) + data
        start = begin
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    if start > 0 and size:
        lines = lines[1:]  # the block began inside of it
    return lines[max(0, len(lines) - count) :]


def spread_lines(uri: str | Path, count: int) -> list[bytes]:
    """Return about `count` whole lines at even distances, the first among them."""
    try:
        size = storage.size(uri)
    except storage.NotFoundError:
        return []
    if size <= count * _LINE:
        lines = [line for line in storage.read_bytes(uri).split(b"\n")[:-1] if line]
        return lines[:: max(1, -(-len(lines) // count))]
    found: dict[int, bytes] = {}
    for number in range(count):
        place = size * number // count
        begin, line = _line_after(uri, place)
        if line:
            found[begin] = line
    return [found[begin] for begin in sorted(found)]


def _line_after(uri: str | Path, place: int) -> tuple[int, bytes]:
    """Return the first whole line that begins at `place` or behind it, and where it begins."""
    first = max(0, place - 1)  # a line begins at `place` if the byte before ends one
    length = _LINE
    while True:
        data = storage.read_range(uri, first, first + length)
        skipped = 0 if place == 0 else data.find(b"\n") + 1
        end = data.find(b"\n", skipped)
        if (skipped or place == 0) and end >= 0:
            return first + skipped, data[skipped:end]
        if len(data) < length or length > _BLOCK:
            return 0, b""
        length *= 4


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of `lines`; what is none, or torn by a kill, is passed over."""
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content
