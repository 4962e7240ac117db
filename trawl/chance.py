"""Chance as a function: random numbers from a counter-based generator, keyed by what they are for.

A draw depends on its key alone, never on how many draws came before it, so shuffles, masks and
augmentations are the same whatever the worker count, world size or number of restarts.
The generator is Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

import hashlib

import numpy as np


def _digest(key: tuple[int | str, ...], size: int) -> bytes:
    """Hash `key` to `size` bytes, types and lengths included, so that no two keys run together."""
    parts = [f"{type(part).__name__}:{len(str(part))}:{part}" for part in key]
    return hashlib.blake2b("|".join(parts).encode(), digest_size=size).digest()


def generator(*key: int | str) -> np.random.Generator:
    """Return the generator that belongs to `key`, for example (seed, "masks", epoch, sample)."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key, 16), "little")))


def seed_of(*key: int | str) -> int:
    """Return a non-negative 63-bit seed for `key`, for libraries that take an integer seed."""
    return int.from_bytes(_digest(key, 8), "little") >> 1
