"""Groups 64-bit hashes that differ in few bits, without comparing every two.

Four bands of 16 bits: of two hashes that differ in at most k bits, one band differs in at most
k // 4 bits. So each band is looked up under every value that near, and what is found is verified;
no pair is missed. The plain twin, `group_plainly`, compares every two.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

_BANDS = 4
_BAND_BITS = 16


def group(hashes: Sequence[int], bits: int) -> list[int]:
    """Return the group of each hash: the first place in `hashes` that it is linked to.

    Two hashes are linked if they differ in at most `bits` bits, and by chains of such links.
    """
    values, first, inverse = np.unique(
        np.array(hashes, dtype=np.uint64), return_index=True, return_inverse=True
    )
    groups = Groups(len(values))
    for band in range(_BANDS):
        parts = (values >> np.uint64(band * _BAND_BITS)) & np.uint64(0xFFFF)
        order = np.argsort(parts, kind="stable")
        ordered = parts[order]
        for mask in _masks(bits // _BANDS):
            for left, right in _joined(parts ^ np.uint64(mask), ordered, order):
                near = np.bitwise_count(values[left] ^ values[right]) <= bits
                near &= left < right
                for one, other in zip(left[near].tolist(), right[near].tolist(), strict=True):
                    groups.join(one, other)
    leaders: dict[int, int] = {}
    for number, place in enumerate(first.tolist()):
        leader = groups.of(number)
        leaders[leader] = min(place, leaders.get(leader, place))
    return [leaders[groups.of(number)] for number in inverse.tolist()]


def _masks(radius: int) -> Iterator[int]:
    """Yield the 16-bit numbers with at most `radius` bits set."""
    for count in range(radius + 1):
        for chosen in itertools.combinations(range(_BAND_BITS), count):
            yield sum(1 << bit for bit in chosen)


def _joined(
    sought: npt.NDArray[np.uint64],
    ordered: npt.NDArray[np.uint64],
    order: npt.NDArray[np.int64],
    chunk: int = 1 << 20,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield arrays of (i, j) for which sought[i] equals the band of j, in bounded pieces."""
    first = np.searchsorted(ordered, sought, side="left")
    counts = np.searchsorted(ordered, sought, side="right") - first
    ends = np.cumsum(counts)
    start = 0
    while start < len(sought):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + chunk, side="right")))
        number = counts[start:stop]
        left = np.repeat(np.arange(start, stop), number)
        shift = np.repeat(np.cumsum(number) - number, number)
        inside = np.arange(len(left)) - shift
        yield left, order[np.repeat(first[start:stop], number) + inside]
        start = stop


def group_plainly(hashes: Sequence[int], bits: int) -> list[int]:
    """Return the same as `group` by comparing every two: the reference of the tests."""
    groups = Groups(len(hashes))
    for one, other in itertools.combinations(range(len(hashes)), 2):
        if (hashes[one] ^ hashes[other]).bit_count() <= bits:
            groups.join(one, other)
    return [groups.of(number) for number in range(len(hashes))]


class Groups:
    """Numbers joined into groups, by chains too (union-find; the smallest number leads)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def of(self, number: int) -> int:
        """Return the number that leads the group of `number`."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Put two numbers and all that go with them into one group."""
        first, second = sorted((self.of(one), self.of(other)))
        self._parent[second] = first
