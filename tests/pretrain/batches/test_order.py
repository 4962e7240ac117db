"""The order of samples: permutations, shares, and no dependence on where one asks."""

import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from pretrain.batches.order import BLOCK, SampleOrder
from pretrain.batches.permutation import permuted
from trawl.errors import RequestError


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_a_permutation_hits_every_number_once(size: int) -> None:
    sent = permuted(np.arange(size), size, 7)
    assert sorted(sent.tolist()) == list(range(size))


def test_permutations_of_different_keys_have_nothing_in_common() -> None:
    size = 20_000
    first, second = (permuted(np.arange(size), size, key) for key in (1, 2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first, np.arange(size))[0, 1]) < 0.03
    assert (first == second).sum() < 10
    # Neighbours do not stay neighbours.
    assert (np.abs(np.diff(first)) == 1).mean() < 0.001


def test_a_permutation_of_one_number_needs_not_the_others() -> None:
    whole = permuted(np.arange(10_000), 10_000, 3)
    assert permuted(np.array([1234]), 10_000, 3)[0] == whole[1234]
    assert permuted(np.array([10**11]), 10**12, 3)[0] < 10**12


def test_each_epoch_is_another_permutation_of_the_corpus() -> None:
    order = SampleOrder([300], [1.0], seed=5, stage="one")
    places = order.indices(0, 900)
    epochs = [[place.sample for place in places if place.epoch == epoch] for epoch in range(3)]
    assert all(sorted(samples) == list(range(300)) for samples in epochs)
    assert epochs[0] != epochs[1]
    assert [place.position for place in places] == list(range(900))


def test_the_same_positions_come_however_one_asks() -> None:
    order = SampleOrder([50, 7, 1000], [1.0, 0.5, 3.0], seed=1, stage="one")
    count = BLOCK + 700
    whole = order.indices(0, count)
    pieces = [place for start in range(0, count, 37) for place in order.indices(start, 37)]
    assert pieces[:count] == whole
    ranks = [order.indices(64 * step + 32 * rank, 32) for step in range(20) for rank in range(2)]
    assert [place for part in ranks for place in part] == whole[: 20 * 64]


def test_seed_and_stage_change_the_order() -> None:
    orders = [
        SampleOrder([500], [1.0], seed, stage).indices(0, 100)
        for seed, stage in ((0, "one"), (1, "one"), (0, "two"))
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_mixture_keeps_its_shares_in_every_block() -> None:
    order = SampleOrder([100, 200, 50], [3.0, 1.0, 0.1], seed=0, stage="one")
    places = order.indices(0, 3 * BLOCK)
    for block in range(3):
        counts = Counter(place.corpus for place in places[block * BLOCK : (block + 1) * BLOCK])
        for corpus, weight in enumerate((3.0, 1.0, 0.1)):
            assert counts[corpus] == pytest.approx(BLOCK * weight / 4.1, abs=2)
    for corpus, length in enumerate((100, 200, 50)):
        own = [place for place in places if place.corpus == corpus]
        first = [place.sample for place in own if place.epoch == 0]
        assert sorted(first) == list(range(length))
        assert [place.epoch for place in own] == [number // length for number in range(len(own))]
    # The corpora are mixed, not one after the other.
    changes = sum(a.corpus != b.corpus for a, b in itertools.pairwise(places))
    assert changes > BLOCK / 2


def test_a_faint_corpus_is_drawn_at_its_rate_and_no_sooner() -> None:
    order = SampleOrder([10, 10], [1.0, 1e-4], seed=0, stage="one")
    assert sum(place.corpus for place in order.indices(0, 10 * BLOCK)) == 4


@pytest.mark.parametrize(
    ("lengths", "weights"), [([], []), ([5], [1.0, 1.0]), ([0], [1.0]), ([5], [0.0])]
)
def test_impossible_mixtures_are_refused(lengths: list[int], weights: list[float]) -> None:
    with pytest.raises(RequestError, match="stage one"):
        SampleOrder(lengths, weights, 0, "one")


def test_a_billion_samples_take_no_memory() -> None:
    order = SampleOrder([10**9, 10**6], [3.0, 1.0], seed=0, stage="one")
    order.indices(0, 1)
    tracemalloc.start()
    late = order.indices(5 * 10**9 + 77, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A block of 4,096 positions and no more.
    assert peak < 1 << 20
    assert {place.epoch for place in late if place.corpus == 0} == {3}
    assert late == SampleOrder([10**9, 10**6], [3.0, 1.0], 0, "one").indices(5 * 10**9 + 77, 64)


def test_windows_hold_a_few_shards_at_a_time_and_every_sample_once() -> None:
    counts = np.array([30, 0, 50, 20, 40, 60, 10, 35])
    total = int(counts.sum())
    windows = {0: (counts, 3)}
    order = SampleOrder([total, 500], [1.0, 1.0], 4, "one", windows)
    places = [place for place in order.indices(0, 5 * total) if place.corpus == 0]
    shard_of = np.repeat(np.arange(len(counts)), counts)
    epochs = [[place.sample for place in places if place.epoch == epoch] for epoch in (0, 1)]
    assert all(sorted(samples) == list(range(total)) for samples in epochs)
    assert epochs[0] != epochs[1]
    for samples in epochs:
        met = [int(shard) for shard in dict.fromkeys(shard_of[samples])]
        size = int(counts[met[:3]].sum())
        # The first window's three shards are used up before another is touched, and mixed.
        assert set(shard_of[samples[:size]]) == set(met[:3])
        assert len(set(shard_of[samples[: size // 3]])) == 3
    pieces = [place for start in range(0, 5 * total, 13) for place in order.indices(start, 13)]
    assert [place for place in pieces if place.corpus == 0][: len(places)] == places
