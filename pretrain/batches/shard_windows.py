"""The walk through a corpus that is too large to be at hand whole: a window of shards at a time.

Each epoch puts the shards in a random order and cuts it into windows; the samples of a window are
shuffled among themselves. So a reader needs the shards of one window, and of the next one ahead.
The walk is a function of (key, epoch, place); memory is a few numbers a shard, none a sample.
"""

import numpy as np
import numpy.typing as npt

from pretrain.batches.permutation import permuted
from pretrain.batches.remembered import Remembered
from trawl.chance import seed_of

Numbers = npt.NDArray[np.int64]


class ShardWindows:
    """The walk through shards of `counts` samples, `window` shards at a time."""

    def __init__(self, counts: Numbers, window: int, key: tuple[int | str, ...]) -> None:
        filled = np.flatnonzero(counts)
        self._counts = np.asarray(counts, dtype=np.int64)[filled]
        self._starts = (np.cumsum(counts) - counts)[filled]
        self._window = window
        self._key = key
        self._epoch = Remembered(self._arranged, 2)

    def _arranged(self, epoch: int) -> tuple[Numbers, Numbers, Numbers]:
        """Return the shards in the order of `epoch`, where each ends, and where windows end."""
        count = len(self._counts)
        shards = permuted(np.arange(count), count, seed_of(*self._key, epoch, "shards"))
        ends = np.cumsum(self._counts[shards])
        last = np.minimum(np.arange(self._window, count + self._window, self._window), count) - 1
        return shards, ends, ends[last]

    def samples(self, epoch: int, places: Numbers) -> Numbers:
        """Return the samples at `places` of the walk of `epoch`."""
        shards, ends, windows = self._epoch(epoch)
        within = np.searchsorted(windows, places, side="right")
        moved = np.empty_like(places)
        for window in np.unique(within).tolist():
            first = int(windows[window - 1]) if window else 0
            own = within == window
            key = seed_of(*self._key, epoch, "window", window)
            size = int(windows[window]) - first
            moved[own] = first + permuted(places[own] - first, size, key)
        position = np.searchsorted(ends, moved, side="right")
        chosen = shards[position]
        found: Numbers = self._starts[chosen] + moved - (ends[position] - self._counts[chosen])
        return found
