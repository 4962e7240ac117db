"""Says whether this storage and this machine can feed a number of GPUs, by reading and making.

Three things are measured on the first positions of a stage: samples read that lie neither in
memory nor in the cache, by the clock; samples read that lie in memory, and whole batches made, in
CPU seconds of one core.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.writer import FOLDER
from pretrain.batches.order import SampleOrder
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.stored import FeatureForm, StoredRegions
from pretrain.batches.tokenise import load_tokenizer, train_tokenizer
from pretrain.construction import batches, captions, new_configuration
from pretrain.models.families import Batches
from pretrain.read_ahead import by_corpus, check_cache, windows
from pretrain.recipe import PretrainRecipe, StageRecipe
from trawl import storage

_AT_ONCE = 64
_MOST_SAMPLES = 4096
_SECONDS = 5.0
_TOKENIZER_SAMPLES = 2000
_CACHED_SHARE = 0.7
"""Of the memory, what the kernel may be left for files."""


@dataclass(frozen=True)
class Verdict:
    """What was measured, and what it means for `gpus` GPUs of `needed` samples a second each.

    cold: samples a second of this storage; hot, made: samples a CPU second of one core; bytes: of a
    sample as stored; cores: of this machine; in_memory: whether all the shards fit in its memory.
    """

    gpus: int
    needed: float
    cold: float
    hot: float
    made: float
    bytes: float
    cores: int
    in_memory: bool

    @property
    def rate(self) -> float:
        """Samples a second that all GPUs take."""
        return self.gpus * self.needed

    @property
    def cores_needed(self) -> float:
        """Cores that make the batches of all GPUs."""
        return self.rate / self.made

    def faults(self) -> list[str]:
        """Return why the GPUs would wait; nothing if they would not."""
        found = []
        if self.cold < self.rate and not self.in_memory:
            found.append(
                f"the storage gives {self.cold:,.0f} of {self.rate:,.0f} samples/s; store int8 "
                "features, or bring the corpus to a faster disk"
            )
        if self.cores_needed > self.cores:
            found.append(
                f"the batches take {self.cores_needed:.1f} cores, and the machine has {self.cores}"
            )
        return found

    def lines(self) -> Iterator[str]:
        """Yield the report, line by line."""
        memory = ", once: the shards fit in memory" if self.in_memory else ""
        each = f"{self.gpus} GPUs x {self.needed:,.0f}"
        yield f"needed           {self.rate:>12,.0f} samples/s   {each}"
        yield (
            f"read, cold       {self.cold:>12,.0f} samples/s   "
            f"{self.cold * self.bytes / 1e6:,.0f} MB/s, {self.bytes:,.0f} bytes a sample{memory}"
        )
        yield f"read, hot        {self.hot:>12,.0f} samples/s   one core"
        yield f"batches made     {self.made:>12,.0f} samples/s   one core"
        workers = -(-self.needed // self.made)
        yield (
            f"cores            {self.cores_needed:>12,.1f} of {self.cores}          "
            f"feeding.workers: {workers:.0f} for each GPU"
        )


def check(recipe: PretrainRecipe, stage: StageRecipe, gpus: int, needed: float) -> Verdict:
    """Measure how `stage` of `recipe` is fed here; see `Verdict`."""
    corpora = [Corpus(data.corpus, recipe.feeding.reading()) for data in stage.data]
    check_cache(stage, corpora)
    order = SampleOrder(
        [len(corpus) for corpus in corpora],
        [data.weight for data in stage.data],
        recipe.seed,
        stage.name,
        windows(stage, corpora),
    )
    sizes = {corpus.uri: corpus.manifest.bytes for corpus in corpora}
    weight = sum(data.weight for data in stage.data)
    cold = _cold(corpora, order)
    hot = _per_cpu_second(lambda first: _read(corpora, order, first))
    maker = _maker(recipe, stage, corpora)
    made = _per_cpu_second(lambda first: _make(maker, order, first))
    return Verdict(
        gpus=gpus,
        needed=needed,
        cold=cold,
        hot=hot,
        made=made,
        bytes=sum(
            data.weight / weight * corpus.manifest.bytes / len(corpus)
            for data, corpus in zip(stage.data, corpora, strict=True)
        ),
        cores=len(os.sched_getaffinity(0)),
        in_memory=sum(sizes.values()) < _CACHED_SHARE * _memory(),
    )


def _memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _maker(recipe: PretrainRecipe, stage: StageRecipe, corpora: list[Corpus]) -> Batches:
    """Return the maker of the stage's batches, with a tokenizer learned from some captions."""
    path = recipe.tokenizer.path
    texts = captions(recipe, min(_TOKENIZER_SAMPLES, recipe.tokenizer.samples))
    tokenizer = (
        train_tokenizer(texts, recipe.tokenizer.vocabulary)
        if path is None
        else load_tokenizer(path)
    )
    config = new_configuration(recipe, len(tokenizer))
    return batches(recipe, stage, corpora, tokenizer, config)


def _make(maker: Batches, order: SampleOrder, first: int) -> None:
    maker.make_stored(order.indices(first, _AT_ONCE))


def _read(corpora: list[Corpus], order: SampleOrder, first: int) -> None:
    """Read the samples from position `first` on, as a batch maker begins."""
    for number, wanted in by_corpus(order.indices(first, _AT_ONCE)).items():
        samples = corpora[number].samples(wanted)
        counts = [sample.region_count for sample in samples]
        StoredRegions(FeatureForm([corpora[number]]), samples, RowPlaces.of(counts, max(counts)))
        for sample in samples:
            len(sample.meta)


def _per_cpu_second(work: Callable[[int], None]) -> float:
    """Return samples a CPU second of `work` on batch after batch of the first positions."""
    work(0)
    began, cpu, done = time.monotonic(), time.process_time(), 0
    while done < _MOST_SAMPLES and time.monotonic() - began < _SECONDS:
        work(done % (_MOST_SAMPLES // 4))
        done += _AT_ONCE
    return done / (time.process_time() - cpu)


def _cold(corpora: list[Corpus], order: SampleOrder) -> float:
    """Return samples a second by the clock, of samples that lie in no memory if that can be had."""
    for corpus in corpora:
        _forget(corpus)
    began, done = time.monotonic(), 0
    for first in range(0, _MOST_SAMPLES, _AT_ONCE):
        for number, samples in by_corpus(order.indices(first + _AT_ONCE, _AT_ONCE)).items():
            if not corpora[number].remote:
                corpora[number].will_need(samples)
        _read(corpora, order, first)
        done += _AT_ONCE
        if time.monotonic() - began > _SECONDS:
            break
    return done / (time.monotonic() - began)


def _forget(corpus: Corpus) -> None:
    """Ask the kernel to drop what it holds of local shards, before any is mapped."""
    for record in corpus.manifest.shards if not corpus.remote else ():
        with storage.open_read(storage.join(corpus.uri, FOLDER, record.name)) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
