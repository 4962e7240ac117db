"""Where rows go in the steps that see the whole corpus: buckets of a bounded number of rows each.

Images go by ranges of their SHA-256, so that the buckets one after the other are the order of keys;
texts and perceptual hashes go by a hash, which spreads what is alike. The outcome of a step never
depends on the number of buckets.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_DIGITS = 12
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STIR = np.uint64(0xBF58476D1CE4E5B9)


def bucket_of_image(sha256: str, buckets: int) -> int:
    """Return the bucket of an image: the first bucket has the smallest hashes."""
    return int(sha256[:_DIGITS], 16) * buckets >> 4 * _DIGITS


def buckets_of_digests(digests: pa.Array, buckets: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each of `digests`, of 16 bytes each: it goes by the first eight."""
    content = np.frombuffer(digests.buffers()[1] or b"", dtype=">u8").reshape(-1, 2)
    firsts = content[digests.offset : digests.offset + len(digests), 0].astype(np.uint64)
    return (firsts % np.uint64(buckets)).astype(np.int64)


def digest_of_text(key: str) -> bytes:
    """Return the 16 bytes that stand for a text in what is counted over the whole corpus."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def buckets_of_values(values: npt.NDArray[np.uint64], buckets: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each 64-bit value, mixed so that values alike spread (splitmix64)."""
    mixed = (values ^ (values >> np.uint64(30))) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _STIR
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(buckets)).astype(np.int64)


def bucket_name(bucket: int) -> str:
    """Return the name of the unit that does a bucket."""
    return f"{bucket:05d}"
