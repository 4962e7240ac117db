"""Shards are fetched before they are used, and a cache too small for that is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.corpus.reader import Corpus, Reading
from pretrain.batches.order import SampleOrder
from pretrain.read_ahead import ReadAhead, check_cache, windows
from pretrain.recipe import BatchRecipe, DataRecipe, StageRecipe
from tests.data_pipeline.corpus.samples import write_corpus
from trawl.errors import RequestError

COUNTS = (5, 4, 6, 5, 5, 5)


def _stage(**keys: Any) -> StageRecipe:
    batch = BatchRecipe(samples=4)
    data = [DataRecipe(corpus="c")]
    return StageRecipe(name="s", data=data, objectives={"mlm": 1.0}, steps=5, batch=batch, **keys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read-ahead")
    write_corpus(str(folder), COUNTS)
    return folder


def test_a_cache_too_small_for_the_shuffle_is_refused(
    folder: Path, s3: str, tmp_path: Path
) -> None:
    write_corpus(f"{s3}/read-ahead", COUNTS)
    largest = max(shard.bytes for shard in Corpus(folder).manifest.shards)
    corpus = Corpus(f"{s3}/read-ahead", Reading(tmp_path, cache_bytes=4 * largest))
    with pytest.raises(RequestError, match="set shuffle_shards of the stage to 2, or raise"):
        check_cache(_stage(), [corpus])
    with pytest.raises(RequestError, match="to 2, or raise"):
        check_cache(_stage(shuffle_shards=3), [corpus])
    check_cache(_stage(shuffle_shards=2), [corpus])
    # On the local disk there is no cache to fill.
    check_cache(_stage(), [Corpus(folder, Reading(tmp_path, cache_bytes=1))])


def test_shards_are_here_before_they_are_used(folder: Path, s3: str, tmp_path: Path) -> None:
    write_corpus(f"{s3}/read-ahead", COUNTS)
    largest = max(shard.bytes for shard in Corpus(folder).manifest.shards)
    corpus = Corpus(f"{s3}/read-ahead", Reading(tmp_path, cache_bytes=5 * largest))
    stage = _stage(shuffle_shards=2)
    order = SampleOrder([len(corpus)], [1.0], 0, "s", windows(stage, [corpus]))
    ahead = ReadAhead([corpus], (order.indices(4 * n, 4) for n in range(14)), 8, 4, fetches=2)
    near = Corpus(folder)
    for step in range(14):
        ahead.advance(step)
        for fetch in list(ahead._asked.values()):
            fetch.result()
        for place in order.indices(4 * step, 4):
            position = corpus.shards_of([place.sample])[0]
            record = corpus.manifest.shards[position]
            assert corpus.cache.path(record.sha256, record.name).exists()
            np.testing.assert_array_equal(
                corpus[place.sample].regions.features, near[place.sample].regions.features
            )
    ahead.close()
