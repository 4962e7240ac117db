"""Patience with passing faults: how often, how long, and how many there were.

The waits double and are drawn anew each time ("full jitter"; Brooker, Exponential Backoff and
Jitter, 2015), so that a thousand ranks that a store turned away together do not come back together.
"""

import random
import threading
from collections.abc import Iterator

TRIES = 10
"""How often a request is made before its fault is taken for a lasting one."""
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 20.0

_lock = threading.Lock()
_count = 0
# Waits decide no result, and all ranks must draw differently: no seed.
_draws = random.SystemRandom()


def waits() -> Iterator[float]:
    """Yield the seconds to wait before each further try; at the end there is none left."""
    for attempt in range(TRIES - 1):
        yield _draws.uniform(0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt))


def note() -> None:
    """Count one more try of this process."""
    global _count
    with _lock:
        _count += 1


def count() -> int:
    """Return how many requests of this process had to be made again."""
    return _count
