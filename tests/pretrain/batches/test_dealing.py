"""Rows are dealt evenly, and by their lengths alone."""

import numpy as np
import pytest

from pretrain.batch_size import Lengths
from pretrain.batches.dealing import dealt


def test_each_batch_has_as_many_rows_and_about_as_many_tokens() -> None:
    lengths = np.random.default_rng(0).integers(20, 120, size=256).tolist()
    hands = dealt(lengths, 8)
    assert sorted(row for hand in hands for row in hand) == list(range(256))
    assert {len(hand) for hand in hands} == {32}
    tokens = [sum(lengths[row] for row in hand) for hand in hands]
    in_order = [sum(lengths[start : start + 32]) for start in range(0, 256, 32)]
    assert max(tokens) / np.mean(tokens) < 1.005
    assert max(in_order) / np.mean(in_order) > 1.02
    assert dealt(lengths, 8) == hands


def test_one_batch_keeps_the_order() -> None:
    assert dealt([3, 9, 1], 1) == [[0, 1, 2]]


def test_packed_passes_keep_within_their_budget() -> None:
    draws = np.random.default_rng(1).integers(20, 120, size=100_000)
    lengths = Lengths.seen(120, draws[:256].tolist())
    fitting = lengths.fitting(16384)
    assert 200 < fitting < 16384 / 70
    passes = draws[: 100_000 // fitting * fitting].reshape(-1, fitting).sum(1)
    assert (passes > 16384).mean() < 0.01
    assert Lengths(120).fitting(16384) == pytest.approx(16384 // 120)
