"""Copies the regions of many samples straight from mapped shards into arrays of a batch.

The reference is one sample after another through `Sample.regions`; both give the same bytes
(tests/data_pipeline/corpus/test_gather.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.shard import Bytes, Shard
from trawl.errors import WorkError

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RegionBlock:
    """Regions of a batch as they are stored, one after another: [..., F] is a list of [places, F].

    features float16 or int8 [..., F]; scales float16 [...] beside int8 features; boxes float32
    [..., 4] in pixels, where they are wanted. All C-contiguous; `...` may be [batch, width].
    """

    features: Array
    scales: Array | None = None
    boxes: Array | None = None

    @classmethod
    def empty(cls, shape: tuple[int, ...], size: int, form: str) -> "RegionBlock":
        """Return a block of `shape`, its content not set, for `size` features stored as `form`."""
        int8 = form == "int8"
        return cls(
            np.empty((*shape, size), dtype="<i1" if int8 else "<f2"),
            np.empty(shape, dtype="<f2") if int8 else None,
            np.empty((*shape, 4), dtype="<f4"),
        )


def gather(
    shards: Sequence[Shard], rows: Array, block: RegionBlock, starts: Numbers, ends: Numbers
) -> Numbers:
    """Copy the first regions of samples into places `starts` to `ends` - 1 of `block`.

    shards and rows of the index: of each sample. Places that a sample does not fill become 0.
    Returns how many regions each has in the block [samples]. Raises WorkError where a sample has
    features of another size or form than the block.
    """
    counts: Numbers = np.minimum(rows["count"].astype(np.int64), ends - starts)
    _check_form(shards, rows, counts, block.features)
    for name, array, numbers in (
        ("features", block.features, block.features.shape[-1]),
        ("scale", block.scales, 1),
        ("boxes", block.boxes, 4),
    ):
        if array is not None:
            element = numbers * array.itemsize
            sizes = counts * element
            _check_ends(shards, rows[f"{name}_at"], sizes)
            target: Bytes = array.reshape(-1).view(np.uint8)
            _copy(shards, rows[f"{name}_at"], sizes, target, starts * element, ends * element)
    return counts


def _check_form(shards: Sequence[Shard], rows: Array, counts: Numbers, features: Array) -> None:
    """Raise WorkError where a sample that has regions has other features than `features`."""
    bits, size = features.itemsize * 8, features.shape[-1]
    other = (rows["feature_bits"] != bits) | (rows["feature_size"] != size)
    if (other & (counts > 0)).any():
        number = int(np.argmax(other & (counts > 0)))
        row = rows[number]
        raise WorkError(
            f"{shards[number].path}: {row['key'].decode()}: {row['feature_size']} features of "
            f"{row['feature_bits']} bits, where the manifest says {size} of {bits}; run "
            "`trawl corpus verify`"
        )


def _check_ends(shards: Sequence[Shard], starts: Array, sizes: Numbers) -> None:
    """Raise WorkError where bytes from `starts` on do not lie in their shard."""
    limits = np.array([len(shard.bytes) for shard in shards], dtype=np.uint64)
    beyond = (starts > limits) | (starts + sizes.astype(np.uint64) > limits)
    if beyond.any():
        number = int(np.argmax(beyond))
        raise shards[number].past_the_end(f"regions at {starts[number]}")


def _copy(
    shards: Sequence[Shard],
    starts: Array,
    sizes: Numbers,
    target: Bytes,
    first: Numbers,
    end: Numbers,
) -> None:
    """Copy `sizes` bytes from `starts` of the shards to `first` of `target`, zeros up to `end`."""
    numbers = starts.tolist(), sizes.tolist(), first.tolist(), end.tolist()
    for shard, start, size, begin, stop in zip(shards, *numbers, strict=True):
        target[begin : begin + size] = shard.bytes[start : start + size]
        if begin + size < stop:
            target[begin + size : stop] = 0
