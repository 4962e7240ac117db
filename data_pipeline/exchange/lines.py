"""The lines of large text files, one at a time, with their offsets and, where known, checksums.

Beside `FILE` may lie `FILE.crc32`: the CRC-32 of each line without its line feed, eight hex digits
and a line feed each. Trawl writes it with every export, and checks it where it is.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from data_pipeline.exchange.rows import RowError
from trawl import storage
from trawl.errors import RequestError

MAX_LINE_BYTES = 64 << 20
CHECKSUMS = ".crc32"
_DIGITS = 9


@dataclass(frozen=True)
class Line:
    """Line `number` (from 0) that begins at byte `offset`: its bytes, or why there are none."""

    number: int
    offset: int
    content: bytes | RowError


def lines_of(place: str, first: int = 0) -> Iterator[Line]:
    """Yield the lines of the file at `place` from number `first` on, empty ones left out.

    A line over 64 MiB, or one whose checksum is another, has a RowError for its content; lines that
    only the checksums know come last, as "missing-row".
    """
    sums = read_checksums(place)
    number, offset = -1, 0
    with storage.open_read(place) as file:
        while data := file.readline(MAX_LINE_BYTES):
            start, content = offset, _content(file, data)
            offset = start + len(data) if isinstance(content, bytes) else file.tell()
            if content == b"":
                continue
            number += 1
            if number >= first:
                yield Line(number, start, _checked(content, number, sums))
    for missing in range(max(number + 1, first), len(sums) if sums is not None else 0):
        yield Line(missing, offset, RowError("missing-row", "the file ends before it"))


def _content(file: BinaryIO, data: bytes) -> bytes | RowError:
    """Return a line without its line feed; the rest of one that is too long is passed over."""
    if len(data) < MAX_LINE_BYTES or data.endswith(b"\n"):
        return data.rstrip(b"\r\n")
    while data and not data.endswith(b"\n"):
        data = file.readline(MAX_LINE_BYTES)
    return RowError("row-too-long", f"over {MAX_LINE_BYTES >> 20} MiB")


def _checked(
    content: bytes | RowError, number: int, sums: npt.NDArray[np.uint32] | None
) -> bytes | RowError:
    """Return a line, or the error that its checksum is another than was noted."""
    if isinstance(content, RowError) or sums is None:
        return content
    if number >= len(sums):
        return RowError("row-checksum", "there is no checksum of this row")
    if zlib.crc32(content) != sums[number]:
        return RowError("row-checksum", f"{zlib.crc32(content):08x}, noted is {sums[number]:08x}")
    return content


def read_checksums(place: str) -> npt.NDArray[np.uint32] | None:
    """Return the checksums beside the file at `place`, None where there are none."""
    sums = place + CHECKSUMS
    if not storage.exists(sums):
        return None
    text = storage.read_bytes(sums)
    try:
        if len(text) % _DIGITS:
            raise ValueError
        values = [int(text[start : start + 8], 16) for start in range(0, len(text), _DIGITS)]
    except ValueError as error:
        raise RequestError(
            f"{sums}: not eight hex digits a line; copy it anew, or remove it"
        ) from error
    return np.array(values, np.uint32)


class LineWriter:
    """Writes lines with their offsets and checksums; `companions` are the small files beside."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self.offsets: list[int] = []
        self._sums: list[int] = []

    def add(self, *columns: str) -> None:
        """Append one line of columns, separated by tabs."""
        data = "\t".join(columns).encode()
        self.offsets.append(self._offset)
        self._sums.append(zlib.crc32(data))
        self._file.write(data + b"\n")
        self._offset += len(data) + 1

    def checksums(self) -> str:
        """Return the content of the file of checksums."""
        return "".join(f"{value:08x}\n" for value in self._sums)

    def line_index(self) -> str:
        """Return the content of a `.lineidx`: the offset of each line."""
        return "".join(f"{offset}\n" for offset in self.offsets)
