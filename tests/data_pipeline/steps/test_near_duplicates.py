"""The banded search groups exactly as comparing every two does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.steps.near_duplicates import Joined, group, group_plainly, linked, masks
from trawl import chance

HASH = st.integers(0, 2**64 - 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(HASH, max_size=12), st.lists(st.integers(0, 63), max_size=40), st.integers(0, 8))
def test_the_search_agrees_with_its_plain_twin(
    hashes: list[int], flips: list[int], bits: int
) -> None:
    for number, place in enumerate(flips):
        if hashes:
            hashes.append(hashes[number % len(hashes)] ^ (1 << place))
    assert group(hashes, bits) == group_plainly(hashes, bits)


@pytest.mark.parametrize("bits", [0, 3, 6, 8])
def test_the_border_is_inclusive(bits: int) -> None:
    draw = chance.generator("near duplicates", bits)
    for _ in range(20):
        base = int(draw.integers(0, 2**63))
        places = draw.choice(64, size=bits + 1, replace=False).tolist()
        near = base
        for place in places[:bits]:
            near ^= 1 << place
        far = near ^ (1 << places[bits])
        assert group([base, near], bits) == [0, 0]
        assert group([base, far], bits) == [0, 1]


def test_many_equal_hashes_cost_little() -> None:
    assert group([7] * 50_000 + [2**40], 6) == [0] * 50_001


def test_numbers_join_by_chains() -> None:
    joined = Joined(6)
    for one, other in ((4, 3), (1, 4), (5, 5)):
        joined.add(np.array([one]), np.array([other]))
    joined.settle()
    assert joined.labels.tolist() == [0, 1, 2, 1, 1, 5]


@pytest.mark.parametrize(("bits", "untouched"), [(0, 1), (3, 2), (6, 1), (6, 3), (8, 2), (12, 1)])
def test_the_masks_together_miss_no_link(bits: int, untouched: int) -> None:
    draw = chance.generator("masks", bits, untouched)
    values = draw.integers(0, 2**63, 60, dtype=np.uint64)
    flips = [sum(1 << int(p) for p in draw.choice(64, bits, replace=False)) for _ in values]
    values = np.unique(np.concatenate([values, values ^ np.array(flips, dtype=np.uint64)]))
    joined = Joined(len(values))
    for mask in masks(bits, untouched):
        labels = linked(values, bits, fixed=mask)
        joined.add(np.arange(len(values)), labels)
    joined.settle()
    assert joined.labels.tolist() == group(values.tolist(), bits)
    assert joined.labels.tolist() == group_plainly(values.tolist(), bits)
