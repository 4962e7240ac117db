"""Writes shards: plain ustar files with sorted members, the same bytes for the same samples.

Every header has time 0, owner 0 and mode 0644, so that nothing of the machine gets in; the SHA-256
is computed while writing; the index of byte offsets is made on the way.
Peers: webdataset's TarWriter stamps a float time, which adds a PAX header of 1 KiB to each member
and makes every shard unique.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy.typing as npt

from data_pipeline.corpus import index
from data_pipeline.corpus.manifest import ShardRecord
from data_pipeline.corpus.regions import placements
from data_pipeline.corpus.schema import is_key, parse_meta
from trawl import storage
from trawl.errors import WorkError

BLOCK = 512
MAX_MEMBER_BYTES = 8**11 - 1
_ZEROS = bytes(BLOCK)
FOLDER = "shards"


@dataclass(frozen=True)
class PackedSample:
    """A sample as bytes: `members` by extension, json and regions always, one image if kept."""

    key: str
    members: Mapping[str, bytes]


def ustar_header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a regular file; WorkError if it does not fit in ustar."""
    encoded = name.encode()
    if len(encoded) > 100 or size > MAX_MEMBER_BYTES:
        raise WorkError(f"{name}: name or size ({size}) does not fit in a ustar header")
    header = bytearray(
        encoded.ljust(100, b"\0")
        + b"0000644\0"  # mode
        + b"0000000\0" * 2  # user, group
        + b"%011o\0" % size
        + b"00000000000\0"  # time
        + b" " * 8  # checksum, as blanks while it is computed
        + b"0"  # a regular file
        + bytes(100)
        + b"ustar\x0000"
        + bytes(32 + 32 + 8 + 8 + 155 + 12)  # names of owners, device, prefix, padding
    )
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


class ShardStream:
    """Writes samples into one open tar, hashing as it goes; `finish` closes the archive."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._offset = 0
        self._last_key = ""
        self.rows: list[npt.NDArray[Any]] = []
        self.captions = 0
        self.regions = 0

    def add(self, sample: PackedSample) -> None:
        """Append a sample after checking it; keys must rise. WorkError names the key."""
        if not is_key(sample.key) or sample.key <= self._last_key:
            raise WorkError(f"{sample.key}: not a key, or not after {self._last_key}")
        meta = parse_meta(sample.members["json"], sample.key)
        arrays = placements(sample.members["regions"])
        members = {
            extension: (self._append(f"{sample.key}.{extension}", data), len(data))
            for extension, data in sorted(sample.members.items())
        }
        self.rows.append(index.row_of(sample.key, members, arrays))
        self.captions += len(meta.captions)
        self.regions += arrays["boxes"].shape[0]
        self._last_key = sample.key

    def _append(self, name: str, data: bytes) -> int:
        """Write one member and return the offset of its first byte of content."""
        self._put(ustar_header(name, len(data)))
        start = self._offset
        self._put(data)
        if padding := -len(data) % BLOCK:
            self._put(_ZEROS[:padding])
        return start

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._offset += len(data)

    def finish(self) -> tuple[int, str]:
        """Write the two empty blocks that end a tar; return its bytes and SHA-256."""
        self._put(_ZEROS * 2)
        return self._offset, self._digest.hexdigest()


def write_shard(uri: str, shard: int | str, samples: Iterable[PackedSample]) -> ShardRecord:
    """Write a shard of the corpus at `uri` and its index; return the manifest's entry.

    shard is its number, or the name of its tar.

    samples come sorted by key. The tar appears first, then the index, each whole or not at all.
    """
    name = shard if isinstance(shard, str) else f"{shard:05d}.tar"
    with storage.open_atomic(storage.join(uri, FOLDER, name)) as file:
        stream = ShardStream(file)
        for sample in samples:
            stream.add(sample)
        tar_bytes, digest = stream.finish()
    table = index.to_bytes(stream.rows, tar_bytes)
    storage.write_bytes(storage.join(uri, FOLDER, index_name(name)), table)
    return ShardRecord(
        name=name,
        samples=len(stream.rows),
        captions=stream.captions,
        regions=stream.regions,
        bytes=tar_bytes,
        sha256=digest,
        index_sha256=hashlib.sha256(table).hexdigest(),
    )


def index_name(shard: str) -> str:
    """Return the name of the index that lies beside the tar `shard`."""
    return shard.removesuffix(".tar") + ".index"
