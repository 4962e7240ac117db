"""From positions in the data to a rank's micro-batches, made ahead of their use."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch

from pretrain.batches.order import Place
from pretrain.exit_codes import DataError
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from trawl.errors import RequestError, TrawlError

_STEPS_AHEAD = 2

Batch = dict[str, torch.Tensor]


class Order(Protocol):
    """The order of samples: a pure function of the position."""

    def indices(self, start_sample: int, count: int) -> Sequence[Place]:
        """Return the places of `count` samples from position `start_sample` on."""


class Maker(Protocol):
    """Makes a padded batch of places."""

    def make(self, positions: Sequence[Place]) -> Batch:
        """Return the batch of `positions`."""


@dataclass(frozen=True)
class Portion:
    """What one rank passes through the model in one step."""

    step: int
    """Number of the step, from 0."""
    passes: list[tuple[int, Batch]]
    """Micro-batches with their numbers in the step, the same whatever the count of ranks."""
    waited: float
    """Seconds that the step had to wait for it."""


def micro_batch_size(stage: StageRecipe, ranks: int, longest: int) -> int:
    """Return the samples of one pass for `stage` on `ranks` ranks.

    `longest` is the count of tokens and regions of the longest sample that the model takes.
    Raises RequestError when the batch does not divide.
    """
    batch = stage.batch
    if batch.micro_batch is not None:
        size = batch.micro_batch
    else:
        share, rest = divmod(batch.samples, ranks)
        if rest or not share:
            raise RequestError(
                f"stage {stage.name}: batch.samples {batch.samples} does not divide by {ranks} "
                f"ranks; take {max(1, share) * ranks}"
            )
        size = share
        if batch.tokens_per_micro_batch is not None:
            most = batch.tokens_per_micro_batch // longest
            if most < 1:
                raise RequestError(
                    f"stage {stage.name}: batch.tokens_per_micro_batch "
                    f"{batch.tokens_per_micro_batch} is less than one sample; take {longest}"
                )
            size = next(n for n in range(min(most, share), 0, -1) if share % n == 0)
    if batch.samples % (size * ranks):
        raise RequestError(
            f"stage {stage.name}: batch.samples {batch.samples} does not divide by {ranks} ranks "
            f"of micro-batches of {size}; take {-(-batch.samples // (size * ranks)) * size * ranks}"
        )
    return size


class Feed:
    """The micro-batches of one rank for the steps of one stage.

    Step `s` takes the positions from `s * samples` on, cut into micro-batches in order; rank `r`
    takes the `r`-th run of them. So the order of the samples is the same for any count of ranks.
    """

    def __init__(
        self, order: Order, maker: Maker, samples: int, micro_batch: int, ranks: Ranks
    ) -> None:
        self._order, self._maker = order, maker
        self._samples, self._micro_batch = samples, micro_batch
        share = samples // (micro_batch * ranks.size)
        self._numbers = range(ranks.rank * share, (ranks.rank + 1) * share)

    def places(self, step: int, number: int) -> Sequence[Place]:
        """Return the places of micro-batch `number` of `step`."""
        return self._order.indices(
            step * self._samples + number * self._micro_batch, self._micro_batch
        )

    def first(self, step: int, number: int) -> int:
        """Return the position in the stage of the first sample of micro-batch `number`."""
        return step * self._samples + number * self._micro_batch

    def _make(self, step: int) -> list[tuple[int, Batch]]:
        return [(number, self._maker.make(self.places(step, number))) for number in self._numbers]

    def portions(self, start: int, stop: int) -> Iterator[Portion]:
        """Yield the portions of steps `start` to `stop` - 1, two steps made ahead in a thread.

        Raises DataError, which names the shard or sample, when one cannot be read.
        """
        ahead: deque[Future[list[tuple[int, Batch]]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
            try:
                for step in range(start, stop):
                    while len(ahead) <= _STEPS_AHEAD and step + len(ahead) < stop:
                        ahead.append(thread.submit(self._make, step + len(ahead)))
                    began = time.monotonic()
                    passes = ahead.popleft().result()
                    yield Portion(step, passes, time.monotonic() - began)
            except (TrawlError, OSError) as error:
                raise DataError(str(error)) from error
            finally:
                for future in ahead:
                    future.cancel()
