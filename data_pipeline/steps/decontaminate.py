"""Keeps images of evaluation sets out of a corpus that models are trained on.

The sets come as lists of hashes, one a line, of either kind: the SHA-256 of the image's bytes (64
hex digits) or its 64-bit perceptual hash (16 hex digits), as `KEY.json` and the decisions have
them. What follows a hash on its line is a comment, and so is a line that begins with `#`.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.near_duplicates import masks
from data_pipeline.steps.tables import Row
from trawl import storage
from trawl.errors import RequestError

EVALUATION_SET = "evaluation-set"
_EQUAL_BLOCKS = 2  # of `bits` + 2: among 6 + 2 blocks 16 equal bits, in 28 choices
_KINDS = {64: "sha256", 16: "phash"}


@dataclass
class EvaluationSets:
    """The hashes of all lists."""

    sha256: set[str] = field(default_factory=set)
    phash: set[int] = field(default_factory=set)

    def matches(self, images: Iterable[tuple[str, str]], bits: int) -> set[str]:
        """Return the SHA-256 of those of the (sha256, phash) that are in a list or near to it.

        Near are perceptual hashes that differ in at most `bits` bits; an image without one counts
        by its bytes alone.
        """
        distinct = dict(images)
        found = self.sha256 & distinct.keys()
        looks = [(digest, int(phash, 16)) for digest, phash in distinct.items() if phash]
        near = any_near([phash for _, phash in looks], sorted(self.phash), bits)
        return found | {digest for (digest, _), is_near in zip(looks, near, strict=True) if is_near}


def of_evaluation_sets(images: Iterable[Row], recipe: CorpusRecipe) -> set[str]:
    """Return the SHA-256 of those of `images` that no model of this recipe may be trained on."""
    settings = recipe.aggregate
    if not settings.decontaminate:
        return set()
    sets = load_lists(tuple(settings.decontaminate))
    return sets.matches(
        ((image["sha256"], image["phash"]) for image in images), settings.near_duplicate_bits
    )


@functools.lru_cache(maxsize=2)
def load_lists(places: tuple[str, ...]) -> EvaluationSets:
    """Read lists of hashes; RequestError names the first line that is none."""
    sets = EvaluationSets()
    for place in places:
        for number, line in enumerate(storage.read_text(place).splitlines(), 1):
            word = line.split(maxsplit=1)[0].lower() if line.split() else "#"
            if word.startswith("#"):
                continue
            kind = _KINDS.get(len(word)) if set(word) <= set("0123456789abcdef") else None
            if kind is None:
                raise RequestError(
                    f"aggregate.decontaminate: {place}: line {number}: {word[:20]!r} is no hash of "
                    "16 or 64 hex digits"
                )
            if kind == "sha256":
                sets.sha256.add(word)
            else:
                sets.phash.add(int(word, 16))
    return sets


def any_near(values: Sequence[int], listed: Sequence[int], bits: int) -> npt.NDArray[np.bool_]:
    """Say of each 64-bit value whether one of `listed` differs from it in at most `bits` bits.

    As in `near_duplicates`: two such hashes are equal in some choice of blocks of their bits, so
    what is equal in each choice is compared. The plain twin is `any_near_plainly`.
    """
    sought = np.array(values, dtype=np.uint64)  # [values]
    known = np.array(listed, dtype=np.uint64)  # [listed]
    near = np.zeros(len(sought), dtype=bool)
    for number in masks(bits, _EQUAL_BLOCKS):
        mask = np.uint64(number)
        ordered = known[np.argsort(known & mask, kind="stable")]
        first = np.searchsorted(ordered & mask, sought & mask, side="left")
        last = np.searchsorted(ordered & mask, sought & mask, side="right")
        left = np.flatnonzero((first < last) & ~near)
        while len(left):  # a step compares each value with the next of those it may be near to
            near[left] = np.bitwise_count(sought[left] ^ ordered[first[left]]) <= bits
            first[left] += 1
            left = left[~near[left] & (first[left] < last[left])]
    return near


def any_near_plainly(
    values: Sequence[int], listed: Sequence[int], bits: int
) -> npt.NDArray[np.bool_]:
    """Return the same as `any_near` by comparing every two: the reference of the tests."""
    return np.array(
        [any((value ^ other).bit_count() <= bits for other in listed) for value in values], bool
    )
