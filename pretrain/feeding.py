"""From positions in the data to a rank's micro-batches, made ahead of their use."""

import errno
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from data_pipeline.corpus.reader import Corpus
from pretrain.batch_workers import Answer, Asked, InProcesses, InThread, Maker, Makers
from pretrain.batches.dealing import dealt
from pretrain.batches.order import Place
from pretrain.exit_codes import DataError, NodeError
from pretrain.ranks import Ranks
from pretrain.read_ahead import ReadAhead, by_corpus
from pretrain.recipe import FeedingRecipe, StageRecipe
from trawl.errors import TrawlError

Batch = dict[str, torch.Tensor]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Order(Protocol):
    """The order of samples: a pure function of the position."""

    def indices(self, start_sample: int, count: int) -> Sequence[Place]:
        """Return the places of `count` samples from position `start_sample` on."""


@dataclass(frozen=True)
class Portion:
    """What one rank passes through the model in one step."""

    step: int
    """Number of the step, from 0."""
    passes: list[tuple[int, Batch]]
    """Micro-batches with their numbers in the step, the same whatever the count of ranks."""
    waited: float
    """Seconds that the step had to wait for it."""
    replaced: int = 0
    """Samples of it that stand for those of bad shards."""


@dataclass(frozen=True)
class Feeding:
    """From what and how a feed reads: the stage's corpora, and what the recipe says of reading.

    pinned: whether batches lie in memory from which a GPU can copy while it computes.
    """

    corpora: tuple[Corpus, ...] = ()
    read_ahead_samples: int = 0
    fetches: int = 1
    workers: int = 0
    pinned: bool = False

    @classmethod
    def of(
        cls,
        recipe: FeedingRecipe,
        stage: StageRecipe,
        corpora: Sequence[Corpus],
        device: torch.device,
    ) -> "Feeding":
        """Return how a rank on `device` reads the `corpora` of `stage`."""
        ahead = recipe.read_ahead_samples
        if stage.shuffle_shards is not None:
            # Farther ahead than one window would push the present one out of the cache.
            ahead = min(
                ahead,
                *(
                    stage.shuffle_shards * len(each) // max(1, len(each.manifest.shards))
                    for each in corpora
                ),
            )
        return cls(tuple(corpora), ahead, recipe.fetches, recipe.workers, device.type == "cuda")


class Feed:
    """The micro-batches of one rank for the steps of one stage.

    Step `s` takes the positions from `s * samples` on, cut into micro-batches in order; rank `r`
    takes the `r`-th run of them. So the order of the samples is the same for any count of ranks.
    """

    def __init__(
        self,
        order: Order,
        maker: Maker,
        samples: int,
        micro_batch: int,
        ranks: Ranks,
        feeding: Feeding | None = None,
        balance: int = 1,
    ) -> None:
        """Make the feed; samples are dealt among `balance` micro-batches at a time."""
        self._order, self._maker = order, maker
        self._samples, self._micro_batch = samples, micro_batch
        self._feeding = feeding or Feeding()
        share = samples // (micro_batch * ranks.size)
        self._numbers = range(ranks.rank * share, (ranks.rank + 1) * share)
        self._balance = balance
        self._told: set[tuple[str, int]] = set()

    def places(self, step: int, number: int) -> Sequence[Place]:
        """Return the places of those among which micro-batch `number` of `step` is dealt."""
        return self._order.indices(self.first(step, number), self._micro_batch * self._balance)

    def own_places(self, step: int, number: int) -> Sequence[Place]:
        """Return the places of micro-batch `number` of `step` itself; it is dealt once more."""
        places = self.places(step, number)
        if self._balance == 1:
            return places
        # Only families that can deal get here: see Family.batches.
        lengths: list[int] = self._maker.lengths(places)  # type: ignore[attr-defined]
        hand = dealt(lengths, self._balance)[number % self._balance]
        return [places[row] for row in hand]

    def first(self, step: int, number: int) -> int:
        """Return the position of the first sample that may be in micro-batch `number` of `step`."""
        together = number // self._balance * self._balance
        return step * self._samples + together * self._micro_batch

    def _asked(self, step: int) -> Iterator[Asked]:
        """Yield what is asked of the maker for this rank's part of `step`."""
        groups = itertools.groupby(self._numbers, lambda number: number // self._balance)
        for group, numbers in groups:
            wanted = tuple(number % self._balance for number in numbers)
            yield Asked(self.places(step, group * self._balance), self._balance, wanted)

    def _of_step(self, step: int) -> Sequence[Place]:
        """Return the places of this rank's part of `step`."""
        return [place for asked in self._asked(step) for place in asked.places]

    def new_faults(self) -> list[tuple[str, str]]:
        """Return the shards passed over, and why, that were not returned before."""
        found = []
        for corpus in self._feeding.corpora:
            for position, fault in sorted(corpus.bad.items()):
                if (corpus.uri, position) not in self._told:
                    self._told.add((corpus.uri, position))
                    found.append((f"{corpus.uri}: {corpus.manifest.shards[position].name}", fault))
        return found

    def _replaced(self, step: int) -> int:
        """Return how many samples of this rank's part of `step` stand for those of bad shards."""
        corpora = self._feeding.corpora
        if not any(corpus.reading.bad_shards == "skip" for corpus in corpora):
            return 0
        # Of the positions that are this rank's before any dealing, so that each counts once.
        first = step * self._samples + self._numbers[0] * self._micro_batch
        own = self._order.indices(first, len(self._numbers) * self._micro_batch)
        groups = by_corpus(own)
        return sum(corpora[number].replaced(samples) for number, samples in groups.items())

    def portions(self, start: int, stop: int) -> Iterator[Portion]:
        """Yield the portions of steps `start` to `stop` - 1, some steps made ahead.

        Raises DataError, which names the shard or sample, when one cannot be read, and NodeError
        when the machine's disk is full.
        """
        feeding = self._feeding
        asked = (each for step in range(start, stop) for each in self._asked(step))
        a_step = sum(1 for _ in self._asked(start))
        kind = InProcesses if feeding.workers else InThread
        ahead = ReadAhead(
            feeding.corpora,
            (self._of_step(step) for step in range(start, stop)),
            feeding.read_ahead_samples,
            self._samples,
            feeding.fetches,
        )
        makers: Makers = kind(self._maker, asked, a_step, feeding.workers, feeding.pinned)
        try:
            for step in range(start, stop):
                ahead.advance(step - start)
                began = time.monotonic()
                made = map(_batches_of, itertools.islice(makers, a_step))
                passes = list(zip(self._numbers, itertools.chain(*made), strict=True))
                waited = time.monotonic() - began
                yield Portion(step, passes, waited, self._replaced(step))
        except (TrawlError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
                raise NodeError(str(error)) from error
            raise DataError(str(error)) from error
        finally:
            makers.close()
            ahead.close()


def _batches_of(answer: Answer) -> list[Batch]:
    """Return the batches in `answer`, or raise what it holds instead."""
    if isinstance(answer, BaseException):
        raise answer
    return answer
