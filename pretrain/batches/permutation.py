"""Permutations that are computed, not stored."""

import numpy as np
import numpy.typing as npt

from trawl.chance import seed_of

_ROUNDS = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Numbers = npt.NDArray[np.uint64]


def scramble(numbers: Numbers, key: np.uint64) -> Numbers:
    """Mix 64-bit numbers with `key` (the finaliser of SplitMix64; Steele et al., 2014)."""
    mixed = (numbers + key) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def permuted(numbers: npt.NDArray[np.int64], size: int, key: int) -> npt.NDArray[np.int64]:
    """Return where the permutation `key` of 0..size-1 sends `numbers`.

    A Feistel network over the next power of four, walked until the number falls below `size`, up
    to four times on average (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(seed_of(key, "round", number)) for number in range(_ROUNDS)]
    result = numbers.astype(np.uint64)
    walking = np.arange(len(result))
    while len(walking):
        left, right = result[walking] >> half, result[walking] & low
        for round_key in keys:
            left, right = right, left ^ (scramble(right, round_key) & low)
        result[walking] = (left << half) | right
        walking = walking[result[walking] >= np.uint64(size)]
    return result.astype(np.int64)
