"""Which images are computed together, so that padding costs little.

The short side of all resized images is the same, so buckets of the long side, a few for each
orientation, hold images of nearly one shape. What padding still costs is a number that callers
report.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

STEP = 50
"""Pixels between bucket edges; it divides the published short sides and limits."""


@dataclass(frozen=True)
class Batch:
    """Places of images that are computed together, and the height and width they are padded to."""

    members: tuple[int, ...]
    height: int
    width: int


def plan(sizes: Sequence[tuple[int, int]], most: int, *, fixed: bool = False) -> list[Batch]:
    """Group resized images of (height, width) into batches of at most `most`, each image once.

    Images of a bucket lie next to each other in the order of their shapes. A batch is padded to its
    largest sides, or, with `fixed`, to the upper edges of its bucket, so that few shapes occur.
    """
    buckets: dict[tuple[int, int], list[int]] = {}
    for place, (height, width) in enumerate(sizes):
        buckets.setdefault((_edge(height), _edge(width)), []).append(place)
    batches = []
    for edges, members in sorted(buckets.items()):
        members.sort(key=lambda place: sizes[place])
        for start in range(0, len(members), most):
            part = tuple(members[start : start + most])
            height, width = edges if fixed else _largest([sizes[place] for place in part])
            batches.append(Batch(part, height, width))
    return batches


class Padding:
    """Pixels of resized images and pixels computed for them, counted over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.own = self.computed = 0

    def add(self, sizes: Sequence[tuple[int, int]], batches: Sequence[Batch]) -> None:
        """Count images of (height, width) and the batches that they were put in."""
        with self._lock:
            self.own += sum(height * width for height, width in sizes)
            self.computed += sum(len(b.members) * b.height * b.width for b in batches)

    def counts(self) -> tuple[int, int]:
        """Return own and computed pixels."""
        with self._lock:
            return self.own, self.computed


def waste(sizes: Sequence[tuple[int, int]], batches: Sequence[Batch]) -> float:
    """Share of the computed pixels that are padding, 0 to 1."""
    counted = Padding()
    counted.add(sizes, batches)
    return share_of_padding(*counted.counts())


def share_of_padding(own: int, computed: int) -> float:
    """Share of the computed pixels that are no image's own, 0 to 1."""
    return 1.0 - own / computed if computed else 0.0


def _edge(side: int) -> int:
    return -(-side // STEP) * STEP


def _largest(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(height for height, _ in sizes), max(width for _, width in sizes)
