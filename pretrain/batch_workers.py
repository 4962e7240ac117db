"""Who makes the batches ahead of their use: a thread of the rank, or processes beside it.

Both give the same batches in the same order, whatever their count.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.batches.order import Place
from trawl.errors import TrawlError, WorkError

_STEPS_AHEAD = 3

Batch = dict[str, torch.Tensor]
Answer = Batch | Exception


class _Maker(Protocol):
    def make_stored(self, positions: Sequence[Place]) -> Batch:
        """Return the batch of `positions`."""


class Makers(Iterator[Answer], Protocol):
    """Batches in the order in which they were asked for, or the error in place of one."""

    def __init__(
        self,
        maker: _Maker,
        asked: Iterator[Sequence[Place]],
        a_step: int,
        workers: int,
        pinned: bool,
    ) -> None:
        """Make what is `asked` of `maker`, `a_step` batches each step."""

    def close(self) -> None:
        """Stop; what is under way is not waited for."""


class InThread:
    """One thread of this process makes the batches, three steps ahead."""

    def __init__(
        self,
        maker: _Maker,
        asked: Iterator[Sequence[Place]],
        a_step: int,
        workers: int,
        pinned: bool,
    ) -> None:
        self._maker, self._asked, self._pinned = maker, asked, pinned
        self._most = _STEPS_AHEAD * a_step
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: deque[Future[Batch]] = deque()

    def _make(self, places: Sequence[Place]) -> Batch:
        batch = self._maker.make_stored(places)
        return (
            {name: value.pin_memory() for name, value in batch.items()} if self._pinned else batch
        )

    def __iter__(self) -> "InThread":
        return self

    def __next__(self) -> Answer:
        while len(self._ahead) < self._most and (places := next(self._asked, None)) is not None:
            self._ahead.append(self._thread.submit(self._make, places))
        if not self._ahead:
            raise StopIteration
        return self._ahead.popleft().result()

    def close(self) -> None:
        """Stop; what is under way is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class _MadeWhenAsked(Dataset[Answer]):
    """A data set whose keys are the places of batches."""

    def __init__(self, maker: _Maker) -> None:
        self._maker = maker

    def __getitem__(self, places: Sequence[Place]) -> Answer:
        try:
            return self._maker.make_stored(places)
        except (TrawlError, OSError) as error:
            # As text: an error of several arguments cannot be pickled, and a worker's traceback
            # would make more than one line of it.
            return WorkError(str(error))


class InProcesses:
    """Processes make the batches; torch's DataLoader carries them over in shared memory."""

    def __init__(
        self,
        maker: _Maker,
        asked: Iterator[Sequence[Place]],
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
