"""The order of samples as a function: which sample stands at a position of a stage.

Nothing is stored: corpora are interleaved by weight in blocks, and each corpus is walked epoch by
epoch in a permutation that is computed, not kept, so memory does not grow with the corpus; one that
is read a window of shards at a time takes a few numbers a shard.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pretrain.batches.permutation import permuted
from pretrain.batches.shard_windows import ShardWindows
from trawl.chance import generator, seed_of
from trawl.errors import RequestError

BLOCK = 4096

Counts = npt.NDArray[np.int64]
Place = tuple[int, int, int, int]
"""Corpus, sample in it, epoch, and position in the stage: what `Position` names."""


class Position(NamedTuple):
    """One sample in its place: corpus, sample in it, epoch of that corpus, place in the stage."""

    corpus: int
    sample: int
    epoch: int
    position: int


class SampleOrder:
    """The order of one stage over a mixture of corpora.

    `lengths` are the corpora's sample counts, `weights` their shares of the positions. In each
    block of 4096 positions the shares are kept to within one sample, in a shuffled arrangement.
    A corpus with `windows` is shuffled a window of shards at a time, any other as a whole.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Sequence[float],
        seed: int,
        stage: str,
        windows: Mapping[int, tuple[Counts, int]] | None = None,
    ) -> None:
        """Make the order; `windows`: by corpus, samples of each shard and shards of a window."""
        if not lengths or len(lengths) != len(weights):
            raise RequestError(f"stage {stage}: each corpus needs one weight, and one is needed")
        for number, (length, weight) in enumerate(zip(lengths, weights, strict=True)):
            if length < 1 or not weight > 0:
                raise RequestError(
                    f"stage {stage}: data.{number}: a corpus of {length} samples with weight "
                    f"{weight}; both must be above zero"
                )
        total = sum(Fraction(weight) for weight in weights)
        self._shares = [Fraction(weight) / total for weight in weights]
        self._heaviest = max(range(len(weights)), key=lambda corpus: weights[corpus])
        self._lengths = list(lengths)
        self._seed, self._stage = seed, stage
        self._windows = {
            corpus: ShardWindows(counts, window, (seed, stage, "order", corpus))
            for corpus, (counts, window) in (windows or {}).items()
        }

    def _drawn(self, position: int) -> npt.NDArray[np.int64]:
        """Return how many samples of each corpus stand before `position`, a block's first."""
        drawn = np.array([position * share // 1 for share in self._shares], dtype=np.int64)
        drawn[self._heaviest] += position - drawn.sum()
        return drawn

    def _block(self, block: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each position of a block its corpus and its number in that corpus' walk."""
        before, after = self._drawn(block * BLOCK), self._drawn((block + 1) * BLOCK)
        corpora = np.repeat(np.arange(len(before)), after - before)
        if len(before) > 1:
            generator(self._seed, self._stage, "mixture", block).shuffle(corpora)
        numbers = np.empty(BLOCK, dtype=np.int64)
        for corpus, first in enumerate(before):
            (places,) = np.nonzero(corpora == corpus)
            numbers[places] = first + np.arange(len(places))
        return corpora, numbers

    def _samples(self, corpus: int, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the samples at places `numbers` of the endless walk through a corpus."""
        length = self._lengths[corpus]
        epochs, inside = np.divmod(numbers, length)
        samples = np.empty_like(numbers)
        for epoch in np.unique(epochs).tolist():
            if corpus in self._windows:
                own = epochs == epoch
                samples[own] = self._windows[corpus].samples(epoch, inside[own])
                continue
            key = seed_of(self._seed, self._stage, "order", corpus, epoch)
            places = epochs == epoch
            samples[places] = permuted(inside[places], length, key)
        return samples

    def indices(self, start_sample: int, count: int) -> list[Position]:
        """Return the `count` positions from `start_sample` on."""
        found: list[Position] = []
        place, stop = start_sample, start_sample + count
        while place < stop:
            block, inside = divmod(place, BLOCK)
            length = min(stop - place, BLOCK - inside)
            corpora, numbers = (part[inside : inside + length] for part in self._block(block))
            samples = np.empty_like(numbers)
            for corpus in np.unique(corpora):
                chosen = corpora == corpus
                samples[chosen] = self._samples(int(corpus), numbers[chosen])
            epochs = numbers // np.array(self._lengths)[corpora]
            rows = zip(corpora.tolist(), samples.tolist(), epochs.tolist(), strict=True)
            found.extend(Position(*row, place + step) for step, row in enumerate(rows))
            place += length
        return found
