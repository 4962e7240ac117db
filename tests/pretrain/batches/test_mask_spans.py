"""X-VLM's masking: how many tokens, which together, and what becomes of them."""

import numpy as np
import pytest

from pretrain.batches.mask_spans import SpanRule, mask_spans, span_at
from trawl.chance import generator

WORDS, MASK = 1000, 4
RULE = SpanRule(probability=0.25, most=8, span_probability=0.2, span_size=3)
TEXTS = 15_000


def masked(
    ids: np.ndarray, continues: np.ndarray | None = None, rule: SpanRule = RULE, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    pieces = np.zeros(len(ids), dtype=np.bool_) if continues is None else continues
    return mask_spans(ids, pieces, generator("spans", seed), rule, MASK, WORDS)


@pytest.mark.parametrize(
    ("tokens", "count"), [(1, 1), (3, 1), (5, 2), (9, 2), (10, 3), (30, 8), (39, 8)]
)
def test_a_quarter_is_masked_counting_the_start(tokens: int, count: int) -> None:
    assert RULE.count(tokens) == count
    _, places = masked(np.full(tokens, 500))
    assert len(places) == count


def test_an_empty_text_stays_empty() -> None:
    corrupted, places = masked(np.empty(0, dtype=np.int64))
    assert (len(corrupted), len(places)) == (0, 0)


def test_the_input_is_left_alone_and_places_rise() -> None:
    ids = np.arange(5, 40)
    corrupted, places = masked(ids)
    assert ids.tolist() == list(range(5, 40))
    assert np.all(np.diff(places) > 0)
    assert np.array_equal(np.delete(corrupted, places), np.delete(ids, places))
    again, _ = masked(ids)
    assert again.tolist() == corrupted.tolist()
    assert masked(ids, seed=1)[1].tolist() != places.tolist()


def test_masked_tokens_split_80_10_10_and_places_are_even() -> None:
    ids = np.full(31, 500)
    chosen, places = [], []
    for seed in range(TEXTS):
        corrupted, found = masked(ids, seed=seed)
        chosen.append(corrupted[found])
        places.append(found)
    values = np.concatenate(chosen)
    assert len(values) == 8 * TEXTS > 1e5
    assert (values == MASK).mean() == pytest.approx(0.8, abs=0.005)
    assert (values == 500).mean() == pytest.approx(0.1, abs=0.005)
    swapped = values[(values != MASK) & (values != 500)]
    assert (swapped.min(), swapped.max()) == (0, WORDS - 1)  # the range of words is inclusive
    # Spans reach to the right, so only the first places are chosen a little less often.
    shares = np.bincount(np.concatenate(places), minlength=31) / TEXTS
    assert shares[3:].std() < 0.02
    assert shares[0] < shares[3:].mean()


def test_one_in_five_visits_takes_two_or_three_tokens() -> None:
    chance, alone = generator("sizes"), np.zeros(60, dtype=np.bool_)
    sizes = [len(span_at(10, alone, chance, RULE)) for _ in range(100_000)]
    shares = np.bincount(sizes, minlength=4) / len(sizes)
    assert shares == pytest.approx([0, 0.8, 0.1, 0.1], abs=0.005)
    assert span_at(59, alone, chance, SpanRule(0.25, 8, 1.0, 3)) == range(59, 60)
    singles = SpanRule(0.25, 8, 1.0, 1)
    assert span_at(10, alone, chance, singles) == range(10, 11)


def test_words_are_masked_whole_unless_the_count_cuts_them() -> None:
    # Words of two pieces; three places are wanted, so one word at least is cut.
    continues = np.tile([False, True], 8)
    ids = np.arange(16) + 10
    rule = SpanRule(0.25, 4, 0.0, 3)
    for seed in range(200):
        _, places = masked(ids, continues, rule, seed)
        assert len(places) == 4
        assert all((place ^ 1) in places for place in places)
    _, places = masked(ids, continues, SpanRule(0.25, 3, 0.0, 3))
    assert len(places) == 3


def test_spans_are_extended_to_both_sides() -> None:
    continues = np.array([False, True, True, False, True, True])
    ids = np.arange(6) + 10
    for seed in range(50):
        _, places = masked(ids, continues, SpanRule(0.45, 3, 0.0, 3), seed)
        assert places.tolist() in ([0, 1, 2], [3, 4, 5])


def test_spans_stand_together() -> None:
    ids = np.full(39, 500)
    neighbours = {True: 0.0, False: 0.0}
    for spans in neighbours:
        rule = SpanRule(0.1, 4, 1.0 if spans else 0.0, 3)
        for seed in range(2000):
            _, places = masked(ids, rule=rule, seed=seed)
            neighbours[spans] += (np.diff(places) == 1).mean() / 2000
    assert neighbours[True] > 0.6
    assert neighbours[False] < 0.15
