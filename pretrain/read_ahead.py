"""Bringing shards near before their samples are used: from an object store, or from the disk.

What is needed when follows from the order of samples, so nothing is guessed.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.order import Place
from pretrain.recipe import StageRecipe
from trawl.errors import RequestError

_LOCAL_STEPS = 8

Windows = dict[int, tuple[npt.NDArray[np.int64], int]]


def windows(stage: StageRecipe, corpora: Sequence[Corpus]) -> Windows | None:
    """Return what `SampleOrder` takes as its windows of shards, None where there are none."""
    if stage.shuffle_shards is None:
        return None
    return {
        number: (np.array([s.samples for s in corpus.manifest.shards]), stage.shuffle_shards)
        for number, corpus in enumerate(corpora)
    }


def check_cache(stage: StageRecipe, corpora: Iterable[Corpus]) -> None:
    """Raise RequestError where the cache cannot hold what a stage goes through at a time.

    That is all of a corpus in an object store or, in windows of shards, two windows of it: the
    cache would be emptied before it is used, and each sample would cost the fetch of a shard.
    """
    needed, limit, remote = 0, 0, {}
    for corpus in corpora:
        sizes = [shard.bytes for shard in corpus.manifest.shards]
        if corpus.remote and corpus.uri not in remote:
            remote[corpus.uri] = max(sizes, default=0)
            limit = corpus.reading.cache_bytes
            needed += (
                sum(sizes)
                if stage.shuffle_shards is None
                else min(sum(sizes), 2 * stage.shuffle_shards * max(sizes, default=0))
            )
    if needed <= limit:
        return
    fitting = limit // (2 * sum(remote.values()))
    cure = f"set shuffle_shards of the stage to {fitting}, or " if fitting else ""
    raise RequestError(
        f"stage {stage.name}: {needed / 1e9:.1f} GB of shards from an object store are shuffled "
        f"together, and feeding.cache_bytes is {limit / 1e9:.1f} GB; {cure}raise "
        "feeding.cache_bytes"
    )


class ReadAhead:
    """Fetches remote shards ahead of their use, and has the kernel read local samples.

    `places` yields the places of step after step from the first one on. Of remote corpora those up
    to `samples` ahead are looked at, a step having `a_step` of them, and `fetches` shards fetched
    at the same time. An error is kept for the one who reads the shard.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        places: Iterator[Sequence[Place]],
        samples: int,
        a_step: int,
        fetches: int,
    ) -> None:
        self._corpora = list(corpora)
        self._places = places
        self._seen = 0
        self._remote = any(corpus.remote for corpus in self._corpora)
        self._steps = samples // a_step if self._remote else _LOCAL_STEPS
        self._asked: dict[tuple[int, int], Future[None]] = {}
        self._threads = ThreadPoolExecutor(fetches, thread_name_prefix="read-ahead")

    def advance(self, step: int) -> None:
        """Look as far ahead as may be, now that `step` steps are done since the first."""
        for corpus in self._corpora:
            corpus.release_evicted()
        self._asked = {key: fetch for key, fetch in self._asked.items() if not fetch.done()}
        while self._corpora and self._seen <= step + self._steps:
            self._seen += 1
            for number, samples in by_corpus(next(self._places, ())).items():
                if self._corpora[number].remote:
                    self._fetch(number, samples)
                elif not self._remote:
                    self._threads.submit(self._corpora[number].will_need, samples)

    def _fetch(self, number: int, samples: Sequence[int]) -> None:
        """Have the shards of `samples` of corpus `number` fetched."""
        corpus = self._corpora[number]
        for position in corpus.shards_of(samples):
            if (number, position) not in self._asked:
                fetch = self._threads.submit(corpus.read_ahead, position)
                self._asked[number, position] = fetch

    def close(self) -> None:
        """Stop; fetches under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def by_corpus(places: Sequence[Place]) -> dict[int, list[int]]:
    """Return the samples of `places` by corpus."""
    found: dict[int, list[int]] = {}
    for place in places:
        found.setdefault(place[0], []).append(place[1])
    return found
