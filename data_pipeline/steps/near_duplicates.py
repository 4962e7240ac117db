"""Groups 64-bit hashes that differ in few bits, without comparing every two.

Cut the bits into `bits + untouched` blocks: of two hashes that differ in at most `bits` bits, at
least `untouched` blocks are equal (Manku et al., "Detecting near-duplicates for web crawling").
So for each choice of that many blocks, the hashes that are equal in them are compared, and no pair
is missed. The plain twin, `group_plainly`, compares every two.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

ALL = (1 << 64) - 1
_MOST_TABLES = 2_000
_SORTING, _COMPARING = 6.0, 9.0  # nanoseconds: to sort a hash, by log2; to compare two
_LINKS = 1 << 20  # that wait before they are joined


def group(hashes: Sequence[int], bits: int) -> list[int]:
    """Return the group of each hash: the first place in `hashes` that it is linked to.

    Two hashes are linked if they differ in at most `bits` bits, and by chains of such links.
    """
    values, first, inverse = np.unique(
        np.array(hashes, dtype=np.uint64), return_index=True, return_inverse=True
    )
    labels = linked(values, bits)
    leaders = np.full(len(values), len(hashes), dtype=np.int64)
    np.minimum.at(leaders, labels, first)
    return [int(place) for place in leaders[labels][inverse]]


def linked(values: Hashes, bits: int, fixed: int = 0) -> Numbers:
    """Return for each of distinct `values` the smallest number of those it is linked to.

    Only values that are equal in the bits of the mask `fixed` are linked; the rest is left to
    other calls.
    """
    joined = Joined(len(values))
    for mask in masks_for(len(values), bits, fixed):
        for left, right in _near(values, np.uint64(mask | fixed), bits):
            joined.add(left, right)
        joined.settle()
    return joined.labels


def masks_for(count: int, bits: int, fixed: int = 0) -> list[int]:
    """Return the masks of the cheapest search among `count` hashes that are equal in `fixed`."""
    best, least = [0], math.inf
    free = 64 - fixed.bit_count()
    for untouched in range(6):
        tables = math.comb(bits + untouched, untouched)
        if tables > _MOST_TABLES or bits + untouched > free:
            break
        equal = count / 2 ** (free * untouched // max(1, bits + untouched) + fixed.bit_count())
        cost = tables * (_SORTING * math.log2(count + 2) + _COMPARING * equal)
        if cost < least:
            best, least = masks(bits, untouched, fixed), cost
    return best


def masks(bits: int, untouched: int, fixed: int = 0) -> list[int]:
    """Return a mask of each choice of `untouched` of `bits + untouched` blocks of the free bits."""
    places = [place for place in range(64) if not fixed >> place & 1]
    number = bits + untouched
    ends = [len(places) * block // number for block in range(number + 1)] if number else [0]
    blocks = [
        sum(1 << place for place in places[start:stop]) for start, stop in itertools.pairwise(ends)
    ]
    return [sum(chosen) for chosen in itertools.combinations(blocks, untouched)]


def _near(values: Hashes, mask: np.uint64, bits: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield numbers (i, j) of values that are equal under `mask` and differ in few other bits."""
    masked = values & mask
    order = np.argsort(masked, kind="stable")
    masked, ordered = masked[order], values[order]
    places = np.arange(len(values))
    for distance in range(1, len(values)):
        # Sorted, what is equal at a distance is equal at every smaller one: few are left soon.
        places = places[: np.searchsorted(places, len(values) - distance)]
        places = places[masked[places] == masked[places + distance]]
        if not len(places):
            return
        near = np.bitwise_count(ordered[places] ^ ordered[places + distance]) <= bits
        if near.any():
            yield order[places[near]], order[places[near] + distance]


class Joined:
    """Numbers joined into groups, by chains too; `labels` holds the smallest number of each."""

    def __init__(self, count: int) -> None:
        self.labels: Numbers = np.arange(count)
        self._left: list[Numbers] = []
        self._right: list[Numbers] = []
        self._waiting = 0

    def add(self, left: Numbers, right: Numbers) -> None:
        """Join the numbers of each pair; it shows in `labels` after `settle`."""
        apart = self.labels[left] != self.labels[right]
        self._left.append(left[apart])
        self._right.append(right[apart])
        self._waiting += int(apart.sum())
        if self._waiting >= _LINKS:
            self.settle()

    def settle(self) -> None:
        """Bring `labels` up to date."""
        if not self._waiting:
            return
        left, right = np.concatenate(self._left), np.concatenate(self._right)
        self._left, self._right, self._waiting = [], [], 0
        labels = self.labels
        while True:
            one, other = labels[left], labels[right]
            apart = one != other
            if not apart.any():
                return
            left, right, one, other = left[apart], right[apart], one[apart], other[apart]
            np.minimum.at(labels, np.maximum(one, other), np.minimum(one, other))
            while not np.array_equal(labels[labels], labels):
                labels[:] = labels[labels]


def group_plainly(hashes: Sequence[int], bits: int) -> list[int]:
    """Return the same as `group` by comparing every two: the reference of the tests."""
    groups = list(range(len(hashes)))
    for one, other in itertools.combinations(range(len(hashes)), 2):
        if (hashes[one] ^ hashes[other]).bit_count() <= bits:
            first, second = sorted((groups[one], groups[other]))
            groups = [first if found == second else found for found in groups]
    return groups
