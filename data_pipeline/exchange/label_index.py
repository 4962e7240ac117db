"""A file of `key TAB content` lines, found by key: 16 bytes of memory a line.

Keys are kept as 64-bit hashes; the key itself is compared when its line is read.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from data_pipeline.exchange.lines import lines_of
from data_pipeline.exchange.rows import RowError
from trawl import storage


class LabelIndex:
    """The labels in the file at `place`; of two lines with one key the first counts."""

    def __init__(self, place: str) -> None:
        self.place = place
        hashes, offsets = [], []
        for line in lines_of(place):
            if isinstance(line.content, bytes):
                hashes.append(_hash(line.content.partition(b"\t")[0]))
                offsets.append(line.offset)
        order = np.argsort(np.array(hashes, np.uint64), kind="stable")
        self._hashes = np.array(hashes, np.uint64)[order]
        self._offsets = np.array(offsets, np.int64)[order]

    def find(self, key: str) -> bytes | None:
        """Return the content of the line of `key`, None if there is none."""
        wanted = key.encode()
        code = np.uint64(_hash(wanted))
        start = int(np.searchsorted(self._hashes, code, "left"))
        end = int(np.searchsorted(self._hashes, code, "right"))
        with storage.open_read(self.place) as file:
            for number in range(start, end):
                file.seek(int(self._offsets[number]))
                found, _, content = file.readline().rstrip(b"\r\n").partition(b"\t")
                if found == wanted:
                    return content
        return None

    def contents(self) -> Iterator[bytes]:
        """Yield the content of every line that can be read."""
        for line in lines_of(self.place):
            if not isinstance(line.content, RowError):
                yield line.content.partition(b"\t")[2]


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
