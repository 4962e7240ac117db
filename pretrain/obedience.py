"""Obeying a stop between two steps, also while the data of the next one does not come."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from typing import Protocol

from pretrain.exit_codes import PreemptionError
from pretrain.feeding import Portion
from pretrain.ranks import Ranks
from pretrain.stopping import StopSignal
from trawl import retries

_LOOK_SECONDS = 0.2


class Source(Protocol):
    """What portions come from."""

    def first(self, step: int, number: int) -> int:
        """Return the position of the first sample of micro-batch `number` of `step`."""

    def portions(self, start: int, stop: int) -> Iterator[Portion]:
        """Yield the portions of steps `start` to `stop` - 1."""


class ObedientFeed:
    """A feed before whose every step all ranks agree to take it.

    A rank that waits for data has begun no step, so it can still save; one that the others wait
    for within a step could not. `line` is what the ranks agree on, apart from the training's.
    """

    def __init__(
        self,
        feed: Source,
        stage: str,
        line: Ranks,
        stop: StopSignal,
        save: Callable[[int], None],
    ) -> None:
        self._feed, self._stage, self._line, self._stop = feed, stage, line, stop
        self._save = save
        self.retries = 0
        """Requests to object stores that had to be made again, by all ranks so far."""
        self.replaced = 0
        """Samples of the last step, on all ranks, that stood for those of bad shards."""

    def first(self, step: int, number: int) -> int:
        """Return the position of the first sample of micro-batch `number` of `step`."""
        return self._feed.first(step, number)

    def portions(self, start: int, stop: int) -> Iterator[Portion]:
        """Yield the portions of steps `start` to `stop` - 1.

        Raises PreemptionError on all ranks, once the state is saved, when one was told to stop.
        """
        source = self._feed.portions(start, stop)
        thread = ThreadPoolExecutor(1, thread_name_prefix="obedient-feed")
        try:
            for step in range(start, stop):
                portion = self._wait(thread.submit(next, source))
                replaced = portion.replaced if portion else 0
                sums = self._line.total([self._stop.came, retries.count(), replaced])
                stops, self.retries, self.replaced = map(int, sums)
                if stops:
                    if step > start:
                        self._save(step)
                    raise PreemptionError(f"stage {self._stage}: told to stop, saved step {step}")
                assert portion is not None
                yield portion
            # Past its last portion it puts away what it works with.
            thread.submit(next, source, None).result()
        finally:
            # A read that hangs is not waited for.
            thread.shutdown(wait=False)

    def _wait(self, portion: "Future[Portion]") -> Portion | None:
        """Return the portion when it is there, or None when a stop came before it."""
        while True:
            try:
                return portion.result(_LOOK_SECONDS)
            except NotYetError:
                if self._stop.came:
                    return None
