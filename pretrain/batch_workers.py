"""Who makes the batches ahead of their use: a thread of the rank, or processes beside it.

Both give the same batches in the same order, whatever their count.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.batches.order import Place
from trawl.errors import TrawlError, WorkError

_STEPS_AHEAD = 3

Batch = dict[str, torch.Tensor]
Answer = list[Batch] | Exception


class Maker(Protocol):
    """Makes batches of places, features as they are stored."""

    def make_stored(self, positions: Sequence[Place]) -> Batch:
        """Return the batch of `positions`."""


class Asked(NamedTuple):
    """Batches that are asked for: the `wanted` of those among which `places` are dealt."""

    places: Sequence[Place]
    batches: int
    wanted: tuple[int, ...]


def _made(maker: Maker, asked: Asked) -> list[Batch]:
    """Return the batches that are `asked` for."""
    if asked.batches == 1:
        return [maker.make_stored(asked.places)]
    # Only families that can deal get here: see Family.batches.
    made: list[Batch] = maker.make_dealt(*asked)  # type: ignore[attr-defined]
    return made


class Makers(Iterator[Answer], Protocol):
    """Batches in the order in which they were asked for, or the error in place of one."""

    def __init__(
        self,
        maker: Maker,
        asked: Iterator[Asked],
        a_step: int,
        workers: int,
        pinned: bool,
    ) -> None:
        """Make what is `asked` of `maker`, with `a_step` questions each step."""

    def close(self) -> None:
        """Stop; what is under way is not waited for."""


class InThread:
    """One thread of this process makes the batches, three steps ahead."""

    def __init__(
        self,
        maker: Maker,
        asked: Iterator[Asked],
        a_step: int,
        workers: int,
        pinned: bool,
    ) -> None:
        self._maker, self._asked, self._pinned = maker, asked, pinned
        self._most = _STEPS_AHEAD * a_step
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: deque[Future[list[Batch]]] = deque()

    def _make(self, asked: Asked) -> list[Batch]:
        made = _made(self._maker, asked)
        if not self._pinned:
            return made
        return [{name: value.pin_memory() for name, value in batch.items()} for batch in made]

    def __iter__(self) -> "InThread":
        return self

    def __next__(self) -> Answer:
        while len(self._ahead) < self._most and (asked := next(self._asked, None)) is not None:
            self._ahead.append(self._thread.submit(self._make, asked))
        if not self._ahead:
            raise StopIteration
        return self._ahead.popleft().result()

    def close(self) -> None:
        """Stop; what is under way is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class _MadeWhenAsked(Dataset[Answer]):
    """A data set whose keys are what is asked for."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __getitem__(self, asked: Asked) -> Answer:
        try:
            return _made(self._maker, asked)
        except (TrawlError, OSError) as error:
            # As text: an error of several arguments cannot be pickled, and a worker's traceback
            # would make more than one line of it.
            return WorkError(str(error))


class InProcesses:
    """Processes make the batches; torch's DataLoader carries them over in shared memory."""

    def __init__(
        self,
        maker: Maker,
        asked: Iterator[Asked],
        a_step: int,
        workers: int,
        pinned: bool,
    ) -> None:
        loader = DataLoader(
            _MadeWhenAsked(maker),
            batch_size=None,
            sampler=asked,  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=max(2, -(-_STEPS_AHEAD * a_step // workers)),
            pin_memory=pinned,
            # A fork would take over locks that other threads of this process hold.
            multiprocessing_context=multiprocessing.get_context("forkserver"),
        )
        self._batches: Iterator[Answer] = iter(loader)

    def __iter__(self) -> "InProcesses":
        return self

    def __next__(self) -> Answer:
        return next(self._batches)

    def close(self) -> None:
        """Stop the processes."""
        del self._batches
