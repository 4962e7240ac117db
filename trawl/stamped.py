"""Log files whose lines begin with a time: read from a moment on, each line with its time."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# As Python's logging writes it, in brackets or not: 2026-11-28 07:57:46,952
_STAMP = re.compile(rb"\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)[,.](\d{3})\]?\s*")
_BLOCK = 64 << 10
# A search by halves ends here: the rest is read through.
_NEAR = 1 << 20


def stamp(line: bytes) -> tuple[float | None, bytes]:
    """Return the time at the head of `line`, seconds since the epoch, and what follows it.

    Stamps name no time zone; they are taken for this machine's.
    """
    found = _STAMP.match(line)
    if found is None:
        return None, line
    text = found.group(1).decode().replace("T", " ")
    try:
        seconds = time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None, line
    return seconds + int(found.group(2)) / 1000, line[found.end() :]


def offset_of(path: Path, moment: float) -> int:
    """Return where a line begins that stands before all lines of `moment` and later, near them."""
    with path.open("rb") as file:
        low, high = 0, os.fstat(file.fileno()).st_size
        while high - low > _NEAR:
            middle = (low + high) // 2
            found = _first_stamp(file, middle)
            if found is None or found >= moment:
                high = middle
            else:
                low = middle
        if low == 0:
            return 0
        file.seek(low)
        file.readline()
        return file.tell()


def _first_stamp(file: BinaryIO, place: int) -> float | None:
    """Return the first time in the block at `place` that begins a line."""
    file.seek(place)
    for line in file.read(_BLOCK).split(b"\n")[1:]:
        seconds, _ = stamp(line)
        if seconds is not None:
            return seconds
    return None


def timed_lines(path: Path, offset: int, begin: float) -> Iterator[tuple[float, str, int]]:
    """Yield time, text and end of each whole line from `offset` on.

    A line without a time has that of the one before it; `begin` is that of the first. Times never
    fall, so that files can be merged.
    """
    now = begin
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            seconds, text = stamp(line.rstrip(b"\r\n"))
            now = max(now, seconds or 0.0)
            # Of a progress bar, what it showed last.
            yield now, text.decode("utf-8", "replace").rpartition("\r")[2], offset
